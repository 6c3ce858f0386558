//! Why a tenant cannot be asked for.

use crate::{error::Error, slug::TenantSlug};
use http::StatusCode;

/// The result of this module's functions.
pub type Result<T, E = ProvisioningError> = std::result::Result<T, E>;

/// Why a tenant cannot be asked for, or its request not be found. Its text may be sent to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisioningError {
    /// There is a tenant of this slug, or a schema that an earlier one has left. The transaction goes on.
    #[error("the name {slug} is taken")]
    SlugTaken {
        /// The slug.
        slug: TenantSlug,
    },
    /// What was given cannot be stored; the database was not asked.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// There is no such request.
    #[error("there is no such request")]
    NotFound,
    /// The table or its types are missing: `cgk migrate` has not applied `011_provisioning`, or the set is one of your own.
    #[error("the provisioning queue needs the bundled shared tables")]
    TablesMissing {
        /// What the server said is missing.
        source: Error,
    },
    /// The database could not be asked, or did not do it.
    #[error("the database could not be asked")]
    Database(#[source] Error),
}

impl From<Error> for ProvisioningError {
    fn from(source: Error) -> Self {
        match source.lacks_shared_tables() {
            true => Self::TablesMissing { source },
            false => Self::Database(source),
        }
    }
}

impl ProvisioningError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::SlugTaken { .. } => StatusCode::CONFLICT,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::TablesMissing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Database(error) => error.status_of_database(),
        }
    }
}
