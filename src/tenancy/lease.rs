//! A pooled connection that one transaction uses, and its cleanup afterwards.

use super::{
    exit::{Leftovers, roll_back},
    tenant_limit::TenantSlot,
};
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

/// The time that a connection with a running statement has to respond to a ROLLBACK before that statement is cancelled.
/// It is short, because other sessions may wait for the statement's locks. It is long enough for a statement that is
/// about to end.
const RUNNING_GRACE: Duration = Duration::from_millis(5);
/// The same time if no statement is running. It is enough for one round trip on any network.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// A connection that one transaction uses.
/// "Lease" is the usual word for a connection that was taken out of a pool for a limited time.
///
/// If it is dropped before [`Lease::release`], a separate task cleans the connection up: it rolls back and returns the
/// connection to the pool. If the connection does not respond at once, the task sends a cancel request and discards the
/// connection. A connection to which a cancel request was sent never returns to the pool, because the request may
/// arrive late and reach the next user.
pub(crate) struct Lease {
    object: Option<pool::PooledConnection>,
    pool: Pool,
    /// The tenant's place. It becomes free after the connection has left.
    place: Option<TenantSlot>,
    running: Arc<AtomicUsize>,
    /// False if the session contains state that no scrub removes.
    reusable: AtomicBool,
    /// False if the driver and the server are out of sync. Then no further response would arrive.
    answering: AtomicBool,
}

impl Lease {
    pub(crate) fn new(object: pool::PooledConnection, pool: Pool) -> Self {
        Self {
            object: Some(object),
            pool,
            place: None,
            running: Arc::default(),
            reusable: AtomicBool::new(true),
            answering: AtomicBool::new(true),
        }
    }

    /// Keeps the tenant's place until the connection is in the pool again, or was discarded.
    pub(super) fn in_place(mut self, place: Option<TenantSlot>) -> Self {
        self.place = place;
        self
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.object.as_ref().expect("the connection is on loan until the lease is consumed")
    }

    /// Marks a statement as running. The mark remains if the guard is dropped before the response arrives.
    pub(crate) fn begin_statement(&self) -> InFlightGuard {
        self.running.fetch_add(1, Ordering::Relaxed);
        InFlightGuard { running: Arc::clone(&self.running) }
    }

    /// Prevents the connection from being used after this transaction.
    pub(crate) fn mark_unusable(&self) {
        self.reusable.store(false, Ordering::Relaxed);
    }

    fn is_reusable(&self) -> bool {
        self.reusable.load(Ordering::Relaxed)
    }

    /// Checks the result of the scrub. A connection that is not fully reset is not used again.
    pub(crate) fn judge_scrub(&self, answer: &Answer) {
        if !is_as_it_was(self.connection(), self.pool.manager().pooling(), answer) {
            tracing::debug!(
                "the transaction left prepared statements in the session or dropped ours; connection discarded"
            );
            self.mark_unusable();
        }
    }

    /// Decides from a statement's failure whether the connection can still be used.
    pub(crate) fn judge_failure(&self, source: &tokio_postgres::Error) {
        if sqlstate::is_out_of_step(source) {
            self.mark_desynchronized();
        }
        // The driver's statements for type lookups were dropped, and the driver would use them again.
        if sqlstate::verdict_on_statement(source) == StatementVerdict::AllGone {
            self.mark_unusable();
        }
    }

    /// Marks the connection as out of sync with the server.
    pub(crate) fn mark_desynchronized(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_answering(&self) -> bool {
        self.answering.load(Ordering::Relaxed)
    }

    /// Returns a connection to the pool. The connection is known to be clean.
    pub(crate) fn release(mut self) {
        if !self.is_reusable() {
            return self.discard();
        }
        drop(self.object.take());
        pool::record_load(&self.pool);
    }

    /// Discards a connection that may be unsafe. No statement is running on it.
    pub(crate) fn discard(mut self) {
        if let Some(object) = self.object.take() {
            telemetry::connection_retired(Retired::Unusable);
            drop(Object::take(object));
            pool::record_load(&self.pool);
        }
    }

    /// Rolls back and waits for the response, so that the locks are released when the caller continues.
    pub(crate) async fn roll_back(mut self) {
        if let Some(cleaning) = self.cleaning() {
            // The cleanup runs in its own task, because it must continue if the caller is dropped here.
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
        Some(Cleaning { object: Some(object), pool: self.pool.clone(), _place: self.place.take(), grace, reusable })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without a runtime, no task can wait for a response. The connection is then closed, and the server rolls back.
        if let Some(cleaning) = self.cleaning()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(cleaning.run());
        }
    }
}

/// A connection that needs a cleanup. If this value is dropped before the cleanup is done, for instance when its
/// runtime shuts down, the connection is discarded.
struct Cleaning {
    object: Option<pool::PooledConnection>,
    pool: Pool,
    _place: Option<TenantSlot>,
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
        // The connection leaves the pool first, so that its place is free while the cancel request is sent. It is
        // closed last: when a client closes its connection, a pooler forgets which server session a cancel request
        // refers to.
        let cancel = self.pool.manager().cancel(client.cancel_token());
        let closed_last = self.object.take().map(Object::take);
        drop(self);
        cancel.await;
        drop(closed_last);
    }
}

impl Drop for Cleaning {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
        pool::record_load(&self.pool);
    }
}

/// Returns whether a session has the expected prepared statements, by the response to the last statement of the scrub.
fn is_as_it_was(connection: &Connection, pooling: Pooling, answer: &Answer) -> bool {
    // Behind a pooler the prepared statements were dropped, and the scrub does not return them.
    if pooling == Pooling::Transaction {
        return true;
    }
    let mut leftovers = Leftovers::default();
    for (_, row) in answer.rows.iter().filter(|(statement, _)| statement + 1 == answer.completed) {
        leftovers.count(row.get(0), row.get(1));
    }
    connection.has_its_statements(leftovers.entry, leftovers.drivers) && leftovers.others == 0
}

/// A statement whose response has not arrived.
pub(crate) struct InFlightGuard {
    running: Arc<AtomicUsize>,
}

impl InFlightGuard {
    /// Records that the server has responded.
    pub(crate) fn finish_statement(self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
