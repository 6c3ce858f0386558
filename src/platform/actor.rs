//! Who changes something.

use crate::{auth::ApiKeyId, context::TenantContext, user::UserId};

/// Who changes something. It is written into the audit log and into events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Actor {
    /// A person.
    User(UserId),
    /// A program that has shown a key of an organization.
    ApiKey(ApiKeyId),
    /// The service itself, or a job of it.
    System,
    /// Somebody on the command line; the name is that of the database login.
    Operator(String),
}

impl Actor {
    /// The user of the [`TenantContext`] that the caller is in; without one, [`Actor::System`].
    pub fn current() -> Self {
        TenantContext::current().ok().and_then(|context| context.user_id).map_or(Self::System, Self::User)
    }

    /// What kind of actor it is, as the tables say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::ApiKey(_) => "api_key",
            Self::System => "system",
            Self::Operator(_) => "operator",
        }
    }

    /// Which one of its kind; the service itself has no id.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::User(id) => Some(id.to_string()),
            Self::ApiKey(id) => Some(id.to_string()),
            Self::System => None,
            Self::Operator(login) => Some(login.clone()),
        }
    }
}
