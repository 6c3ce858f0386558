//! Why somebody was not let in.

use crate::error::Error;
use http::StatusCode;

/// The result of this module's functions.
pub type Result<T, E = AuthError> = std::result::Result<T, E>;

/// Why an operation on users, sessions, keys or links failed.
///
/// Its text tells whoever presented a token no more than "not accepted"; the [`Rejection`] is for the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The text is no token of this kind: truncated, altered, or of another kind. The database was not asked.
    #[error("the credential is not accepted")]
    Malformed,
    /// The token or password is not accepted.
    #[error("the credential is not accepted")]
    Rejected {
        /// Why, for the log.
        reason: Rejection,
    },
    /// There is nothing of this id in this organization.
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// The organization has a user of this address already.
    #[error("the organization has a user of this e-mail address")]
    EmailTaken,
    /// What was given cannot be stored; the database was not asked.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The shared tables are not the bundled ones, or not all of them: a table, column or type is missing.
    #[error("users, sessions, API keys and magic links need the bundled shared tables")]
    TablesMissing {
        /// What the server said is missing.
        source: Error,
    },
    /// The database could not be asked, or did not do it.
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

/// Why a credential of the right form was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// Nothing was ever issued that looks like this, or it is purged.
    Unknown,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// A single-use link that was used before.
    Used,
    /// A link for something else, such as a sign-up where a sign-in was asked for.
    WrongPurpose,
    /// The user is disabled or has not accepted the invitation.
    UserInactive,
    /// The organization is not active.
    OrganizationInactive,
    /// The password is wrong, or the user has none.
    WrongPassword,
}

impl AuthError {
    /// The HTTP status to answer with: 401 for a credential that is not accepted, 403 where it is the organization that is not
    /// active, 404, 409, 422, and 503 or 500 for the database.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Rejected { reason: Rejection::OrganizationInactive } => StatusCode::FORBIDDEN,
            Self::Malformed | Self::Rejected { .. } => StatusCode::UNAUTHORIZED,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::EmailTaken => StatusCode::CONFLICT,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TablesMissing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Database(error) => error.status_of_database(),
        }
    }

    /// Why a credential was not accepted, if that is the error.
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
