//! The organization, caller and id of the current request, available to the code that handles it without a parameter.

mod headers;
mod signed;

pub use headers::InvalidContext;
pub use signed::SigningKey;

use crate::{
    error::{Result, TenantError},
    slug::TenantSlug,
    tenant::OrganizationId,
    user::{ApiKeyId, UserId},
};
use serde::{Deserialize, Serialize};
use std::{future::Future, sync::Arc};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, Span};

tokio::task_local! {
    /// `None`: in a request without a caller, also when called inside a context.
    static CURRENT: Option<Arc<TenantContext>>;
}

/// The maximum length of a request id, email or role.
const TEXT_MAX: usize = 320;

/// The organization, the caller and the id of a request.
///
/// A service creates a context when it has found the tenant of a request, and handles the request inside it. Code that
/// runs in the same task, and everything that the task awaits, gets it from [`current`](Self::current):
///
/// ```
/// use cgk::{OrganizationId, TenantContext};
///
/// async fn greeting() -> cgk::Result<String> {
///     Ok(format!("hello, {}", TenantContext::current()?.slug))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let context = TenantContext::new(OrganizationId(Default::default()), "acme".parse()?).role("owner");
/// assert_eq!(context.scope(greeting()).await?, "hello, acme");
/// assert!(greeting().await.is_err()); // outside
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
///
/// New tasks and threads do not inherit the context. Pass it with [`spawn`](Self::spawn),
/// [`spawn_blocking`](Self::spawn_blocking) or [`in_scope`](Self::in_scope).
///
/// Inside a context, `with_tenant` and `tenant` of the same slug set `app.current_user_id` for the transaction. They
/// fail with [`TenantError::ContextStale`] if the slug now belongs to another organization.
/// [`Db::current`](crate::Db::current) enters the tenant of the context. A context alone never gives access to a
/// tenant: every entry checks the registry.
///
/// The fields contain what the service knows about the request. Nothing is checked when they are set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantContext {
    /// The organization.
    pub organization_id: OrganizationId,
    /// Its slug, which is used to enter the tenant.
    pub slug: TenantSlug,
    /// The user; `None` for a program or a job.
    pub user_id: Option<UserId>,
    /// The API key that the program authenticated with; `None` for a person or a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_id: Option<ApiKeyId>,
    /// The user's email address. It is never logged.
    pub email: Option<String>,
    /// The user's roles in the organization, such as `owner`.
    pub roles: Vec<String>,
    /// The request, for logs.
    pub request_id: String,
}

impl TenantContext {
    /// Creates the context of an organization, without a user or an API key, and with a new request id.
    pub fn new(organization_id: OrganizationId, slug: TenantSlug) -> Self {
        let request_id = Self::new_request_id();
        Self { organization_id, slug, user_id: None, api_key_id: None, email: None, roles: Vec::new(), request_id }
    }

    fn new_request_id() -> String {
        uuid::Uuid::now_v7().simple().to_string()
    }

    /// Returns the usable part of a request id; `None` if nothing is usable.
    fn plain_request_id(text: &str) -> Option<String> {
        let plain: String = text.chars().filter(char::is_ascii_graphic).take(TEXT_MAX).collect();
        (!plain.is_empty()).then_some(plain)
    }

    /// Sets the user.
    pub fn user(mut self, id: UserId, email: &str) -> Self {
        self.user_id = Some(id);
        self.email = Some(email.chars().take(TEXT_MAX).collect());
        self
    }

    /// Sets the API key. Its scopes decide what the operations of the platform may do in this context, also if a user
    /// is set.
    pub fn api_key(mut self, id: ApiKeyId) -> Self {
        self.api_key_id = Some(id);
        self
    }

    /// Adds a role.
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.chars().take(TEXT_MAX).collect());
        self
    }

    /// Sets the request id, for instance from the header `x-request-id`. Characters other than visible ASCII are
    /// removed, and the id is cut to 320 characters. If nothing remains, the id does not change.
    pub fn request_id(mut self, id: &str) -> Self {
        if let Some(plain) = Self::plain_request_id(id) {
            self.request_id = plain;
        }
        self
    }

    /// Returns whether the user has this role; the comparison is exact.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }

    /// Returns the current context.
    ///
    /// # Errors
    ///
    /// [`TenantError::NoContext`]: there is none, for instance in a task that was spawned without it.
    pub fn current() -> Result<Arc<Self>> {
        Self::if_current().ok_or_else(|| TenantError::NoContext.into())
    }

    /// Returns the current context, or `None`.
    pub fn if_current() -> Option<Arc<Self>> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }

    /// Runs a future in this context, and in a `tracing` span with the fields `request_id`, `tenant`, `organization_id`
    /// and `user_id`. Inside another context, this one applies until the future ends.
    ///
    /// # Cancel safety
    ///
    /// The same as for the future.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let span = self.span();
        CURRENT.scope(Some(Arc::new(self.clone())), future).instrument(span)
    }

    /// Spawns a task that runs in this context.
    ///
    /// ```no_run
    /// # async fn example() -> cgk::Result<()> {
    /// let job = cgk::TenantContext::current()?.spawn(async { cgk::TenantContext::current().is_ok() });
    /// assert!(job.await.unwrap());
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.scope(future))
    }

    /// Runs a function in this context on a thread for blocking work.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn spawn_blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let context = self.clone();
        tokio::task::spawn_blocking(move || context.in_scope(work))
    }

    /// Runs a function in this context on the current thread.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span().in_scope(|| CURRENT.sync_scope(Some(Arc::new(self.clone())), work))
    }

    /// Does the same as [`scope`](Self::scope) without a span, for a single call in a context that already has one.
    pub(crate) fn quietly<F: Future>(self: &Arc<Self>, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(Some(Arc::clone(self)), future)
    }

    /// Runs a future without a context and without a caller, whether or not the caller is in a context.
    #[cfg(feature = "axum")]
    pub(crate) fn without_caller<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(None, future)
    }

    /// Whether this runs in [`without_caller`](Self::without_caller), and not just outside of any context.
    #[cfg(feature = "platform")]
    pub(crate) fn has_no_caller() -> bool {
        CURRENT.try_with(Option::is_none).unwrap_or(false)
    }

    fn span(&self) -> Span {
        let span = tracing::info_span!(
            target: "cgk::context",
            "request",
            request_id = %self.request_id,
            tenant = %self.slug,
            organization_id = %self.organization_id,
            user_id = tracing::field::Empty
        );
        if let Some(user) = self.user_id {
            span.record("user_id", tracing::field::display(user));
        }
        span
    }
}
