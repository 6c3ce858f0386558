//! Why an operation of the platform failed.

use crate::{error::Error, slug::TenantSlug};
use http::StatusCode;
use std::time::SystemTime;
use tokio_postgres::error::SqlState;

/// The result of this module's functions.
pub type Result<T, E = PlatformError> = std::result::Result<T, E>;

/// Why an operation of the platform failed. Its text may be sent to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// There is nothing of this id, or not in this organization.
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// What was given cannot be stored.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The actor's role does not have the permission that this takes.
    #[error("this takes the permission {permission}")]
    Forbidden {
        /// The name of the permission.
        permission: &'static str,
    },
    /// The user, or another one of the same address, is a member of the organization.
    #[error("the user is a member of the organization already")]
    AlreadyMember,
    /// The organization would have no owner any more who is confirmed and may sign in.
    #[error("the organization needs another owner first")]
    LastOwner,
    /// There is an open invitation of this address into the organization: it can be sent again, or revoked.
    #[error("the address is invited to the organization already")]
    AlreadyInvited,
    /// The invitation's time is over; it can be sent again.
    #[error("the invitation has expired")]
    InvitationExpired,
    /// The invitation was accepted before.
    #[error("the invitation was accepted before")]
    InvitationUsed,
    /// The invitation was taken back.
    #[error("the invitation was revoked")]
    InvitationRevoked,
    /// The invitation is for another address than that of whoever accepts it.
    #[error("the invitation is for another e-mail address")]
    OtherAddress,
    /// The user may not sign in, and so not become a member.
    #[error("the user is disabled")]
    UserDisabled,
    /// The account at the provider is linked to another user.
    #[error("the account is linked to another user")]
    AccountLinked,
    /// There is a tenant of this slug, or a schema that an earlier one has left.
    #[error("the name {slug} is taken")]
    SlugTaken {
        /// The slug.
        slug: TenantSlug,
    },
    /// Rows of this table point at the user, and cannot point at another one.
    #[error("rows of the table {table} belong to the user")]
    Referenced {
        /// The table, with its schema.
        table: String,
    },
    /// Others change the same thing again and again; the same call may succeed later.
    #[error("others are changing the same thing; try again")]
    Busy,
    /// The organization has a subscription that has not ended.
    #[error("the organization has a subscription")]
    AlreadySubscribed,
    /// The organization has had its trial.
    #[error("the organization has had a trial")]
    TrialUsed,
    /// Less is left than was asked for.
    #[error("the quota is exceeded: {left} left of {asked} asked for")]
    QuotaExceeded {
        /// How much is left.
        left: u64,
        /// How much was asked for.
        asked: u64,
        /// When more is granted by itself, if that is known.
        resets_at: Option<SystemTime>,
    },
    /// The key of an operation that counts once was used before, for something else.
    #[error("the idempotency key cannot be used: {why}")]
    IdempotencyConflict {
        /// Why.
        why: &'static str,
    },
    /// The shared tables are not the bundled ones, or not all of them: `cgk migrate` has not applied the newest files.
    #[error("this needs the bundled shared tables")]
    TablesMissing {
        /// What the server said is missing.
        source: Error,
    },
    /// The database could not be asked, or did not do it.
    #[error("the database could not be asked")]
    Database(#[source] Error),
}

impl From<Error> for PlatformError {
    fn from(source: Error) -> Self {
        match source.lacks_shared_tables() {
            true => Self::TablesMissing { source },
            false => Self::Database(source),
        }
    }
}

impl PlatformError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::OtherAddress | Self::UserDisabled => StatusCode::FORBIDDEN,
            Self::InvitationExpired | Self::InvitationUsed | Self::InvitationRevoked => StatusCode::GONE,
            Self::SlugTaken { .. }
            | Self::AlreadyInvited
            | Self::AlreadyMember
            | Self::LastOwner
            | Self::AccountLinked
            | Self::Referenced { .. } => StatusCode::CONFLICT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::AlreadySubscribed | Self::TrialUsed | Self::IdempotencyConflict { .. } => StatusCode::CONFLICT,
            Self::QuotaExceeded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TablesMissing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Database(error) => error.status_of_database(),
        }
    }
}

/// The error of a role that is not one of the database's.
pub(crate) fn refuse_unknown_role(error: PlatformError) -> PlatformError {
    match error {
        PlatformError::Database(source) if source.sqlstate() == Some(&SqlState::INVALID_TEXT_REPRESENTATION) => {
            PlatformError::Invalid { what: "the role", why: "the database has no such role".into() }
        }
        other => other,
    }
}
