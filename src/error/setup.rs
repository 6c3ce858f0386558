//! Errors of the database and its roles: not set up for cgk, or not in a usable state.

use super::{DriverError, ErrorKind};
use crate::{config::Isolation, slug::TenantSlug};

/// Why a database or one of its roles cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The role lacks a privilege.
    #[error("role {role:?} may not {needed}")]
    Privilege {
        /// The role of the connection.
        role: String,
        /// The missing privilege.
        needed: String,
        /// The statement with which an owner or superuser grants it.
        grant: String,
        /// The server's error; `None` if cgk found the problem without it.
        source: Option<DriverError>,
    },
    /// Sessions of the role in the database are read-only.
    #[error("{}", read_only(database, role, *standby))]
    ReadOnly {
        /// The database.
        database: String,
        /// The role of the connection.
        role: String,
        /// Whether the server is a standby. If not, a setting makes sessions read-only.
        standby: bool,
    },
    /// The database has no registry of tenants.
    #[error("database {database:?} is not set up for cgk: {missing}")]
    NotSetUp {
        /// The database.
        database: String,
        /// What is missing.
        missing: String,
    },
    /// The database is a copy of another database, or was moved to another server. The roles of its tenants do not
    /// belong to it.
    #[error("database {database:?} is a copy of another database and has no tenant roles of its own")]
    DatabaseCopied {
        /// The database.
        database: String,
    },
    /// The isolation in the configuration differs from the isolation of the database.
    #[error("database {database:?} has isolation {:?}, and the configuration says {:?}", stored.as_str(), configured.as_str())]
    IsolationMismatch {
        /// The database.
        database: String,
        /// The isolation of the database.
        stored: Isolation,
        /// The isolation of the configuration.
        configured: Isolation,
    },
    /// The change that would be finished is to the other isolation: the database leaves this one.
    #[error("database {database:?} changes from isolation {old:?} to {:?}, so there is no change to {old:?} to finish", leaving.other().as_str(), old = leaving.as_str())]
    LeavingIsolation {
        /// The database.
        database: String,
        /// The isolation of the configuration, which the database accepts until the change is finished.
        leaving: Isolation,
    },
    /// Finishing the change of the isolation now would make these tenants inaccessible.
    #[error("{}", locked_out(database, *isolation, tenants))]
    TenantsLockedOut {
        /// The database.
        database: String,
        /// The isolation that the change sets.
        isolation: Isolation,
        /// The tenants.
        tenants: Vec<TenantSlug>,
    },
    /// Finishing the change of the isolation now would leave these logins of services without access to any tenant.
    #[error(
        "database {database:?} cannot finish the change to isolation {:?}: {} could enter no tenant",
        .isolation.as_str(), .logins.join(", ")
    )]
    LoginsLockedOut {
        /// The database.
        database: String,
        /// The isolation that the change sets.
        isolation: Isolation,
        /// The logins.
        logins: Vec<String>,
    },
    /// Finishing the change to role isolation now would leave these logins of services with direct rights on the schemas
    /// of tenants: they could read and write them without the tenant's role.
    #[error(
        "database {database:?} cannot finish the change to isolation \"role\": these logins still have direct rights on the \
         schemas of tenants: {}", .logins.join(", ")
    )]
    LoginsWithDirectRights {
        /// The database.
        database: String,
        /// The logins.
        logins: Vec<String>,
    },
    /// A role that is to become a service login has a privilege that such a login must not have.
    #[error("role {role:?} cannot be the login of a service: it {why}")]
    LoginUnfit {
        /// The role.
        role: String,
        /// The privilege.
        why: String,
        /// The statement or command that fixes it.
        fix: String,
    },
    /// A schema cannot be in the search path of tenants.
    #[error("schema {schema:?} cannot be in the search path: {why}")]
    SearchPathUnfit {
        /// The schema.
        schema: String,
        /// The reason.
        why: String,
        /// The statement that fixes it. Empty if there is none.
        fix: String,
    },
}

/// The maximum number of tenants that a message names.
const NAMED_MAX: usize = 5;

fn locked_out(database: &str, isolation: Isolation, tenants: &[TenantSlug]) -> String {
    let named: Vec<&str> = tenants.iter().take(NAMED_MAX).map(TenantSlug::as_str).collect();
    let more = match tenants.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "database {database:?} cannot finish the change to isolation {:?}: no service could enter {}{more}",
        isolation.as_str(),
        named.join(", ")
    )
}

fn read_only(database: &str, role: &str, standby: bool) -> String {
    match standby {
        true => format!("the server of database {database:?} is a standby, and read-only"),
        false => format!("default_transaction_read_only is on for role {role:?} in database {database:?}"),
    }
}

impl SetupError {
    /// Returns code and kind of each variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::Privilege { .. } => ("CGK0301", Denied),
            Self::ReadOnly { standby: true, .. } => ("CGK0307", Unavailable),
            Self::ReadOnly { standby: false, .. } => ("CGK0307", Denied),
            Self::NotSetUp { .. } => ("CGK0302", NotReady),
            Self::DatabaseCopied { .. } => ("CGK0305", Conflict),
            Self::IsolationMismatch { .. } | Self::LeavingIsolation { .. } => ("CGK0306", Conflict),
            Self::TenantsLockedOut { .. } => ("CGK0308", NotReady),
            Self::LoginsLockedOut { .. } => ("CGK0309", NotReady),
            Self::LoginsWithDirectRights { .. } => ("CGK0310", NotReady),
            Self::LoginUnfit { .. } => ("CGK0303", Conflict),
            Self::SearchPathUnfit { .. } => ("CGK0304", Conflict),
        }
    }

    /// Returns the driver's error.
    pub(super) fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::Privilege { source, .. } => source.as_ref(),
            _ => None,
        }
    }
}
