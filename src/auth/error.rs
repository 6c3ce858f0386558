//! The errors of authentication.

use crate::error::Error;
use http::StatusCode;

/// The result of this module's functions.
pub type Result<T, E = AuthError> = std::result::Result<T, E>;

/// Why an operation on users, sessions, keys or links failed.
///
/// The text says only "not accepted" about a rejected token; the [`Rejection`] is for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The text is not a token of this kind: it is truncated, altered, or of another kind. No query was sent.
    #[error("the credential is not accepted")]
    Malformed,
    /// The token or password is not accepted.
    #[error("the credential is not accepted")]
    Rejected {
        /// The reason, for the log.
        reason: Rejection,
    },
    /// The organization has no object with this id.
    #[error("there is no such {what}")]
    NotFound {
        /// The kind of object.
        what: &'static str,
    },
    /// The organization was suspended or deleted: nothing new is made in it.
    #[error("the organization is suspended")]
    OrganizationSuspended,
    /// The organization already has a user with this address.
    #[error("the organization has a user of this e-mail address")]
    EmailTaken,
    /// The value cannot be stored; no query was sent.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// The value.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The shared tables are not the bundled ones, or are incomplete: a table, column or type is missing.
    #[error("users, sessions, API keys and magic links need the bundled shared tables")]
    TablesMissing {
        /// The server's error, which names what is missing.
        source: Error,
    },
    /// The database query failed.
    #[error(transparent)]
    Database(Error),
}

impl From<Error> for AuthError {
    fn from(source: Error) -> Self {
        match source.lacks_shared_tables() {
            true => Self::TablesMissing { source },
            false => Self::Database(source),
        }
    }
}

/// Why a well-formed credential was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// No such credential was issued, or it was purged.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It expired.
    Expired,
    /// A single-use link that was already used.
    Used,
    /// A link for another purpose, such as a sign-up link for a sign-in.
    WrongPurpose,
    /// The user is disabled or has not accepted the invitation.
    UserInactive,
    /// The organization is not active.
    OrganizationInactive,
    /// The password is wrong, or the user has none.
    WrongPassword,
}

impl AuthError {
    /// Returns the HTTP status of the response: 401 for a credential that is not accepted, 403 if the organization is
    /// not active, 404, 409, 422, and 503 or 500 for the database.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Rejected { reason: Rejection::OrganizationInactive } => StatusCode::FORBIDDEN,
            Self::OrganizationSuspended => StatusCode::FORBIDDEN,
            Self::Malformed | Self::Rejected { .. } => StatusCode::UNAUTHORIZED,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::EmailTaken => StatusCode::CONFLICT,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TablesMissing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Database(error) => error.status_of_database(),
        }
    }

    /// Returns why a credential was not accepted, if that is the error.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::Rejected { reason } => Some(*reason),
            _ => None,
        }
    }
}

impl From<Rejection> for AuthError {
    fn from(reason: Rejection) -> Self {
        Self::Rejected { reason }
    }
}
