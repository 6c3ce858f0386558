//! Who makes a change.

use crate::{
    context::TenantContext,
    user::{ApiKeyId, UserId},
};

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
    /// A caller that is not known: the context of the request or job has no user and no API key. Every operation that
    /// needs a permission refuses it.
    Anonymous,
}

impl Actor {
    /// Returns the caller of the current [`TenantContext`]: its API key, otherwise its user, otherwise
    /// [`Actor::Anonymous`], also in a request of `cgk::axum::TenantLayer` without a credential. Outside of a context,
    /// returns [`Actor::System`], which may do everything. New tasks and threads are outside: start them with
    /// [`TenantContext::spawn`] or [`TenantContext::spawn_blocking`].
    ///
    /// ```
    /// use cgk::{OrganizationId, TenantContext, platform::Actor};
    /// let context = TenantContext::new(OrganizationId(Default::default()), "acme".parse()?);
    /// assert_eq!(context.in_scope(Actor::current), Actor::Anonymous);
    /// assert_eq!(Actor::current(), Actor::System);
    /// # Ok::<(), cgk::InvalidSlug>(())
    /// ```
    pub fn current() -> Self {
        let Some(context) = TenantContext::if_current() else {
            return if TenantContext::has_no_caller() { Self::Anonymous } else { Self::System };
        };
        let key = context.api_key_id.map(Self::ApiKey);
        key.or(context.user_id.map(Self::User)).unwrap_or(Self::Anonymous)
    }

    /// Returns the kind of the actor, as the tables store it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::ApiKey(_) => "api_key",
            Self::System => "system",
            Self::Operator(_) => "operator",
            Self::Anonymous => "anonymous",
        }
    }

    /// Returns the id of the actor within its kind. The service itself and an unknown caller have no id.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::User(id) => Some(id.to_string()),
            Self::ApiKey(id) => Some(id.to_string()),
            Self::System | Self::Anonymous => None,
            Self::Operator(login) => Some(login.clone()),
        }
    }
}
