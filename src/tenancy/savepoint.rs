//! A part of a transaction that can be undone on its own.

use super::{failure::Seen, shared::Shared};
use crate::{db::message::Message, error::Result};
use futures_util::FutureExt;
use std::ops::{Deref, DerefMut};

/// A part of a transaction that can be undone on its own; from [`TenantTx::savepoint`](super::TenantTx::savepoint) or
/// [`PlatformTx::savepoint`](super::PlatformTx::savepoint). `T` is that transaction, inside the savepoint.
#[must_use = "a savepoint that is not released is rolled back"]
pub struct Savepoint<'t, T> {
    tx: T,
    shared: &'t Shared,
    /// The number of savepoints around what it is in, and itself.
    depth: usize,
    state: State,
    /// What was known of the transaction's statements before: a failure inside is forgotten when it is undone.
    seen_before: Seen,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// Released, or never made.
    Closed,
}

impl<'t, T> Savepoint<'t, T> {
    /// Sets a savepoint at this depth.
    pub(super) async fn set(shared: &'t Shared, depth: usize, tx: T) -> Result<Self> {
        // Dropped here, nothing was sent, and nothing is to be rolled back.
        shared.may_send().await?;
        // Open before it is sent: dropped while the answer is on its way, it is rolled back.
        let mut savepoint = Self { tx, shared, depth, state: State::Open, seen_before: shared.failures.save() };
        let outcome = shared.command(&format!("savepoint {}", savepoint.name())).await;
        if outcome.is_err() {
            savepoint.state = State::Closed;
        }
        outcome.map(|()| savepoint)
    }

    /// Keeps what was done since the savepoint; it is committed with the transaction.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`](super::TenantTx::query); the part is then rolled back. Kind `Refused` where the driver refused a
    /// statement in it, as the server refuses where it did.
    ///
    /// # Cancel safety
    ///
    /// Dropped once it was polled, the part is kept, or, where something in it had failed, the transaction cannot commit.
    pub async fn release(mut self) -> Result<()> {
        // As the server refuses to release what holds a failed statement.
        if self.shared.failures.has_refused_since(&self.seen_before) {
            return Err(self.shared.scope.aborted(None));
        }
        let sql = format!("release savepoint {}", self.name());
        // On its way from here on: a ROLLBACK TO sent behind it would not find the savepoint.
        self.state = State::Closed;
        let outcome = self.shared.command(&sql).await;
        if outcome.is_err() {
            self.state = State::Open;
        }
        outcome
    }

    fn name(&self) -> String {
        format!("cgk_{}", self.depth)
    }
}

impl<T> Drop for Savepoint<'_, T> {
    fn drop(&mut self) {
        if self.state == State::Open {
            // Queued on the connection behind what is on its way, before whatever the caller sends next. Nothing waits for
            // the answer: should it fail, so does everything behind it.
            let name = self.name();
            let sql = format!("rollback to savepoint {name}; release savepoint {name}");
            let _ = Message::send(self.shared.client(), &sql).now_or_never();
            self.shared.failures.restore(std::mem::take(&mut self.seen_before));
        }
    }
}

impl<T> Deref for Savepoint<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.tx
    }
}

impl<T> DerefMut for Savepoint<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.tx
    }
}
