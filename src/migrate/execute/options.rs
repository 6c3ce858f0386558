//! How a run is carried out.

use super::report::RunReport;
use crate::{fleet::interrupt::Interrupt, slug::TenantSlug};
use std::num::NonZeroUsize;

/// How a plan is carried out.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    pub(crate) jobs: Option<NonZeroUsize>,
    pub(crate) canary: Canary,
    pub(crate) failures_max: Option<usize>,
    pub(crate) interrupt: Interrupt,
    pub(crate) unrecorded: bool,
    pub(crate) together: bool,
    pub(crate) exact: bool,
    pub(crate) unrehearsed: bool,
}

impl RunOptions {
    /// How many tenants are migrated at once, each on a connection of its own. Default: up to four, fewer for a small fleet
    /// or a server that is short of connections. Where the server has no connection left, a run goes on with those it got.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// These tenants first; the rest only when none of them failed.
    pub fn canary(mut self, canary: Canary) -> Self {
        self.canary = canary;
        self
    }

    /// Begins no further tenant once this many have failed. Default: no limit.
    pub fn failures_max(mut self, failures: NonZeroUsize) -> Self {
        self.failures_max = Some(failures.get());
        self
    }

    /// Lets the run be asked to end early.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }

    /// Keeps the run out of the history ([`history`](crate::migrate::history())).
    pub fn unrecorded(mut self) -> Self {
        self.unrecorded = true;
        self
    }

    /// The shared schema and every tenant in one transaction, which commits all or nothing: for small fleets. It holds the
    /// locks of every schema until it ends, and is refused where they would not fit into the server's lock table.
    pub fn all_or_nothing(mut self) -> Self {
        self.together = true;
        self
    }

    /// Leaves the rehearsal out ([`rehearse`](crate::migrate::rehearse())): tenants are migrated although a new one could not be made.
    pub fn unrehearsed(mut self) -> Self {
        self.unrehearsed = true;
        self
    }

    /// Carries out the plan as it is or not at all: a schema that another run changed meanwhile fails instead of being
    /// planned anew.
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

/// Who goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Canary {
    /// No one in particular. The default.
    #[default]
    None,
    /// The first tenants of the plan.
    First(usize),
    /// These tenants. One that has nothing pending counts as having gone well.
    These(Vec<TenantSlug>),
}
