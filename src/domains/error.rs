//! Why an operation on custom domains failed.

use super::{DomainName, InvalidDomain};
use crate::error::Error;
use http::StatusCode;

/// The result of this module's functions.
pub type Result<T, E = DomainError> = std::result::Result<T, E>;

/// Why an operation on custom domains failed. Its text may be sent to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The text is no domain.
    #[error(transparent)]
    Invalid(#[from] InvalidDomain),
    /// Another organization has the domain verified.
    #[error("the domain {name} belongs to another organization")]
    Taken {
        /// The domain.
        name: DomainName,
    },
    /// The organization has as many domains as it may have.
    #[error("the organization has too many domains")]
    TooMany,
    /// There is no such organization, or it has no such domain.
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// The table is missing: `cgk migrate` has not applied `012_organization_domains`, or the set is one of your own.
    #[error("custom domains need the bundled shared tables")]
    TablesMissing {
        /// What the server said is missing.
        source: Error,
    },
    /// The database could not be asked, or did not do it.
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
    /// The HTTP status to answer with.
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
