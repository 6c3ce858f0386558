//! A pooled connection on loan to one transaction, and what becomes of it when that ends.

use super::protocol::ROLL_BACK;
use crate::db::{
    message,
    pool::{self, Connection, Pool},
};
use deadpool::managed::Object;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// How long a connection with a statement still running may take to answer a ROLLBACK before that statement is cancelled.
/// Short, because somebody may wait for what it locks; long enough for a statement that was about to end.
const RUNNING_GRACE: Duration = Duration::from_millis(5);
/// The same where nothing is running: one round trip, on whatever network.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// A connection on loan. Dropped before [`Lease::give_back`], for whatever reason, it is cleaned up by a task of its own:
/// rolled back and returned to the pool, or, when it does not answer at once, cancelled and thrown away. A connection to
/// which a cancel request was sent never returns to the pool: the request may arrive late and hit the next user.
pub(crate) struct Lease {
    object: Option<pool::Lease>,
    pool: Pool,
    running: AtomicUsize,
}

impl Lease {
    pub(crate) fn new(object: pool::Lease, pool: Pool) -> Self {
        Self { object: Some(object), pool, running: AtomicUsize::new(0) }
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.object.as_ref().expect("the connection is on loan until the lease is consumed")
    }

    /// Marks a statement as running; it counts as running for good when the flight is dropped before it has landed.
    pub(crate) fn take_off(&self) -> Flight<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Flight { running: &self.running }
    }

    /// Returns a connection that is known to be clean.
    pub(crate) fn give_back(mut self) {
        drop(self.object.take());
    }

    /// Throws a connection away that cannot be trusted; nothing is running on it.
    pub(crate) fn throw_away(mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }

    /// Rolls back and waits for that, so that the caller finds its locks released.
    pub(crate) async fn roll_back(mut self) {
        if let Some(object) = self.object.take() {
            let cleaning = clean(object, self.pool.clone(), self.grace());
            // In a task of its own: a caller who stops waiting here must not stop the cleaning.
            let _ = tokio::spawn(cleaning).await;
        }
    }

    fn grace(&self) -> Duration {
        if self.running.load(Ordering::Relaxed) == 0 { IDLE_GRACE } else { RUNNING_GRACE }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(clean(object, self.pool.clone(), self.grace()));
            }
            // No runtime, nobody to wait for an answer: the closed socket makes the server roll back.
            Err(_) => drop(Object::take(object)),
        }
    }
}

async fn clean(object: pool::Lease, pool: Pool, grace: Duration) {
    let rolled_back = tokio::time::timeout(grace, message::run(object.client(), ROLL_BACK)).await;
    if matches!(rolled_back, Ok(Ok(answer)) if answer.error.is_none()) {
        return;
    }
    let cancel = pool.manager().cancel(object.client().cancel_token());
    // Out of the pool first, so that its place is free while the cancel request is on its way.
    drop(Object::take(object));
    cancel.await;
}

/// A statement on its way.
pub(crate) struct Flight<'a> {
    running: &'a AtomicUsize,
}

impl Flight<'_> {
    /// The server has answered.
    pub(crate) fn land(self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}
