//! Who asks, for which organization, in which request: reachable by the code that answers, without passing it along.

mod headers;
mod signed;

pub use headers::InvalidContext;
pub use signed::SigningKey;

use crate::{
    error::{Result, TenantError},
    slug::TenantSlug,
    tenant::OrganizationId,
    user::UserId,
};
use serde::{Deserialize, Serialize};
use std::{future::Future, sync::Arc};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, Span};

tokio::task_local! {
    /// `None`: outside of any context again.
    static CURRENT: Option<Arc<TenantContext>>;
}

/// The longest text of a request id, email or role that is kept.
const TEXT_MAX: usize = 320;

/// Who asks, for which organization, in which request.
///
/// A service makes one when it has found the tenant of a request, and answers the request inside it. The code that is called
/// reaches it by [`current`](Self::current), in the same task and in all that the task awaits:
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
/// It follows into no task and no thread of its own accord: [`spawn`](Self::spawn), [`spawn_blocking`](Self::spawn_blocking)
/// and [`in_scope`](Self::in_scope) take it along.
///
/// Inside it, `with_tenant` and `tenant` of the same slug set `app.current_user_id` for the transaction, and are refused if the
/// slug is another organization's by now ([`TenantError::ContextStale`]). [`Db::current`](crate::Db::current) enters the tenant
/// of the context. What a context says is never enough to enter a tenant: the registry decides, at every entry.
///
/// The fields are what a service knows of the request, and nothing is checked when they are set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TenantContext {
    /// The organization.
    pub organization_id: OrganizationId,
    /// Its slug, by which the tenant is entered.
    pub slug: TenantSlug,
    /// The user; `None` for a program or a job.
    pub user_id: Option<UserId>,
    /// The user's address. It is in no log field.
    pub email: Option<String>,
    /// What the user is in the organization, such as `owner`.
    pub roles: Vec<String>,
    /// The request, for logs.
    pub request_id: String,
}

impl TenantContext {
    /// The context of an organization, with no user and a new request id.
    pub fn new(organization_id: OrganizationId, slug: TenantSlug) -> Self {
        let request_id = Self::new_request_id();
        Self { organization_id, slug, user_id: None, email: None, roles: Vec::new(), request_id }
    }

    fn new_request_id() -> String {
        uuid::Uuid::now_v7().simple().to_string()
    }

    /// What of a text can be a request's id; `None`: nothing.
    fn plain_request_id(text: &str) -> Option<String> {
        let plain: String = text.chars().filter(char::is_ascii_graphic).take(TEXT_MAX).collect();
        (!plain.is_empty()).then_some(plain)
    }

    /// With a user.
    pub fn user(mut self, id: UserId, email: &str) -> Self {
        self.user_id = Some(id);
        self.email = Some(email.chars().take(TEXT_MAX).collect());
        self
    }

    /// With one role more.
    pub fn role(mut self, role: &str) -> Self {
        self.roles.push(role.chars().take(TEXT_MAX).collect());
        self
    }

    /// With the id that the request came with, such as the header `x-request-id`. What is not visible ASCII is left out, and
    /// it is cut to 320 characters; if nothing is left, the id stays as it was.
    pub fn request_id(mut self, id: &str) -> Self {
        if let Some(plain) = Self::plain_request_id(id) {
            self.request_id = plain;
        }
        self
    }

    /// Whether the user has this role, letter by letter.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| has == role)
    }

    /// The context that the caller is in.
    ///
    /// # Errors
    ///
    /// [`TenantError::NoContext`]: it is in none, as a task that was spawned without its context.
    pub fn current() -> Result<Arc<Self>> {
        Self::if_current().ok_or_else(|| TenantError::NoContext.into())
    }

    /// The same, where there may be none.
    pub fn if_current() -> Option<Arc<Self>> {
        CURRENT.try_with(Clone::clone).ok().flatten()
    }

    /// Runs a future in this context, and in a span of `tracing` that carries it: `request_id`, `tenant`, `organization_id` and
    /// `user_id`. Inside another context this one holds until the future ends.
    ///
    /// # Cancel safety
    ///
    /// That of the future.
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

    /// Runs a function in this context, on the thread that calls.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span().in_scope(|| CURRENT.sync_scope(Some(Arc::new(self.clone())), work))
    }

    /// The same as [`scope`](Self::scope) without a span: for a single call in a context that has one.
    pub(crate) fn quietly<F: Future>(self: &Arc<Self>, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(Some(Arc::clone(self)), future)
    }

    /// Runs a future outside of any context, wherever the caller is.
    #[cfg(feature = "axum")]
    pub(crate) fn outside<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(None, future)
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
