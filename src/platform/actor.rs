//! Who makes a change.

use crate::{auth::ApiKeyId, context::TenantContext, user::UserId};

/// The author of a change. The audit log and the events store it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// A person.
    User(UserId),
    /// A program that authenticated with an API key of an organization.
    ApiKey(ApiKeyId),
    /// The service itself, or one of its background jobs.
    System,
    /// A person at the command line, identified by the name of the database login.
    Operator(String),
}

impl Actor {
    /// Returns the user of the caller's [`TenantContext`]. Without a context, or in one without a user, as that of a
    /// request with an API key, returns [`Actor::System`], which may do everything.
    pub fn current() -> Self {
        TenantContext::current().ok().and_then(|context| context.user_id).map_or(Self::System, Self::User)
    }

    /// Returns the kind of the actor, as the tables store it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::ApiKey(_) => "api_key",
            Self::System => "system",
            Self::Operator(_) => "operator",
        }
    }

    /// Returns the id of the actor within its kind. The service itself has no id.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::User(id) => Some(id.to_string()),
            Self::ApiKey(id) => Some(id.to_string()),
            Self::System => None,
            Self::Operator(login) => Some(login.clone()),
        }
    }
}
