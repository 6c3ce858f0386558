//! Options for seeds in many tenants, and the result of each tenant.

use crate::{
    error::{Error, Result},
    fleet::{interrupt::Interrupt, stop::Stop},
    migrate::Canary,
    slug::TenantSlug,
};
use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

/// Options for [`seed`](super::seed()).
#[derive(Clone, Debug, Default)]
pub struct SeedOptions {
    pub(super) again: BTreeSet<String>,
    pub(super) jobs: Option<NonZeroUsize>,
    pub(super) canary: Canary,
    pub(super) failures_max: Option<NonZeroUsize>,
    pub(super) interrupt: Interrupt,
}

impl SeedOptions {
    /// Also runs this file in tenants in which it has already run.
    pub fn again(mut self, name: impl Into<String>) -> Self {
        self.again.insert(name.into());
        self
    }

    /// Sets how many tenants are processed at once. Each uses two connections: one for its transaction, and one to
    /// cancel it. Default: up to four, fewer for a small fleet or a server with few free connections.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Runs the seeds in these tenants first, and in the others only if none of them failed.
    pub fn canary(mut self, canary: Canary) -> Self {
        self.canary = canary;
        self
    }

    /// Starts no further tenant after this many have failed. Default: no limit.
    pub fn failures_max(mut self, failures: NonZeroUsize) -> Self {
        self.failures_max = Some(failures);
        self
    }

    /// Sets the value with which the run can be stopped early.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }
}

/// The result of the seeds in a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seeded {
    /// The files that ran, by name. Empty if all files had already run in the tenant.
    pub ran: Vec<String>,
    /// The files that were changed after they ran. They did not run again.
    pub changed: Vec<String>,
    /// The rows that statements inserted, updated or deleted.
    pub affected: u64,
}

/// The result of one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct SeedOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// The result, or the error. After an error nothing is committed in this tenant.
    pub result: Result<Seeded>,
    /// The file that failed, and the number of its statement, from 1. `None` if the transaction was refused at its
    /// start or at its end.
    pub failed_at: Option<(String, usize)>,
    /// The time since its first attempt.
    pub elapsed: Duration,
}

/// Receives the result of each tenant when it is known.
pub trait SeedObserver: Send {
    /// Called when a tenant has succeeded or failed.
    fn tenant(&mut self, outcome: &SeedOutcome) {
        let _ = outcome;
    }
}

/// Ignores every event.
impl SeedObserver for crate::migrate::Silent {}

/// The results of all tenants.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SeedReport {
    /// The tenants in the order in which they were finished.
    pub tenants: Vec<SeedOutcome>,
    /// Why the run ended early; `None` if it did not.
    pub stopped: Option<Stop>,
}

impl SeedReport {
    /// Returns the tenants that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&TenantSlug, &Error)> {
        self.tenants.iter().filter_map(|tenant| Some((&tenant.slug, tenant.result.as_ref().err()?)))
    }
}
