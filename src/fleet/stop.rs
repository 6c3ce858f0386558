//! The reasons for which work over many tenants stops early.

use crate::{
    error::{ConnectionError, Error},
    sqlstate,
};

/// An early stop of a run. Committed work is not undone, and the next run continues.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stop {
    /// The reason.
    pub reason: StopReason,
    /// The number of tenants that still have pending work. They are unchanged.
    pub left: usize,
}

/// The reason for which a run stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A canary failed.
    Canary,
    /// The maximum number of failures was reached.
    Failures,
    /// An [`Interrupt`](super::interrupt::Interrupt) requested it.
    Interrupted,
    /// The server is unreachable, is shutting down or has no space left. The error of the last failed tenant contains
    /// the reason.
    Unavailable,
    /// All-or-nothing was requested, and something failed. Everything was rolled back.
    RolledBack,
}

impl StopReason {
    const ALL: [Self; 5] = [Self::Canary, Self::Failures, Self::Interrupted, Self::Unavailable, Self::RolledBack];

    /// Returns one word for programs and the history.
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

/// Returns whether the state of the server causes the error, and not the schema. Then every further tenant would fail
/// too.
pub(crate) fn ends_everything(error: &Error) -> bool {
    matches!(error, Error::Connection(ConnectionError::Lost { .. }))
        || (error.sqlstate().is_some_and(sqlstate::is_the_servers) && !error.is_read_only_file())
}
