//! Cancels running work.

use super::interrupt::Interrupt;
use crate::{db::Operator, error::Error};
use std::{future::Future, pin::pin, time::Duration};
use tokio_postgres::error::SqlState;

/// The time after a cancel request until it is repeated.
const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Runs work, and cancels it at the second stage of an interrupt. The result of the work shows what happened.
pub(crate) async fn cancellable<T>(operator: &Operator, interrupt: &Interrupt, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = interrupt.cancelling() => {}
    }
    // A cancel request has no effect between two messages of the work, so it is repeated.
    loop {
        let asking = async {
            operator.cancel().await;
            tokio::time::sleep(CANCEL_AGAIN_AFTER).await;
        };
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            () = asking => {}
        }
    }
}

/// Returns whether an error is the result of a cancellation by [`cancellable`].
pub(crate) fn was_cancelled(interrupt: &Interrupt, error: &Error) -> bool {
    interrupt.is_cancelling() && error.sqlstate() == Some(&SqlState::QUERY_CANCELED)
}
