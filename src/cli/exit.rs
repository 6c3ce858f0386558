//! The exit codes of the process. The numbers are an API: scripts and pipelines depend on them.

use cgk::ErrorKind;
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    Failed,
    Usage,
    Pending,
    Partial,
    Unavailable,
    Locked,
    Drift,
    NoReference,
    Interrupted,
    Terminated,
}

impl Exit {
    pub(crate) const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Pending,
        Self::Partial,
        Self::Unavailable,
        Self::Locked,
        Self::Drift,
        Self::NoReference,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Pending => 3,
            Self::Partial => 4,
            Self::Unavailable => 5,
            Self::Locked => 6,
            Self::Drift => 7,
            Self::NoReference => 8,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Failed => "failed or refused",
            Self::Usage => "wrong usage: a flag, a setting or a file is invalid; nothing was changed",
            Self::Pending => "migrations are pending (--check)",
            Self::Partial => "at least one tenant failed, any others succeeded",
            Self::Unavailable => "the database cannot be reached or used at the moment; try again later",
            Self::Locked => "another run holds the lock",
            Self::Drift => "drift: an applied migration was edited or is missing, or a schema differs",
            Self::NoReference => "a schema was not compared: no record of what its migrations create",
            Self::Interrupted => "interrupted by Ctrl-C",
            Self::Terminated => "interrupted by SIGTERM or SIGHUP",
        }
    }

    /// Returns the table for the help, one line per code.
    pub(crate) fn table() -> String {
        Self::ALL.iter().map(|exit| format!("  {:>3}  {}\n", exit.code(), exit.meaning())).collect()
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::Unavailable => Self::Unavailable,
            ErrorKind::Locked => Self::Locked,
            ErrorKind::Drift => Self::Drift,
            ErrorKind::Denied
            | ErrorKind::NotReady
            | ErrorKind::NotFound
            | ErrorKind::Suspended
            | ErrorKind::Conflict
            | ErrorKind::Refused
            | ErrorKind::CommitUnknown
            | ErrorKind::Failed => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl serde::Serialize for Exit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_none_is_a_panic() {
        let mut codes: Vec<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143]);
    }
}
