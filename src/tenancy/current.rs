//! Which tenant the running task is in: for log lines and for refusing what cannot work, never for routing a query.

use crate::slug::TenantSlug;
use std::future::Future;

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// The tenant of the innermost `with_tenant` around the caller; `None` outside. For log lines: it routes nothing, and does not
/// follow into spawned tasks or other threads.
///
/// ```
/// assert!(cgk::current_tenant().is_none());
/// ```
pub fn current_tenant() -> Option<TenantSlug> {
    CURRENT.try_with(|task| task.tenant.clone()).ok().flatten()
}

/// Whether the caller is inside a transaction of any pool.
#[cfg(any(feature = "platform", feature = "redis"))]
pub(crate) fn is_inside_transaction() -> bool {
    !HeldConnections::current().0.is_empty()
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
    pub(super) tenant: Option<TenantSlug>,
    pub(super) held: HeldConnections,
}

impl TaskContext {
    /// Runs a future inside this context.
    pub(super) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}
