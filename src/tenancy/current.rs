//! The tenant of the current task. It is for log lines and for early errors, and never decides to which tenant a query
//! goes.

use crate::slug::TenantSlug;
use std::future::Future;

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// Returns the tenant of the innermost `with_tenant` around the caller, or `None` outside. Use it for log lines. cgk
/// does not use it to choose the tenant of a query. Spawned tasks and other threads do not inherit it.
///
/// ```
/// assert!(cgk::current_tenant().is_none());
/// ```
pub fn current_tenant() -> Option<TenantSlug> {
    CURRENT.try_with(|task| task.tenant.clone()).ok().flatten()
}

/// Returns whether the caller is inside a transaction of any pool.
#[cfg(any(feature = "platform", feature = "redis"))]
pub(crate) fn is_inside_transaction() -> bool {
    !HeldConnections::current().0.is_empty()
}

/// The pool of each connection that the task holds, for tenants and for the platform. There is one entry per enclosing
/// call.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldConnections(Vec<usize>);

impl HeldConnections {
    pub(super) fn current() -> Self {
        CURRENT.try_with(|task| task.held.clone()).unwrap_or_default()
    }

    /// Adds one connection of the pool with this identity.
    pub(super) fn and(mut self, pool: usize) -> Self {
        self.0.push(pool);
        self
    }

    /// Returns the number of connections of a pool.
    pub(super) fn of(&self, pool: usize) -> usize {
        self.0.iter().filter(|held| **held == pool).count()
    }
}

/// What is known about the task inside a call.
#[derive(Clone, Debug)]
pub(super) struct TaskContext {
    /// `None` for the platform.
    pub(super) tenant: Option<TenantSlug>,
    pub(super) held: HeldConnections,
}

impl TaskContext {
    /// Runs a future inside this context.
    pub(super) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}
