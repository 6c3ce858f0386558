//! Which tenant the running task is in: for log lines and for refusing what cannot work, never for routing a query.

use crate::slug::TenantSlug;
use std::future::Future;

tokio::task_local! {
    static CURRENT: TenantContext;
}

/// The tenant that the running task is in.
///
/// It does not follow into spawned tasks or other threads; code that needs a tenant there is given one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TenantContext {
    /// The tenant.
    pub slug: TenantSlug,
    /// How many connections of which pool the calls around this one hold.
    held: Vec<usize>,
}

impl TenantContext {
    /// The tenant of the innermost `with_tenant` around the caller; `None` outside.
    ///
    /// ```
    /// assert!(cgk::TenantContext::current().is_none());
    /// ```
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The context of a call inside the current one, on the pool with this identity.
    pub(crate) fn inside(slug: &TenantSlug, pool: usize) -> Self {
        let mut held = Self::current().map(|outer| outer.held).unwrap_or_default();
        held.push(pool);
        Self { slug: slug.clone(), held }
    }

    /// How many connections of a pool are held by this task's calls, this one included.
    pub(crate) fn held_of(&self, pool: usize) -> usize {
        self.held.iter().filter(|held| **held == pool).count()
    }

    /// Runs a future inside a context, or outside of any.
    pub(crate) async fn scope<F: Future>(context: Option<Self>, future: F) -> F::Output {
        match context {
            Some(context) => CURRENT.scope(context, future).await,
            None => future.await,
        }
    }
}
