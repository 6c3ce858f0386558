//! The errors of requests for tenants.

use crate::{error::Error, slug::TenantSlug};
use http::StatusCode;

/// The result of this module's functions.
pub type Result<T, E = ProvisioningError> = std::result::Result<T, E>;

/// Why a tenant cannot be requested, or its request cannot be found. The text may be sent to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisioningError {
    /// A tenant with this slug exists, or a schema that an earlier one left behind. The transaction can continue.
    #[error("the name {slug} is taken")]
    SlugTaken {
        /// The slug.
        slug: TenantSlug,
    },
    /// The value cannot be stored; no query was sent.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// The value.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The request does not exist.
    #[error("there is no such request")]
    NotFound,
    /// The table or its types are missing: `cgk migrate` has not applied `011_provisioning`, or the migrations are your
    /// own.
    #[error("the provisioning queue needs the bundled shared tables")]
    TablesMissing {
        /// The server's error, which names what is missing.
        source: Error,
    },
    /// The database query failed.
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
    /// Returns the HTTP status of the response.
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
