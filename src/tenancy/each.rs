//! Runs the same work in every tenant.

use super::{Db, TenantFnMany, TenantTx, TxOptions, session::CallerScope};
use crate::{
    error::{Error, Result},
    registry,
    slug::TenantSlug,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{future::Future, pin::Pin};

/// The result of one tenant.
type OfTenant<T, E> = (TenantSlug, Result<T, E>);

impl<E: From<Error> + Send> Db<E> {
    /// Runs `body` once in every active tenant that the filter selects, each in its own transaction. At most `jobs`
    /// transactions run at a time, and not more than the pool has connections. `tx.slug()` returns the current tenant.
    ///
    /// The list of tenants is read once, at the start. A failed tenant does not stop the others. The returned list has
    /// one result per tenant, ordered by slug.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> cgk::Result<()> {
    /// let outcomes = db
    ///     .for_each_tenant(|slug| slug.as_str() != "demo", 4, async |tx| {
    ///         tx.execute("delete from carts where updated_at < now() - interval '30 days'", &[]).await
    ///     })
    ///     .await?;
    /// for (slug, outcome) in outcomes {
    ///     match outcome {
    ///         Ok(carts) => println!("{slug}: {carts} carts"),
    ///         Err(error) => eprintln!("{slug}: {}", error.report()),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Locks
    ///
    /// Same as [`with_tenant`](Self::with_tenant), for one tenant at a time per job.
    ///
    /// # Errors
    ///
    /// Fails if the registry could not be read. Then no tenant was entered. The result of each tenant has the errors of
    /// [`with_tenant`](Self::with_tenant).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, running tenants are rolled back, finished ones are committed, and the others are not
    /// started.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn for_each_tenant<T: Send, F: TenantFnMany<T, E>>(
        &self,
        filter: impl Fn(&TenantSlug) -> bool + Send,
        jobs: usize,
        body: F,
    ) -> impl Future<Output = Result<Vec<OfTenant<T, E>>, E>> + Send {
        async move {
            let rows = self.platform().query_typed(registry::sql::ACTIVE_SLUGS, &[]).await?;
            let slugs = rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()?.parse::<TenantSlug>().ok());
            let mut slugs: Vec<TenantSlug> = slugs.filter(|slug| filter(slug)).collect();
            slugs.reverse();
            let jobs = jobs.clamp(1, self.inner.config.pool().size_max.max(1));
            let (mut running, mut outcomes) = (FuturesUnordered::new(), Vec::with_capacity(slugs.len()));
            loop {
                while running.len() < jobs
                    && let Some(slug) = slugs.pop()
                {
                    running.push(self.in_one(slug, &body));
                }
                match running.next().await {
                    Some(outcome) => outcomes.push(outcome),
                    None => break,
                }
            }
            outcomes.sort_by(|(a, _): &OfTenant<T, E>, (b, _)| a.cmp(b));
            Ok(outcomes)
        }
    }

    /// Runs `body` in one tenant. The future is boxed, because the compiler cannot prove in another way that the future
    /// of a closure is `Send`.
    fn in_one<'a, T: Send + 'a, F: TenantFnMany<T, E>>(
        &'a self,
        slug: TenantSlug,
        body: &'a F,
    ) -> Pin<Box<dyn Future<Output = OfTenant<T, E>> + Send + 'a>>
    where
        E: 'a,
    {
        Box::pin(async move {
            let session = match self.open(CallerScope::Tenant(&slug), &TxOptions::default()).await {
                Ok(session) => session,
                Err(error) => return (slug, Err(error.into())),
            };
            let mut tx = TenantTx::new(&session.shared);
            let outcome = session.context.clone().scope(body(&mut tx)).await;
            let outcome = self.close_session(session, outcome).await.map_err(|failed| failed.error);
            (slug, outcome)
        })
    }
}
