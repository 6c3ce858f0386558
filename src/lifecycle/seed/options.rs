//! How seeds run in many tenants, and the result in each.

use crate::{
    error::{Error, Result},
    fleet::{interrupt::Interrupt, stop::Stop},
    migrate::Canary,
    slug::TenantSlug,
};
use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

/// How [`seed`](super::seed()) works through its tenants.
#[derive(Clone, Debug, Default)]
pub struct SeedOptions {
    pub(super) again: BTreeSet<String>,
    pub(super) jobs: Option<NonZeroUsize>,
    pub(super) canary: Canary,
    pub(super) failures_max: Option<NonZeroUsize>,
    pub(super) interrupt: Interrupt,
}

impl SeedOptions {
    /// Runs this file also in tenants that it ran in before.
    pub fn again(mut self, name: impl Into<String>) -> Self {
        self.again.insert(name.into());
        self
    }

    /// How many tenants at once, each with two connections: one for its transaction, and one that waits to cancel. Default:
    /// up to four, fewer for a small fleet or a server with few free connections.
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

    /// Lets the run be stopped early.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }
}

/// What the seeds did in a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seeded {
    /// The files that ran, by name; none if the tenant has had all of them.
    pub ran: Vec<String>,
    /// The files that were changed after they ran, and did not run again.
    pub changed: Vec<String>,
    /// The rows that statements inserted, updated or deleted.
    pub affected: u64,
}

/// The result in a tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct SeedOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// What was done; or why it failed, and then nothing of it is committed.
    pub result: Result<Seeded>,
    /// The file that failed, and its statement, from 1; none if the transaction was refused at its start or at its end.
    pub failed_at: Option<(String, usize)>,
    /// The time since it was first tried.
    pub elapsed: Duration,
}

/// Receives the result of each tenant when it is known.
pub trait SeedObserver: Send {
    /// A tenant is done or has failed.
    fn tenant(&mut self, outcome: &SeedOutcome) {
        let _ = outcome;
    }
}

/// Receives nothing.
impl SeedObserver for crate::migrate::Silent {}

/// The results in all tenants.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SeedReport {
    /// The tenants in the order in which they were done.
    pub tenants: Vec<SeedOutcome>,
    /// Why the run ended early, if it did.
    pub stopped: Option<Stop>,
}

impl SeedReport {
    /// Returns the tenants that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&TenantSlug, &Error)> {
        self.tenants.iter().filter_map(|tenant| Some((&tenant.slug, tenant.result.as_ref().err()?)))
    }
}
