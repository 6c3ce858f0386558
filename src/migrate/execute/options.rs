//! Options of a run.

use super::report::RunReport;
use crate::{fleet::interrupt::Interrupt, slug::TenantSlug};
use std::{collections::BTreeSet, num::NonZeroUsize};

/// How a plan is executed.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub(crate) jobs: Option<NonZeroUsize>,
    pub(crate) canary: Canary,
    pub(crate) failures_max: Option<usize>,
    pub(crate) interrupt: Interrupt,
    pub(crate) unrecorded: bool,
    pub(crate) all_or_nothing: bool,
    pub(crate) exact: bool,
    pub(crate) unrehearsed: bool,
}

impl RunOptions {
    /// Sets how many tenants are migrated at once, each on a separate connection. Default: up to four, fewer for a
    /// small fleet or a server with few free connections. If the server has no free connection, the run continues with
    /// those it has.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Migrates these tenants first, and the others only if none of them failed.
    pub fn canary(mut self, canary: Canary) -> Self {
        self.canary = canary;
        self
    }

    /// Starts no further tenant after this many have failed. Default: no limit.
    pub fn failures_max(mut self, failures: NonZeroUsize) -> Self {
        self.failures_max = Some(failures.get());
        self
    }

    /// Sets the value with which the run can be stopped early.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Does not record the run in the history ([`history`](crate::migrate::history())).
    pub fn unrecorded(mut self) -> Self {
        self.unrecorded = true;
        self
    }

    /// Migrates the shared schema and every tenant in one transaction, which commits all or nothing. This is for small
    /// fleets. The transaction holds the locks of every schema until its end. It is refused if they do not fit into the
    /// server's lock table.
    pub fn all_or_nothing(mut self) -> Self {
        self.all_or_nothing = true;
        self
    }

    /// Skips the rehearsal ([`rehearse`](crate::migrate::rehearse())): tenants are migrated even if a new one could not
    /// be created.
    pub fn unrehearsed(mut self) -> Self {
        self.unrehearsed = true;
        self
    }

    /// Executes the plan exactly or not at all. If another run has changed a schema meanwhile, or its progress in a file
    /// without a transaction is another one, the schema fails and is not planned again.
    pub fn exactly_as_planned(mut self) -> Self {
        self.exact = true;
        self
    }
}

impl RunOptions {
    pub(crate) fn failures_are_spent(&self, report: &RunReport) -> bool {
        self.failures_max.is_some_and(|max| report.failed() >= max)
    }
}

/// Which tenants are migrated first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// No canaries. The default.
    #[default]
    None,
    /// The first tenants of the plan.
    First(usize),
    /// These tenants. A tenant without pending migrations counts as successful.
    These(Vec<TenantSlug>),
}

impl Canary {
    /// Splits the jobs of a run into canaries and others.
    pub(crate) fn split<J>(&self, jobs: Vec<J>, slug: impl Fn(&J) -> &TenantSlug) -> (Vec<J>, Vec<J>) {
        match self {
            Self::None => (Vec::new(), jobs),
            Self::First(number) => {
                let mut canaries = jobs;
                let rest = canaries.split_off((*number).min(canaries.len()));
                (canaries, rest)
            }
            Self::These(slugs) => {
                let slugs: BTreeSet<&TenantSlug> = slugs.iter().collect();
                jobs.into_iter().partition(|job| slugs.contains(slug(job)))
            }
        }
    }
}
