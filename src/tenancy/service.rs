//! Operations on the pool: a health check, its load, and its shutdown.

use super::{Db, lease::Lease};
use crate::{
    db::{message, pool},
    error::{Result, while_doing},
};
use std::time::{Duration, Instant};

/// The load of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The maximum number of connections.
    pub size_max: usize,
    /// The current number of connections.
    pub size: usize,
    /// The number of connections that are not in use.
    pub idle: usize,
    /// The number of calls that wait for a connection.
    pub waiting: usize,
}

/// The result of closing a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The pool has no connections left.
    Drained,
    /// This number of connections was still in use at the deadline. Each is closed when its transaction ends.
    StillInUse(usize),
}

/// The interval at which a closing pool checks whether the last transactions have ended.
const DRAIN_INTERVAL: Duration = Duration::from_millis(5);

impl<E> Db<E> {
    /// Asks the server for a response, on a connection of the pool. Use it for a health check: it needs no tenant and
    /// no table.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) {
    /// let healthy = db.ping().await.is_ok();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: when no connection became free in time, or the connection was lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is cleaned up like that of a transaction.
    pub async fn ping(&self) -> Result<()> {
        let inner = &self.inner;
        let lease = Lease::new(pool::take(&inner.pool, &inner.config).await?, inner.pool.clone());
        let flight = lease.begin_statement();
        let answer = message::run(lease.connection().client(), "select 1").await.and_then(message::Answer::complete);
        flight.finish_statement();
        match answer {
            Ok(_) => {
                lease.release();
                Ok(())
            }
            Err(error) => {
                lease.discard();
                Err(while_doing("ping the server")(error))
            }
        }
    }

    /// Returns the current load of the pool, without a query.
    pub fn pool_status(&self) -> PoolStatus {
        let status = self.inner.pool.status();
        PoolStatus {
            size_max: self.inner.config.pool().size_max,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    /// Closes the pool, for this handle and its clones. Waits until running transactions have ended, at most until the
    /// deadline. A call that waits for a connection, or that starts later, fails with
    /// [`ConnectionError::PoolClosed`](crate::ConnectionError::PoolClosed).
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) {
    /// use std::time::Duration;
    /// if let cgk::Closed::StillInUse(left) = db.close(Duration::from_secs(10)).await {
    ///     eprintln!("{left} transactions did not end in time");
    /// }
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// The pool is closed when the future is first polled. If the future is dropped then, the pool stays closed.
    pub async fn close(&self, deadline: Duration) -> Closed {
        let pool = &self.inner.pool;
        let began = Instant::now();
        pool.close();
        self.inner.closed.send_replace(true);
        loop {
            match pool.status().size {
                0 => return Closed::Drained,
                left if began.elapsed() >= deadline => return Closed::StillInUse(left),
                _ => tokio::time::sleep(DRAIN_INTERVAL.min(deadline)).await,
            }
        }
    }

    /// Waits until [`close`](Self::close) is called.
    #[cfg(feature = "platform")]
    pub(crate) async fn until_closed(&self) {
        // The sender is not dropped while this handle exists.
        let _ = self.inner.closed.subscribe().wait_for(|closed| *closed).await;
    }
}
