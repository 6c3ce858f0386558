//! The errors of the operations of the platform.

use super::{Actor, Permission};
use crate::{auth::AuthError, error::Error, slug::TenantSlug};
use http::StatusCode;
use std::time::SystemTime;
use tokio_postgres::error::SqlState;

/// The result type of this module's functions.
pub type Result<T, E = PlatformError> = std::result::Result<T, E>;

/// The reason why an operation of the platform failed. Its text is safe to send to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// This id does not exist, or not in this organization.
    #[error("there is no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// A given value cannot be stored.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// The value.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// The actor does not have the required permission.
    #[error("this takes the permission {permission}{}", advice(.actor, .permission))]
    Forbidden {
        /// The name of the permission.
        permission: &'static str,
        /// The kind of the actor, as in [`Actor::kind`].
        actor: &'static str,
    },
    /// The organization was suspended or deleted. Nothing new is bought, granted, used or created in it, and it gets no
    /// new members. What it has can still be read, changed, canceled, released, revoked and removed.
    #[error("the organization is suspended")]
    OrganizationSuspended,
    /// The user, or another user of the same address, is already a member of the organization.
    #[error("the user is a member of the organization already")]
    AlreadyMember,
    /// After the change the organization would have no owner who is confirmed and may sign in.
    #[error("the organization needs another owner first")]
    LastOwner,
    /// An open invitation of this address to the organization exists. It can be sent again or revoked.
    #[error("the address is invited to the organization already")]
    AlreadyInvited,
    /// The invitation has expired. It can be sent again.
    #[error("the invitation has expired")]
    InvitationExpired,
    /// The invitation was already accepted.
    #[error("the invitation was accepted before")]
    InvitationUsed,
    /// The invitation was revoked.
    #[error("the invitation was revoked")]
    InvitationRevoked,
    /// The invitation was sent to another address than the address of the user who accepts it.
    #[error("the invitation is for another e-mail address")]
    OtherAddress,
    /// The user may not sign in, so the user cannot become a member.
    #[error("the user is disabled")]
    UserDisabled,
    /// The account at the provider is already linked to another user.
    #[error("the account is linked to another user")]
    AccountLinked,
    /// A tenant with this slug exists, or the schema of an earlier tenant with this slug.
    #[error("the name {slug} is taken")]
    SlugTaken {
        /// The slug.
        slug: TenantSlug,
    },
    /// Rows of this table point at the user, and they cannot be changed to point at another user.
    #[error("rows of the table {table} belong to the user")]
    Referenced {
        /// The name of the table, with its schema.
        table: String,
    },
    /// Concurrent calls keep changing the same rows. The same call may succeed later.
    #[error("others are changing the same thing; try again")]
    Busy,
    /// The organization has a subscription that has not ended.
    #[error("the organization has a subscription")]
    AlreadySubscribed,
    /// The organization has already used its trial.
    #[error("the organization has had a trial")]
    TrialUsed,
    /// The remaining quota is smaller than the requested amount.
    #[error("the quota is exceeded: {left} left of {asked} asked for")]
    QuotaExceeded {
        /// The remaining amount.
        left: u64,
        /// The requested amount.
        asked: u64,
        /// When more is granted automatically, if that is known.
        resets_at: Option<SystemTime>,
    },
    /// The idempotency key was already used for a different operation.
    #[error("the idempotency key cannot be used: {why}")]
    IdempotencyConflict {
        /// The reason.
        why: &'static str,
    },
    /// The shared tables are missing or are not the bundled ones: `cgk migrate` has not applied the newest files.
    #[error("this needs the bundled shared tables")]
    TablesMissing {
        /// The error of the server that names what is missing.
        source: Error,
    },
    /// The database did not answer, or returned an error.
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
    /// The error of an operation of [`auth`](crate::auth) that runs in an operation of the platform.
    pub(crate) fn of_auth(error: AuthError) -> Self {
        match error {
            AuthError::Invalid { what, why } => Self::Invalid { what, why: why.to_owned() },
            AuthError::OrganizationSuspended => Self::OrganizationSuspended,
            AuthError::TablesMissing { source } => Self::TablesMissing { source },
            AuthError::Database(source) => Self::Database(source),
            _ => Self::NotFound { what: "organization" },
        }
    }

    /// The error of an actor that does not have a permission.
    pub(crate) fn forbidden(actor: &Actor, permission: &'static str) -> Self {
        Self::Forbidden { permission, actor: actor.kind() }
    }

    /// Returns the HTTP status for the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::OtherAddress | Self::UserDisabled | Self::OrganizationSuspended => StatusCode::FORBIDDEN,
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

/// Returns what the message of a refusal adds, so that a service that acts for itself in a context does not look for a role.
fn advice(actor: &str, permission: &str) -> &'static str {
    match permission {
        _ if actor == Actor::Anonymous.kind() => {
            ", and the context has no user and no API key; name the actor with acting_as(...)"
        }
        _ if Permission::ALL.iter().any(|one| one.as_str() == permission) => "",
        _ => ", which only the service has; name it with acting_as(Actor::System)",
    }
}

/// Converts the error of a role that the database does not know.
pub(crate) fn refuse_unknown_role(error: PlatformError) -> PlatformError {
    match error {
        PlatformError::Database(source) if source.sqlstate() == Some(&SqlState::INVALID_TEXT_REPRESENTATION) => {
            PlatformError::Invalid { what: "the role", why: "the database has no such role".into() }
        }
        other => other,
    }
}
