//! Why work over many tenants ends before it is done.

use crate::{
    error::{ConnectionError, Error},
    sqlstate,
};

/// Why a run ended before it was done. What it did stays done, and the next run goes on from there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stop {
    /// Why.
    pub reason: StopReason,
    /// How many tenants still have something pending because of that. They are as they were.
    pub left: usize,
}

/// Why a run ended before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A canary failed.
    Canary,
    /// As many tenants failed as were allowed to.
    Failures,
    /// Somebody asked for it through an [`Interrupt`](super::interrupt::Interrupt).
    Interrupted,
    /// The server is gone, is shutting down or has no space left; the last failed tenant tells which.
    Unavailable,
    /// All or nothing was asked for, and something failed: everything was rolled back.
    RolledBack,
}

impl StopReason {
    const ALL: [Self; 5] = [Self::Canary, Self::Failures, Self::Interrupted, Self::Unavailable, Self::RolledBack];

    /// One word for programs and the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Failures => "failures",
            Self::Interrupted => "interrupted",
            Self::Unavailable => "unavailable",
            Self::RolledBack => "rolled_back",
        }
    }

    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Whether an error is the server's state and not the schema's: going on would fail everywhere.
pub(crate) fn ends_everything(error: &Error) -> bool {
    matches!(error, Error::Connection(ConnectionError::Lost { .. }))
        || (error.sqlstate().is_some_and(sqlstate::is_the_servers) && !error.is_read_only_file())
}
