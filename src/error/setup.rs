//! The database and its roles: not set up for cgk, or not as cgk needs them.

use super::{DriverError, ErrorKind};
use crate::{config::Isolation, slug::TenantSlug};

/// Why a database, or a role in it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The role may not do what is needed.
    #[error("role {role:?} may not {needed}")]
    Privilege {
        /// The role of the connection.
        role: String,
        /// What it would have to be allowed.
        needed: String,
        /// The statement that an owner or superuser can run to allow it.
        grant: String,
        /// What the server said, where it was asked.
        source: Option<DriverError>,
    },
    /// Sessions of the role in the database are read-only.
    #[error("{}", read_only(database, role, *standby))]
    ReadOnly {
        /// The database.
        database: String,
        /// The role of the connection.
        role: String,
        /// Whether the server is a standby; otherwise a setting makes sessions read-only.
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
    /// The database is a copy of another one, or was moved to another server: its tenants' roles are not its own.
    #[error("database {database:?} is a copy of another database and has no tenant roles of its own")]
    DatabaseCopied {
        /// The database.
        database: String,
    },
    /// The configuration keeps tenants apart in another way than the database does.
    #[error("database {database:?} has isolation {:?}, and the configuration says {:?}", stored.as_str(), configured.as_str())]
    IsolationMismatch {
        /// The database.
        database: String,
        /// The isolation of the database.
        stored: Isolation,
        /// The isolation of the configuration.
        configured: Isolation,
    },
    /// Tenants that could not be entered any more if a change of the isolation were finished now.
    #[error("{}", locked_out(database, *isolation, tenants))]
    TenantsLockedOut {
        /// The database.
        database: String,
        /// What it would have from then on.
        isolation: Isolation,
        /// The tenants.
        tenants: Vec<TenantSlug>,
    },
    /// A role that is to be the login of a service may do what such a login must not be able to.
    #[error("role {role:?} cannot be the login of a service: it {why}")]
    LoginUnfit {
        /// The role.
        role: String,
        /// What it may do.
        why: String,
        /// The statement or command that fixes it.
        fix: String,
    },
    /// A schema cannot be in the search path of tenants.
    #[error("schema {schema:?} cannot be in the search path: {why}")]
    SearchPathUnfit {
        /// The schema.
        schema: String,
        /// Why.
        why: String,
        /// The statement that changes that; empty where none does.
        fix: String,
    },
}

/// How many tenants a message names.
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
    /// Code and kind of every variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::Privilege { .. } => ("CGK0301", Denied),
            Self::ReadOnly { standby: true, .. } => ("CGK0307", Unavailable),
            Self::ReadOnly { standby: false, .. } => ("CGK0307", Denied),
            Self::NotSetUp { .. } => ("CGK0302", NotReady),
            Self::DatabaseCopied { .. } => ("CGK0305", Conflict),
            Self::IsolationMismatch { .. } => ("CGK0306", Conflict),
            Self::TenantsLockedOut { .. } => ("CGK0308", NotReady),
            Self::LoginUnfit { .. } => ("CGK0303", Conflict),
            Self::SearchPathUnfit { .. } => ("CGK0304", Conflict),
        }
    }

    /// What the driver said.
    pub(super) fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::Privilege { source, .. } => source.as_ref(),
            _ => None,
        }
    }
}
