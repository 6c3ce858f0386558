//! Runs a transaction again if the server rolled it back because of a conflict.

use super::{Db, Platform, PlatformFnMany, PlatformTx, TenantFnMany, TenantTx, TxOptions, session::CallerScope};
use crate::{
    error::{Error, Result},
    slug::TenantSlug,
};
use rand::RngExt as _;
use std::{future::Future, time::Duration};

/// The limits for running a rolled-back transaction again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The maximum number of runs. 0 counts as 1. Default: 5.
    pub tries_max: u32,
    /// The wait before the second run. It doubles from run to run. Up to half of it is added or subtracted at random.
    /// Default: 10 ms.
    pub wait_first: Duration,
    /// The maximum wait, before the random change. Default: 1 s.
    pub wait_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries_max: 5, wait_first: Duration::from_millis(10), wait_max: Duration::from_secs(1) }
    }
}

impl Retry {
    /// Returns the wait after this number of runs, before the random change.
    fn wait_after(&self, tries: u32) -> Duration {
        let doubled = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.wait_first.saturating_mul(doubled).min(self.wait_max)
    }
}

impl<E: From<Error> + Send> Db<E> {
    /// Runs [`with_tenant_in`](Self::with_tenant_in), and runs it again in a new transaction in these cases:
    ///
    /// - The server rolled all of it back because of a serialization failure (40001) or a deadlock (40P01), in a
    ///   statement or at COMMIT.
    /// - A statement failed whose future the body had dropped. The reason is then unknown.
    /// - The tenant could not be entered, and the reason no longer exists (`TenantError::Changed`).
    ///
    /// It runs at most [`Retry::tries_max`] times in total. The waits between the runs are randomized, and they double.
    ///
    /// Only a transaction that certainly did not commit is run again. It is not run again after
    /// [`CommitUnknown`](crate::ErrorKind::CommitUnknown). It is also not run again if the body undid the conflict with
    /// a savepoint and then failed for another reason.
    ///
    /// The body may run more than once, so it borrows its values (`async |tx|`, not `async move |tx|`). Effects outside
    /// this transaction should happen after this call returns. This includes effects in another tenant.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// use cgk::{Retry, TxOptions};
    /// let total: i64 = db
    ///     .with_tenant_retry(&slug, &TxOptions::default().serializable(), &Retry::default(), async |tx| {
    ///         let row = tx.query_one("update products set version = version + 1 returning version", &[]).await?;
    ///         Ok(row.get(0))
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Locks
    ///
    /// Same as [`with_tenant`](Self::with_tenant), in each run. While it waits between two runs, it holds none.
    ///
    /// # Errors
    ///
    /// Same as [`with_tenant`](Self::with_tenant). After the last run, the error of that run.
    ///
    /// # Cancel safety
    ///
    /// Same as [`with_tenant`](Self::with_tenant). If the future is dropped between two runs, no transaction is open.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn with_tenant_retry<T: Send, F: TenantFnMany<T, E>>(
        &self,
        slug: &TenantSlug,
        options: &TxOptions,
        retry: &Retry,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        async move {
            let mut tries = 0;
            loop {
                tries += 1;
                let session = self.open(CallerScope::Tenant(slug), options).await?;
                let mut tx = TenantTx::new(&session.shared);
                let outcome = session.context.clone().scope(body(&mut tx)).await;
                match self.close_session(session, outcome).await {
                    Ok(value) => return Ok(value),
                    Err(failed) if failed.undone && tries < retry.tries_max => {
                        tracing::debug!(tenant = %slug, tries, "the server undid the transaction; running it again");
                        tokio::time::sleep(jittered(retry.wait_after(tries))).await;
                    }
                    Err(failed) => return Err(failed.error),
                }
            }
        }
    }
}

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Runs [`transaction_in`](Self::transaction_in), and runs it again in the same cases as [`Db::with_tenant_retry`].
    ///
    /// # Errors
    ///
    /// Same as [`transaction`](Self::transaction). After the last run, the error of that run.
    ///
    /// # Cancel safety
    ///
    /// Same as [`transaction`](Self::transaction). If the future is dropped between two runs, no transaction is open.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn transaction_retry<T: Send, F: PlatformFnMany<T, E>>(
        &self,
        options: &TxOptions,
        retry: &Retry,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        async move {
            let mut tries = 0;
            loop {
                tries += 1;
                let session = self.db().open(CallerScope::Platform, options).await?;
                let mut tx = PlatformTx::new(&session.shared);
                let outcome = session.context.clone().scope(body(&mut tx)).await;
                match self.db().close_session(session, outcome).await {
                    Ok(value) => return Ok(value),
                    Err(failed) if failed.undone && tries < retry.tries_max => {
                        tracing::debug!(tries, "the server undid the platform's transaction; running it again");
                        tokio::time::sleep(jittered(retry.wait_after(tries))).await;
                    }
                    Err(failed) => return Err(failed.error),
                }
            }
        }
    }
}

/// Returns between half and one and a half of a wait, so that two conflicting calls do not retry at the same time.
fn jittered(wait: Duration) -> Duration {
    let jittered = wait.as_secs_f64() * rand::rng().random_range(0.5..1.5);
    Duration::try_from_secs_f64(jittered).unwrap_or(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry { tries_max: 9, wait_first: Duration::from_millis(10), wait_max: Duration::from_millis(70) };
        let waits: Vec<u128> = (1..=5).map(|tries| retry.wait_after(tries).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 70, 70]);
        assert_eq!(retry.wait_after(u32::MAX), retry.wait_max);
        assert_eq!(Retry { wait_first: Duration::MAX, ..retry }.wait_after(3), Duration::from_millis(70));
    }

    #[test]
    fn the_jitter_is_half_of_the_wait() {
        let wait = Duration::from_millis(1000);
        let waits: Vec<u128> = (0..1000).map(|_| jittered(wait).as_millis()).collect();
        assert!(waits.iter().all(|wait| (500..=1500).contains(wait)), "{waits:?}");
        // With a thousand values, both ends are reached, except in one case in 10^22.
        assert!(waits.iter().any(|wait| *wait < 550) && waits.iter().any(|wait| *wait > 1450), "{waits:?}");
        assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
        assert!(jittered(Duration::MAX) >= Duration::MAX / 2);
    }
}
