//! The connection: it could not be made, it is not free, or it broke off.

use super::{DriverError, ErrorKind};
use std::time::Duration;

/// Why no connection could be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// No connection could be made.
    #[error("could not connect to {target}")]
    Connect {
        /// The address without its password.
        target: String,
        /// What the driver said.
        source: DriverError,
    },
    /// The server refuses this user.
    #[error("{target} refused the login")]
    Login {
        /// The address without its password.
        target: String,
        /// What the server said.
        source: DriverError,
    },
    /// The server has no such database.
    #[error("database {database:?} does not exist on {target}")]
    DatabaseMissing {
        /// The address without its password.
        target: String,
        /// The database asked for.
        database: String,
        /// What the server said.
        source: DriverError,
    },
    /// The server is older than cgk supports.
    #[error("{target} is PostgreSQL {found}, but cgk needs {needed} or newer")]
    ServerTooOld {
        /// The address without its password.
        target: String,
        /// Its version.
        found: String,
        /// The oldest major version that works.
        needed: u32,
    },
    /// Every connection of the pool stayed busy.
    #[error("no connection became free within {waited:?}")]
    PoolTimeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The pool was closed by [`Db::close`](crate::Db::close).
    #[error("the pool is closed")]
    PoolClosed,
    /// The connection broke off, or the server shut down.
    #[error("lost the connection: could not {doing}")]
    Lost {
        /// What was being done.
        doing: String,
        /// What the driver said.
        source: DriverError,
    },
    /// The server did not answer in the time that the caller had set.
    #[error("could not {doing} within {waited:?}")]
    NoAnswer {
        /// What was being done.
        doing: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The connection goes through a transaction pooler, where this cannot work.
    #[error("{operation} cannot work through a transaction pooler")]
    PoolerRefused {
        /// What was asked for.
        operation: &'static str,
    },
}

impl ConnectionError {
    /// Code and kind of every variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::Connect { .. } => ("CGK0201", Unavailable),
            Self::Login { .. } => ("CGK0202", Denied),
            Self::DatabaseMissing { .. } => ("CGK0203", NotFound),
            Self::ServerTooOld { .. } => ("CGK0204", Refused),
            Self::PoolTimeout { .. } => ("CGK0205", Unavailable),
            Self::Lost { .. } => ("CGK0206", Unavailable),
            Self::PoolerRefused { .. } => ("CGK0207", Invalid),
            Self::PoolClosed => ("CGK0208", Unavailable),
            Self::NoAnswer { .. } => ("CGK0209", Unavailable),
        }
    }

    /// What the driver said.
    pub(super) fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::Connect { source, .. }
            | Self::Login { source, .. }
            | Self::DatabaseMissing { source, .. }
            | Self::Lost { source, .. } => Some(source),
            _ => None,
        }
    }
}
