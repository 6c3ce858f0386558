//! Options for SQL in many tenants.

use crate::{fleet::interrupt::Interrupt, migrate::Canary};
use std::num::NonZeroUsize;

/// Whether SQL may change rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecAccess {
    /// The transactions are read-only: the server refuses changes.
    #[default]
    ReadOnly,
    /// Each transaction commits its changes.
    Write,
}

/// Options for [`exec`](super::exec()).
#[derive(Clone, Debug, Default)]
pub struct ExecOptions {
    pub(super) access: ExecAccess,
    pub(super) jobs: Option<NonZeroUsize>,
    pub(super) canary: Canary,
    pub(super) failures_max: Option<NonZeroUsize>,
    pub(super) interrupt: Interrupt,
}

impl ExecOptions {
    /// Whether the SQL may change rows. Default: it may not.
    pub fn access(mut self, access: ExecAccess) -> Self {
        self.access = access;
        self
    }

    /// Sets how many tenants are processed at once. Each uses two connections: one for its transaction, and one to
    /// cancel it. Default: up to four, fewer for a small fleet or a server with few free connections.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Runs the SQL in these tenants first, and in the others only if none of them failed.
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
