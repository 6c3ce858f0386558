//! A part of a transaction that can be rolled back separately.

use super::{failure::SeenStatements, shared::Shared};
use crate::{db::message::Message, error::Result};
use futures_util::FutureExt;
use std::ops::{Deref, DerefMut};

/// A part of a transaction that can be rolled back separately; from [`TenantTx::savepoint`](super::TenantTx::savepoint)
/// or [`PlatformTx::savepoint`](super::PlatformTx::savepoint). `T` is that transaction, inside the savepoint.
#[must_use = "a savepoint that is not released is rolled back"]
pub struct Savepoint<'t, T> {
    tx: T,
    shared: &'t Shared,
    /// The number of enclosing savepoints, including this one.
    depth: usize,
    state: SavepointState,
    /// What was known about the transaction's statements before the savepoint. A rollback restores it.
    seen_before: SeenStatements,
}

#[derive(PartialEq, Eq)]
enum SavepointState {
    Open,
    /// Released, or never set.
    Closed,
}

impl<'t, T> Savepoint<'t, T> {
    /// Sets a savepoint at this depth.
    pub(super) async fn set(shared: &'t Shared, depth: usize, tx: T) -> Result<Self> {
        // If the future is dropped here, nothing was sent, and there is nothing to roll back.
        shared.may_send().await?;
        // The savepoint counts as open before it is sent. If the future is dropped before the response, the savepoint
        // is rolled back.
        let mut savepoint =
            Self { tx, shared, depth, state: SavepointState::Open, seen_before: shared.failures.save() };
        let outcome = shared.command(&format!("savepoint {}", savepoint.name())).await;
        if outcome.is_err() {
            savepoint.state = SavepointState::Closed;
        }
        outcome.map(|()| savepoint)
    }

    /// Keeps the changes since the savepoint. They are committed with the transaction.
    ///
    /// # Errors
    ///
    /// Same as [`TenantTx::query`](super::TenantTx::query). The part is then rolled back. Kind `Refused`: when the
    /// driver refused a statement in the part. (After a failed statement, the server refuses to release in the same
    /// way.)
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after it was polled, the changes since the savepoint are not undone. If a statement in
    /// the part had failed, the transaction cannot commit.
    pub async fn release(mut self) -> Result<()> {
        // The server also refuses to release a savepoint after a failed statement.
        if self.shared.failures.has_refused_since(&self.seen_before) {
            return Err(self.shared.scope.aborted(None));
        }
        let sql = format!("release savepoint {}", self.name());
        // The RELEASE is in flight from here on. A ROLLBACK TO sent after it would not find the savepoint.
        self.state = SavepointState::Closed;
        let outcome = self.shared.command(&sql).await;
        if outcome.is_err() {
            self.state = SavepointState::Open;
        }
        outcome
    }

    fn name(&self) -> String {
        format!("cgk_{}", self.depth)
    }
}

impl<T> Drop for Savepoint<'_, T> {
    fn drop(&mut self) {
        if self.state == SavepointState::Open {
            // The message is queued on the connection after the statements in flight and before the caller's next
            // statement. No code waits for the response. If it fails, everything after it fails too.
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
