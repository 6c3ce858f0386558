//! Finds the event that makes the statements of a queue fail, and gives it up, so that the other events are delivered.
//!
//! A row may hold what its constraints no longer allow, or what the server cannot write as text. Statements over many rows fail then
//! without naming the row; so each event is tried in a transaction of its own.

use super::{SinkError, cloud_event::COLUMNS, queue};
use crate::{
    platform::{PlatformError, Result},
    tenancy::{Db, PlatformTx},
};
use std::time::Duration;
use uuid::Uuid;

/// Those that the failed statements may have read or changed.
const SUSPECTS: &str = "
    (select e.id from public.domain_events e
      where e.queue_id = $1 and e.status = 'pending' and e.sequence is not null order by e.sequence limit $2)
    union all
    (select e.id from public.domain_events e
      where e.queue_id = $1 and e.status = 'pending' and e.sequence is null order by e.sequence, e.position limit $3)";

/// What was done with the suspects of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Isolated {
    /// So many were given up.
    pub(super) dead: u64,
    /// Whether the queue is put off, because no event was found, or one cannot be given up.
    pub(super) is_put_off: bool,
}

/// Whether the error is about a row and not about the connection, the rights or the tables.
pub(super) fn is_of_row(error: &PlatformError) -> bool {
    let PlatformError::Database(error) = error else { return false };
    // Data that is invalid, breaks a constraint, is too much or damaged.
    error.sqlstate().is_some_and(|state| {
        let code = state.code();
        code == "53200" || ["22", "23", "54", "XX"].iter().any(|class| code.starts_with(class))
    })
}

/// Tries each event of the queue, and gives up those that fail for what their rows hold. `numbered` is the size of a batch.
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
            // Another relay has the queue, and finds the same.
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

/// False where another relay has the queue.
async fn with_lock(
    tx: &PlatformTx<'_>,
    queue: Uuid,
    idle_max: &str,
    work: impl Future<Output = Result<()>>,
) -> Result<bool> {
    // What failed may have rolled the row back.
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

/// Without the server's text, which may quote the row.
fn described(error: &PlatformError) -> String {
    let code = match error {
        PlatformError::Database(error) => error.sqlstate().map_or("none", |state| state.code()),
        _ => "none",
    };
    SinkError::new(&format_args!("the database cannot read or change the event: SQLSTATE {code}")).to_string()
}
