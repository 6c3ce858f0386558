//! How work under way is cancelled.

use super::interrupt::Interrupt;
use crate::{db::Operator, error::Error};
use std::{future::Future, pin::pin, time::Duration};
use tokio_postgres::error::SqlState;

/// How long cancelled work may go on before it is asked to end once more.
const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Lets work be cancelled by the second stage of an interrupt; the work's own answer tells what became of it.
pub(crate) async fn cancellable<T>(operator: &Operator, interrupt: &Interrupt, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        outcome = &mut work => return outcome,
        () = interrupt.cancelling() => {}
    }
    // A request that comes between two messages of the work meets nothing, and is sent again.
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

/// Whether an error is how work ends that [`cancellable`] cancelled.
pub(crate) fn was_cancelled(interrupt: &Interrupt, error: &Error) -> bool {
    interrupt.is_cancelling() && error.sqlstate() == Some(&SqlState::QUERY_CANCELED)
}
