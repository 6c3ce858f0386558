//! Finds the event that makes the statements of a queue fail, and marks it as dead, so that the other events are
//! delivered.
//!
//! A row may contain data that its constraints no longer allow, or that the server cannot write as text. Then
//! statements over many rows fail without naming the row. For this reason each event is tried in a separate
//! transaction.

use super::{SinkError, cloud_event::COLUMNS, queue};
use crate::{
    platform::{PlatformError, Result},
    tenancy::{Db, PlatformTx},
};
use std::time::Duration;
use uuid::Uuid;

/// The events that the failed statements may have read or changed.
const SUSPECTS: &str = "
    (select e.id from public.domain_events e
      where e.queue_id = $1 and e.status = 'pending' and e.sequence is not null order by e.sequence limit $2)
    union all
    (select e.id from public.domain_events e
      where e.queue_id = $1 and e.status = 'pending' and e.sequence is null order by e.sequence, e.position limit $3)";

/// The result of the check of a queue's events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Isolated {
    /// The number of events that were marked as dead.
    pub(super) dead: u64,
    /// Whether the queue is postponed, because no event was found or an event cannot be marked as dead.
    pub(super) is_put_off: bool,
}

/// Returns whether the error is about a row, and not about the connection, the rights or the tables.
pub(super) fn is_of_row(error: &PlatformError) -> bool {
    let PlatformError::Database(error) = error else { return false };
    // Data that is invalid, violates a constraint, is too large or is damaged.
    error.sqlstate().is_some_and(|state| {
        let code = state.code();
        code == "53200" || ["22", "23", "54", "XX"].iter().any(|class| code.starts_with(class))
    })
}

/// Tries each event of the queue. Marks those as dead whose rows make the statements fail. `numbered` is the size of a
/// batch.
pub(super) async fn isolate(
    db: &Db<PlatformError>,
    queue: Uuid,
    idle_max: &str,
    numbered: i64,
    pause: Duration,
    cause: &PlatformError,
) -> Result<Isolated> {
    let platform = db.platform();
    let rows = platform.query(SUSPECTS, &[&queue, &numbered, &queue::NUMBERED_AT_ONCE]).await?;
    let mut isolated = Isolated::default();
    for row in &rows {
        let event: Uuid = row.get(0);
        let probed = platform.transaction(async |tx| with_lock(tx, queue, idle_max, probe(tx, event)).await).await;
        let failed = match probed {
            Ok(true) => continue,
            // Another relay has the queue, and will find the same.
            Ok(false) => return Ok(isolated),
            Err(error) if is_of_row(&error) => described(&error),
            Err(error) => return Err(error),
        };
        tracing::warn!(event = %event, queue = %queue, error = %failed, "an event was given up");
        let buried = platform
            .transaction(async |tx| with_lock(tx, queue, idle_max, queue::dead(tx, event, &failed)).await)
            .await;
        match buried {
            Ok(true) => isolated.dead += 1,
            Ok(false) => return Ok(isolated),
            Err(error) if is_of_row(&error) => {
                let error = described(&error);
                tracing::warn!(event = %event, queue = %queue, %error, "an event cannot be given up; its queue waits. \
                    Run `cgk migrate --public`, or correct the row");
                isolated.is_put_off = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    isolated.is_put_off |= isolated.dead == 0;
    if isolated.is_put_off {
        tracing::warn!(queue = %queue, error = %described(cause), "a queue of events cannot be delivered; it waits");
        platform.transaction(async |tx| with_lock(tx, queue, idle_max, queue::put_off(tx, queue, pause)).await).await?;
    }
    Ok(isolated)
}

/// Returns false if another relay has the queue.
async fn with_lock(
    tx: &PlatformTx<'_>,
    queue: Uuid,
    idle_max: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<bool> {
    // The failure may have rolled the row back.
    queue::ensure(tx, queue).await?;
    if queue::lock(tx, queue, idle_max).await?.is_none() {
        return Ok(false);
    }
    work.await?;
    Ok(true)
}

/// Reads and changes the row as a delivery does.
async fn probe(tx: &PlatformTx<'_>, event: Uuid) -> Result<()> {
    let sql = format!(
        "update public.domain_events e set attempts = e.attempts where e.id = $1 and e.status = 'pending' returning {COLUMNS}"
    );
    tx.query_opt(&sql, &[&event]).await?;
    Ok(())
}

/// Describes the error without the server's text, which may quote the row.
fn described(error: &PlatformError) -> String {
    let code = match error {
        PlatformError::Database(error) => error.sqlstate().map_or("none", |state| state.code()),
        _ => "none",
    };
    SinkError::new(&format_args!("the database cannot read or change the event: SQLSTATE {code}")).to_string()
}
