//! Runs work in a separate task, for a caller that waits for it.

use std::future::Future;
use tokio::task::{AbortHandle, JoinError};
use tracing::Instrument as _;

/// Aborts the task when the caller is dropped.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a future in a separate task and waits for it. The future continues even if the caller is no longer polled, for
/// example after a `select!`, so it blocks nothing. If the caller is dropped, the task is aborted.
pub(crate) async fn in_own_task<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let task = tokio::spawn(work.in_current_span());
    let _ends = Ends(task.abort_handle());
    match task.await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is shutting down, so this call does not continue either.
        Err(Err(_)) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::{pin::pin, sync::Arc};
    use tokio::sync::{Mutex, oneshot};

    #[tokio::test]
    async fn a_caller_that_is_not_polled_holds_nothing_up() {
        let lock = Arc::new(Mutex::new(()));
        let turn = |lock: &Arc<Mutex<()>>| {
            let lock = Arc::clone(lock);
            async move { drop(lock.lock().await) }
        };
        let held = lock.lock().await;
        let (mut own, mut within) = (pin!(in_own_task(turn(&lock))), pin!(turn(&lock)));
        assert!(own.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
        drop(held);
        // The call is not polled, and the lock is still released.
        drop(lock.lock().await);
        // The control: the same work inside the caller does not release the lock.
        let held = lock.lock().await;
        assert!(within.as_mut().now_or_never().is_none());
        drop(held);
        assert!(lock.try_lock().is_err());
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_ends_the_task() {
        let (held, ended) = oneshot::channel::<()>();
        let mut work = Box::pin(in_own_task(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert!(work.as_mut().now_or_never().is_none());
        drop(work);
        assert!(ended.await.is_err());
    }

    #[tokio::test]
    #[should_panic(expected = "its own")]
    async fn a_panic_is_the_callers() {
        in_own_task(async { panic!("its own") }).await;
    }
}
