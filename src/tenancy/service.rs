//! What a service asks of its pool: whether the server answers, how busy the pool is, and its end.

use super::{Db, lease::Lease};
use crate::{
    db::{message, pool},
    error::{Result, while_doing},
};
use std::time::{Duration, Instant};

/// How busy a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The most connections there may be.
    pub size_max: usize,
    /// The connections there are.
    pub size: usize,
    /// The connections that nothing uses just now.
    pub idle: usize,
    /// The calls that wait for a connection.
    pub waiting: usize,
}

/// How a pool was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// No connection of the pool is left.
    Drained,
    /// So many connections were still in use at the deadline; each is closed when its transaction ends.
    StillInUse(usize),
}

/// How often the end of the last transactions is looked for.
const DRAIN_INTERVAL: Duration = Duration::from_millis(5);

impl<E> Db<E> {
    /// Asks the server for an answer, on a connection of the pool. For a health check: it needs no tenant and no table.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) {
    /// let healthy = db.ping().await.is_ok();
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: no connection in time, or it was lost.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is cleaned up like that of a transaction.
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

    /// How busy the pool is at this moment. Asks nothing of the server.
    pub fn pool_status(&self) -> PoolStatus {
        let status = self.inner.pool.status();
        PoolStatus {
            size_max: self.inner.config.pool().size_max,
            size: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    /// Closes the pool, for this handle and its clones, and waits for the transactions under way, at most to the deadline. A
    /// call that waits for a connection, or comes later, fails with [`ConnectionError::PoolClosed`](crate::ConnectionError::PoolClosed).
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
    /// The pool is closed when this is first polled, and stays so.
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

    /// Waits until [`close`](Self::close) was called.
    #[cfg(feature = "platform")]
    pub(crate) async fn until_closed(&self) {
        // The sender lives as long as this handle.
        let _ = self.inner.closed.subscribe().wait_for(|closed| *closed).await;
    }
}
