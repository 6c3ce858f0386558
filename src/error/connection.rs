//! Errors of the connection: it cannot be opened, no connection is free, or it is lost.

use super::{DriverError, ErrorKind};
use crate::slug::TenantSlug;
use std::time::Duration;

/// Why no connection could be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The connection could not be opened.
    #[error("could not connect to {target}")]
    Connect {
        /// The address without its password.
        target: String,
        /// The driver's error.
        source: DriverError,
    },
    /// The server refuses this user, or asks for a password and the settings have none.
    #[error("{target} refused the login")]
    Login {
        /// The address without its password.
        target: String,
        /// The server's error.
        source: DriverError,
    },
    /// The server has no such database.
    #[error("database {database:?} does not exist on {target}")]
    DatabaseMissing {
        /// The address without its password.
        target: String,
        /// The requested database.
        database: String,
        /// The server's error.
        source: DriverError,
    },
    /// The server is older than cgk supports.
    #[error("{target} is PostgreSQL {found}, but cgk needs {needed} or newer")]
    ServerTooOld {
        /// The address without its password.
        target: String,
        /// The server's version.
        found: String,
        /// The oldest supported major version.
        needed: u32,
    },
    /// No connection of the pool became free in time.
    #[error("no connection became free within {waited:?}")]
    PoolTimeout {
        /// How long the call waited.
        waited: Duration,
    },
    /// The tenant uses as many connections as one tenant may, and none of them became free in time
    /// ([`tenant_connections_max`](crate::config::PoolSettings::tenant_connections_max)).
    #[error(
        "tenant {tenant} uses {connections_max} of {connections_max} connections, and none became free within {waited:?}"
    )]
    TenantLimit {
        /// The tenant.
        tenant: TenantSlug,
        /// The limit.
        connections_max: usize,
        /// How long the call waited.
        waited: Duration,
    },
    /// The pool was closed by [`Db::close`](crate::Db::close).
    #[error("the pool is closed")]
    PoolClosed,
    /// The connection was lost, or the server shut down.
    #[error("lost the connection: could not {doing}")]
    Lost {
        /// The operation that was running.
        doing: String,
        /// The driver's error.
        source: DriverError,
    },
    /// The server did not answer within the time that the caller set.
    #[error("could not {doing} within {waited:?}")]
    NoAnswer {
        /// The operation that was running.
        doing: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// A connection was opened with settings that the session does not have. A pooler between cgk and the server
    /// ignores the start-up parameter `options`.
    #[error("{target} did not apply the settings that the connection was opened with ({setting})")]
    OptionsIgnored {
        /// The address without its password.
        target: String,
        /// The first setting that the session does not have.
        setting: &'static str,
    },
    /// The connection uses a transaction pooler, and this operation does not work there.
    #[error("{operation} cannot work through a transaction pooler")]
    PoolerRefused {
        /// The operation.
        operation: &'static str,
    },
}

impl ConnectionError {
    /// Returns code and kind of each variant.
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
            Self::TenantLimit { .. } => ("CGK0210", Unavailable),
            Self::OptionsIgnored { .. } => ("CGK0980", Invalid),
        }
    }

    /// Returns the driver's error.
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
