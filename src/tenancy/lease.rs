//! A pooled connection on loan to one transaction, and what becomes of it when that ends.

use super::exit::{Leftovers, roll_back};
use crate::{
    config::Pooling,
    db::{
        message::{self, Answer},
        pool::{self, Connection, Pool},
    },
    sqlstate::{self, StatementVerdict},
    telemetry::{self, Retired},
};
use deadpool::managed::Object;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// How long a connection with a statement still running may take to answer a ROLLBACK before that statement is cancelled.
/// Short, because somebody may wait for what it locks; long enough for a statement that was about to end.
const RUNNING_GRACE: Duration = Duration::from_millis(5);
/// The same where nothing is running: one round trip, on whatever network.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// A connection on loan. Dropped before [`Lease::release`], for whatever reason, it is cleaned up by a task of its own:
/// rolled back and returned to the pool, or, when it does not answer at once, cancelled and thrown away. A connection to
/// which a cancel request was sent never returns to the pool: the request may arrive late and hit the next user.
pub(crate) struct Lease {
    object: Option<pool::Lease>,
    pool: Pool,
    running: Arc<AtomicUsize>,
    /// Cleared when the session holds something that no scrub takes away.
    reusable: AtomicBool,
    /// Cleared when driver and server disagree about whose turn it is: nothing more would be answered.
    answering: AtomicBool,
}

impl Lease {
    pub(crate) fn new(object: pool::Lease, pool: Pool) -> Self {
        Self {
            object: Some(object),
            pool,
            running: Arc::default(),
            reusable: AtomicBool::new(true),
            answering: AtomicBool::new(true),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.object.as_ref().expect("the connection is on loan until the lease is consumed")
    }

    /// Marks a statement as running; it counts as running for good when the flight is dropped before it has landed.
    pub(crate) fn begin_statement(&self) -> InFlightGuard {
        self.running.fetch_add(1, Ordering::Relaxed);
        InFlightGuard { running: Arc::clone(&self.running) }
    }

    /// Keeps the connection from being used by anybody after this transaction.
    pub(crate) fn mark_unusable(&self) {
        self.reusable.store(false, Ordering::Relaxed);
    }

    fn is_reusable(&self) -> bool {
        self.reusable.load(Ordering::Relaxed)
    }

    /// Judges what the scrub found in the session. A connection that is not as it was is not used again.
    pub(crate) fn judge_scrub(&self, answer: &Answer) {
        if !is_as_it_was(self.connection(), self.pool.manager().pooling(), answer) {
            tracing::debug!(
                "the transaction left prepared statements in the session or dropped ours; connection discarded"
            );
            self.mark_unusable();
        }
    }

    /// What a statement's failure says of the connection.
    pub(crate) fn judge_failure(&self, source: &tokio_postgres::Error) {
        if sqlstate::is_out_of_step(source) {
            self.mark_desynchronized();
        }
        // Statements by which the driver looks types up are gone: it would ask for them again.
        if sqlstate::verdict_on_statement(source) == StatementVerdict::AllGone {
            self.mark_unusable();
        }
    }

    /// Notes that nothing more will be answered on the connection.
    pub(crate) fn mark_desynchronized(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Returns a connection that is known to be clean.
    pub(crate) fn release(mut self) {
        if !self.is_reusable() {
            return self.discard();
        }
        drop(self.object.take());
    }

    /// Throws a connection away that cannot be trusted; nothing is running on it.
    pub(crate) fn discard(mut self) {
        if let Some(object) = self.object.take() {
            telemetry::connection_retired(Retired::Unusable);
            drop(Object::take(object));
        }
    }

    /// Rolls back and waits for that, so that the caller finds its locks released.
    pub(crate) async fn roll_back(mut self) {
        if let Some(cleaning) = self.cleaning() {
            // In a task of its own: a caller who stops waiting here must not stop the cleaning.
            let _ = tokio::spawn(cleaning.run()).await;
        }
    }

    fn cleaning(&mut self) -> Option<Cleaning> {
        let object = self.object.take()?;
        let grace = match (self.is_answering(), self.running.load(Ordering::Relaxed)) {
            (false, _) => Duration::ZERO,
            (true, 0) => IDLE_GRACE,
            (true, _) => RUNNING_GRACE,
        };
        let reusable = self.is_reusable();
        Some(Cleaning { object: Some(object), pool: self.pool.clone(), grace, reusable })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without a runtime there is nobody to wait for an answer: the closed socket makes the server roll back.
        if let Some(cleaning) = self.cleaning()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(cleaning.run());
        }
    }
}

/// A connection that has to be cleaned up. Dropped before that is done, as when its runtime shuts down, it is thrown away.
struct Cleaning {
    object: Option<pool::Lease>,
    pool: Pool,
    grace: Duration,
    reusable: bool,
}

impl Cleaning {
    async fn run(mut self) {
        let Some(object) = &self.object else { return };
        let client = object.client();
        let roll_back = roll_back(self.pool.manager().pooling());
        let rolled_back = match self.grace.is_zero() {
            true => None,
            false => tokio::time::timeout(self.grace, message::run(client, &roll_back)).await.ok(),
        };
        if let Some(Ok(answer)) = rolled_back
            && answer.error.is_none()
        {
            if self.reusable && is_as_it_was(object, self.pool.manager().pooling(), &answer) {
                drop(self.object.take());
            }
            return;
        }
        let cancel = self.pool.manager().cancel(client.cancel_token());
        // Out of the pool first, so that its place is free while the cancel request is on its way.
        drop(self);
        cancel.await;
    }
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

/// Whether a session holds the prepared statements that it should, by the answer to the scrub, whose last statement asks.
fn is_as_it_was(connection: &Connection, pooling: Pooling, answer: &Answer) -> bool {
    // Behind a pooler they were dropped, and nobody asked.
    if pooling == Pooling::Transaction {
        return true;
    }
    let mut leftovers = Leftovers::default();
    for (_, row) in answer.rows.iter().filter(|(statement, _)| statement + 1 == answer.completed) {
        leftovers.count(row.get(0), row.get(1));
    }
    connection.has_its_statements(leftovers.entry, leftovers.drivers) && leftovers.others == 0
}

/// A statement on its way.
pub(crate) struct InFlightGuard {
    running: Arc<AtomicUsize>,
}

impl InFlightGuard {
    /// The server has answered.
    pub(crate) fn finish_statement(self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
