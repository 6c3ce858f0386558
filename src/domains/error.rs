//! The errors of custom domains.

use super::{DomainName, InvalidDomain};
use crate::error::Error;
use http::StatusCode;

/// The result of this module's functions.
pub type Result<T, E = DomainError> = std::result::Result<T, E>;

/// Why an operation on custom domains failed. The text may be sent to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The text is not a domain name.
    #[error(transparent)]
    Invalid(#[from] InvalidDomain),
    /// Another organization has verified the domain.
    #[error("the domain {name} belongs to another organization")]
    Taken {
        /// The domain.
        name: DomainName,
    },
    /// The organization has the maximum number of domains.
    #[error("the organization has too many domains")]
    TooMany,
    /// The organization does not exist, or it has no such domain.
    #[error("there is no such {what}")]
    NotFound {
        /// The kind of object.
        what: &'static str,
    },
    /// The table is missing: `cgk migrate` has not applied `012_organization_domains`, or the migrations are your own.
    #[error("custom domains need the bundled shared tables")]
    TablesMissing {
        /// The server's error, which names what is missing.
        source: Error,
    },
    /// The database query failed.
    #[error("the database could not be asked")]
    Database(#[source] Error),
}

impl From<Error> for DomainError {
    fn from(source: Error) -> Self {
        match source.lacks_shared_tables() {
            true => Self::TablesMissing { source },
            false => Self::Database(source),
        }
    }
}

impl DomainError {
    /// Returns the HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::TooMany => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Taken { .. } => StatusCode::CONFLICT,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::TablesMissing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Database(error) => error.status_of_database(),
        }
    }
}
