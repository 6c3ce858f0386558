//! Which tenant the running task is in: for log lines and for refusing what cannot work, never for routing a query.

use crate::slug::TenantSlug;
use std::future::Future;

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// The tenant that the running task is in.
///
/// It does not follow into spawned tasks or other threads; code that needs a tenant there is given one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantContext {
    /// The tenant.
    pub slug: TenantSlug,
}

impl TenantContext {
    /// The tenant of the innermost `with_tenant` around the caller; `None` outside.
    ///
    /// ```
    /// assert!(cgk::TenantContext::current().is_none());
    /// ```
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|task| task.tenant.clone()).ok().flatten()
    }
}

/// Of which pools the calls around a task hold a connection each, for tenants and for the platform.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldConnections(Vec<usize>);

impl HeldConnections {
    pub(super) fn current() -> Self {
        CURRENT.try_with(|task| task.held.clone()).unwrap_or_default()
    }

    /// With one more of the pool with this identity.
    pub(super) fn and(mut self, pool: usize) -> Self {
        self.0.push(pool);
        self
    }

    /// How many of a pool.
    pub(super) fn of(&self, pool: usize) -> usize {
        self.0.iter().filter(|held| **held == pool).count()
    }
}

/// What is known of the task inside a call.
#[derive(Clone, Debug)]
pub(super) struct TaskContext {
    /// None for the platform.
    pub(super) tenant: Option<TenantContext>,
    pub(super) held: HeldConnections,
}

impl TaskContext {
    /// Runs a future inside this context.
    pub(super) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}
