//! The queues of the outbox, one for each organization: which are due, which relay delivers, and in which order.
//!
//! Events are written in the order of `position`. They become visible in another order: a transaction that wrote early
//! may commit late. A relay that remembered the last position would lose such an event. For this reason no position is
//! remembered, and each event has a status. The relay that has a queue locked assigns the next numbers of the queue
//! (`sequence`) to the events that it sees for the first time. It commits these numbers before it delivers anything.
//! Events that commit later get higher numbers. A snapshot that shows a transaction also shows every transaction that
//! had committed before it began. So an event that was caused by another event has a higher number than its cause.

use super::cloud_event::COLUMNS;
use crate::{
    platform::{PlatformError, Result},
    tenancy::{Db, PlatformTx},
};
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// The maximum number of queues that one query finds.
const QUEUES_AT_ONCE: i64 = 64;
/// How many events are numbered at a time.
pub(super) const NUMBERED_AT_ONCE: i64 = 1000;

/// The recursion makes one step for each queue. Its cost depends on the number of queues, not of events.
const DUE: &str = "
    with recursive pending (queue_id) as (
        (select e.queue_id from public.domain_events e where e.status = 'pending' and e.queue_id >= $1
          order by e.queue_id limit 1)
        union all
        select (select e.queue_id from public.domain_events e where e.status = 'pending' and e.queue_id > p.queue_id
                 order by e.queue_id limit 1)
          from pending p where p.queue_id is not null)
    select p.queue_id,
           exists (select from public.domain_events e
                    where e.queue_id = p.queue_id and e.status = 'pending' and e.sequence is null)
      from pending p left join public.domain_event_queues q on q.queue_id = p.queue_id
     where p.queue_id is not null and coalesce(q.attempt_at <= pg_catalog.clock_timestamp(), true)
     limit $2";

const ENSURE: &str = "insert into public.domain_event_queues (queue_id) values ($1) on conflict (queue_id) do nothing";

/// Checks the time again after the lock is granted, because another relay may have postponed the queue meanwhile.
const LOCK: &str = "
    select q.last_sequence, pg_catalog.set_config('idle_in_transaction_session_timeout', $2, true)
      from public.domain_event_queues q
     where q.queue_id = $1 and q.attempt_at <= pg_catalog.clock_timestamp() for update skip locked";

const NUMBER: &str = "
    with found as (
        select e.id, pg_catalog.row_number() over (order by e.position) as place
          from (select i.id, i.position from public.domain_events i
                 where i.queue_id = $1 and i.status = 'pending' and i.sequence is null
                 order by i.sequence, i.position limit $3) e),
    numbered as (
        update public.domain_events d set sequence = $2 + f.place from found f where d.id = f.id returning 1)
    update public.domain_event_queues q set last_sequence = $2 + (select pg_catalog.count(*) from numbered)
     where q.queue_id = $1";

const DELIVERED: &str = "
    update public.domain_events set status = 'delivered', attempts = attempts + 1, error = null,
           finished_at = pg_catalog.clock_timestamp()
     where id = any ($1::pg_catalog.uuid[])";

const DEAD: &str = "
    update public.domain_events set status = 'dead', attempts = attempts + 1, error = $2,
           finished_at = pg_catalog.clock_timestamp() where id = $1";

const FAILED: &str = "
    with event as (update public.domain_events set attempts = attempts + 1, error = $2 where id = $1)
    update public.domain_event_queues
       set attempt_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4) where queue_id = $3";

const PUT_OFF: &str = "
    update public.domain_event_queues
       set attempt_at = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $2) where queue_id = $1";

const NEXT_DUE: &str = "
    select pg_catalog.extract('epoch', pg_catalog.min(q.attempt_at) - pg_catalog.clock_timestamp())::pg_catalog.float8
      from public.domain_event_queues q where q.attempt_at > pg_catalog.clock_timestamp()";

/// A queue that has events to deliver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) queue: Uuid,
    /// Whether it has events without a number.
    pub(super) has_new: bool,
}

/// Returns the due queues, starting with this one, in the order of their ids. If it returns the maximum of one query,
/// there may be more.
pub(super) async fn due(db: &Db<PlatformError>, from: Uuid) -> Result<Vec<Due>> {
    let rows = db.platform().query(DUE, &[&from, &QUEUES_AT_ONCE]).await?;
    Ok(rows.iter().map(|row| Due { queue: row.get(0), has_new: row.get(1) }).collect())
}

/// Returns the time until the next postponed queue is due.
pub(super) async fn next_due(db: &Db<PlatformError>) -> Result<Option<Duration>> {
    let seconds: Option<f64> = db.platform().query_one(NEXT_DUE, &[]).await?.get(0);
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)))
}

/// Assigns numbers to the events that have none, and commits them. Does nothing if another relay has the queue.
pub(super) async fn number(db: &Db<PlatformError>, queue: Uuid, idle_max: &str) -> Result<()> {
    db.platform()
        .transaction(async |tx| {
            ensure(tx, queue).await?;
            // This is a separate statement, so that the next one sees what was committed before the lock was granted.
            if let Some(last) = lock(tx, queue, idle_max).await? {
                tx.execute(NUMBER, &[&queue, &last, &NUMBERED_AT_ONCE]).await?;
            }
            Ok(())
        })
        .await
}

/// Creates the queue's row if it is missing. This is a separate statement, so that the next one sees the row.
pub(super) async fn ensure(tx: &PlatformTx<'_>, queue: Uuid) -> Result<()> {
    tx.execute(ENSURE, &[&queue]).await?;
    Ok(())
}

/// Locks a queue until the end of the transaction and returns its last number. `None`: another relay has the queue, or
/// it is not due.
pub(super) async fn lock(tx: &PlatformTx<'_>, queue: Uuid, idle_max: &str) -> Result<Option<i64>> {
    Ok(tx.query_opt(LOCK, &[&queue, &idle_max]).await?.map(|row| row.get(0)))
}

/// Returns the next numbered events of a queue.
pub(super) async fn next(tx: &PlatformTx<'_>, queue: Uuid, limit: i64) -> Result<Vec<Row>> {
    let sql = format!(
        "select {COLUMNS} from public.domain_events e
          where e.queue_id = $1 and e.status = 'pending' and e.sequence is not null order by e.sequence limit $2"
    );
    Ok(tx.query(&sql, &[&queue, &limit]).await?)
}

/// Marks events as delivered.
pub(super) async fn delivered(tx: &PlatformTx<'_>, events: &[Uuid]) -> Result<()> {
    if !events.is_empty() {
        tx.execute(DELIVERED, &[&events]).await?;
    }
    Ok(())
}

/// Marks an event as dead.
pub(super) async fn dead(tx: &PlatformTx<'_>, event: Uuid, error: &str) -> Result<()> {
    tx.execute(DEAD, &[&event, &error]).await?;
    Ok(())
}

/// Records a failed attempt, and postpones the queue.
pub(super) async fn failed(tx: &PlatformTx<'_>, queue: Uuid, event: Uuid, error: &str, pause: Duration) -> Result<()> {
    tx.execute(FAILED, &[&event, &error, &queue, &pause.as_secs_f64()]).await?;
    Ok(())
}

/// Postpones the queue.
pub(super) async fn put_off(tx: &PlatformTx<'_>, queue: Uuid, pause: Duration) -> Result<()> {
    tx.execute(PUT_OFF, &[&queue, &pause.as_secs_f64()]).await?;
    Ok(())
}
