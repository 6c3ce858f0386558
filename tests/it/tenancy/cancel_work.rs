//! Work inside of a tenant's transaction that is dropped, and what must be left of it.

use crate::stage::Stage;
use cgk::{Db, Error, TenantSlug, TenantTx};
use futures_util::{SinkExt, StreamExt};
use rand::{RngExt, rngs::StdRng};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

/// Drops a future right after its n-th poll, unless that finished it.
pub(super) struct Cancellable<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F> Cancellable<F> {
    pub(super) fn after(polls: usize, future: F) -> Self {
        Self { future: Some(Box::pin(future)), polls }
    }
}

impl<F: Future> Future for Cancellable<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polls = self.polls;
        let Some(future) = self.future.as_mut().filter(|_| polls > 0) else {
            self.future = None;
            return Poll::Ready(None);
        };
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        self.polls -= 1;
        if self.polls == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// What a closure does between its two marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Insert,
    Cached,
    Sleep,
    Stream,
    CopyIn,
    CopyInAbandoned,
    CopyOut,
    Savepoint,
    Join,
    Listen,
    Lock,
    // What a well-meant closure would not do.
    HiddenError,
    SessionSettings,
    Hoard,
    ResetRole,
    OtherTenant,
    Commit,
    Abandon,
    Panic,
}

impl Work {
    pub(super) const HONEST: [Self; 11] = [
        Self::Insert,
        Self::Cached,
        Self::Sleep,
        Self::Stream,
        Self::CopyIn,
        Self::CopyInAbandoned,
        Self::CopyOut,
        Self::Savepoint,
        Self::Join,
        Self::Listen,
        Self::Lock,
    ];
    pub(super) const HOSTILE: [Self; 8] = [
        Self::HiddenError,
        Self::SessionSettings,
        Self::Hoard,
        Self::ResetRole,
        Self::OtherTenant,
        Self::Commit,
        Self::Abandon,
        Self::Panic,
    ];

    /// Whether a transaction that does this may commit.
    pub(super) fn may_commit(self) -> bool {
        !matches!(
            self,
            Self::CopyInAbandoned
                | Self::HiddenError
                | Self::ResetRole
                | Self::OtherTenant
                | Self::Commit
                | Self::Panic
        )
    }

    pub(super) async fn run(self, tx: &mut TenantTx<'_>, other_role: &str) -> Result<(), Error> {
        match self {
            Self::Insert => drop(tx.execute("update marks set n = n where tag = 'x'", &[]).await?),
            Self::Cached => {
                for _ in 0..3 {
                    tx.query("select tag from marks where n = $1", &[&0_i32]).await?;
                }
            }
            Self::Sleep => drop(tx.query("select pg_sleep(0.02)", &[]).await?),
            Self::Stream => {
                let mut rows = pin!(tx.query_raw("select repeat('x', 1000) from generate_series(1, 1000)", &[]).await?);
                while let Some(row) = rows.next().await {
                    row?;
                }
            }
            Self::CopyIn => {
                let mut sink = tx.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?;
                for _ in 0..20 {
                    sink.send("copied\t1\n".repeat(500).into()).await?;
                }
                let copied = sink.finish().await?;
                assert_eq!(copied, 10_000);
                tx.execute("delete from marks where tag = 'copied'", &[]).await?;
            }
            Self::CopyInAbandoned => {
                let mut sink = tx.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?;
                sink.send("copied\t1\n".repeat(1000).into()).await?;
                drop(sink);
                // The transaction has failed with it, whether anybody asks or not.
            }
            Self::CopyOut => {
                let mut data =
                    pin!(tx.copy_out("copy (select repeat('x', 1000) from generate_series(1, 1000)) to stdout").await?);
                while let Some(part) = data.next().await {
                    part?;
                }
            }
            Self::Savepoint => {
                {
                    let mut part = tx.savepoint().await?;
                    part.execute("insert into marks (tag, n) values ('undone', 1)", &[]).await?;
                    let inner = part.savepoint().await?;
                    let _ = inner.query("select 1 / 0", &[]).await;
                }
                let part = tx.savepoint().await?;
                part.execute("update marks set n = n where n = 0", &[]).await?;
                part.release().await?;
            }
            Self::Join => {
                let (a, b) = tokio::join!(
                    tx.query("select 1 from generate_series(1, 10)", &[]),
                    tx.query_typed("select 2 from generate_series(1, 10)", &[])
                );
                a?;
                b?;
            }
            Self::Listen => drop(tx.execute("listen gossip", &[]).await?),
            Self::Lock => drop(tx.execute("lock table marks in share row exclusive mode", &[]).await?),
            Self::HiddenError => drop(tx.query("select 1 / 0", &[]).await),
            Self::SessionSettings => {
                let sql = "select set_config('work_mem', '65kB', false), set_config('default_transaction_read_only', 'on', false)";
                tx.query_typed(sql, &[]).await?;
            }
            Self::Hoard => {
                tx.execute_typed("create temp table marks (tag text, n int)", &[]).await?;
                tx.execute_typed("declare held cursor with hold for select 1", &[]).await?;
                tx.execute_typed("select pg_advisory_lock(4711)", &[]).await?;
            }
            Self::ResetRole => drop(tx.execute_typed("reset role", &[]).await?),
            Self::OtherTenant => {
                let sql = format!(
                    "select set_config('role', '{other_role}', false), set_config('search_path', 'tenant_globex', false)"
                );
                tx.query_typed(&sql, &[]).await?;
            }
            Self::Commit => {
                let _ = tx.execute_typed("commit", &[]).await;
                let _ = tx.execute_typed("begin", &[]).await;
            }
            Self::Abandon => {
                // A statement of which nobody awaits the answer; the transaction goes on.
                let _ = Cancellable::after(1, tx.query("select pg_sleep(0.005)", &[])).await;
            }
            Self::Panic => panic!("{PANIC}"),
        }
        Ok(())
    }
}
pub(super) const PANIC: &str = "a closure that panics";

/// One transaction: a mark, some work, another mark.
pub(super) async fn transaction(
    db: &Db,
    tenant: &TenantSlug,
    work: Work,
    tag: &str,
    other_role: &str,
    done: &AtomicBool,
) -> Result<(), Error> {
    db.with_tenant(tenant, async |tx| {
        let sql = "insert into marks (tag, n) values ($1, 1)";
        tx.execute(sql, &[&tag]).await?;
        work.run(tx, other_role).await?;
        let _ = tx.execute(sql, &[&tag]).await;
        done.store(true, Ordering::Relaxed);
        Ok(())
    })
    .await
}

/// What is left of a transaction that ended somehow: all of it or nothing.
pub(super) async fn judge(
    stage: &Stage,
    what: &str,
    work: Work,
    outcome: Option<Result<(), Error>>,
    tag: &str,
    done: bool,
) {
    let sql = "select (select count(*) from tenant_acme.marks where tag = $1),
                      (select count(*) from tenant_globex.marks where tag = $1)
                        + (select count(*) from tenantsx.marks where tag = $1)
                        + (select count(*) from public.marks where tag = $1),
                      (select count(*) from tenant_acme.marks where tag in ('copied', 'undone'))";
    let row = stage.watch.query_one(sql, &[&tag]).await.unwrap();
    let (own, elsewhere, strays): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(elsewhere, 0, "{what}: rows in another schema");
    assert!([0, 2].contains(&own), "{what}: partial, {own} of 2 rows");
    match outcome {
        Some(Ok(())) => {
            assert!(work.may_commit(), "{what}: committed");
            assert_eq!(own, 2, "{what}: Ok, and the rows are absent");
        }
        Some(Err(_)) => {
            assert!(!work.may_commit(), "{what}: refused");
            assert_eq!(own, 0, "{what}: an error, and the rows are there");
        }
        None if !done => assert_eq!(own, 0, "{what}: dropped before COMMIT, and the rows are there"),
        None => assert!(own == 0 || work.may_commit(), "{what}: committed"),
    }
    assert_eq!(strays, 0, "{what}: partial");
}

/// Nothing of a transaction is left at the server but its idle connection.
pub(super) const QUIET: &str = "select not exists (
    select from pg_locks l join pg_stat_activity a using (pid)
    where a.datname = current_database() and a.application_name = 'cgk'
      and (l.locktype = 'advisory' or l.mode like '%Exclusive%'))";

/// Runs a future in a task of its own and ends it: by a drop after some polls, by a time-out, by an abort, or not at all.
pub(super) async fn end<F>(dice: &mut StdRng, future: F) -> (String, Result<Option<F::Output>, tokio::task::JoinError>)
where
    F: Future<Output: Send> + Send + 'static,
{
    let micros = dice.random_range(0..8_000);
    let after = Duration::from_micros(micros);
    match dice.random_range(0..4) {
        0 => {
            let polls = dice.random_range(0..20);
            (format!("dropped after {polls} polls"), tokio::spawn(Cancellable::after(polls, future)).await)
        }
        1 => {
            let timed = tokio::spawn(async move { tokio::time::timeout(after, future).await.ok() });
            (format!("timed out after {after:?}"), timed.await)
        }
        2 => {
            let task = tokio::spawn(future);
            let handle = task.abort_handle();
            tokio::time::sleep(after).await;
            handle.abort();
            let outcome = match task.await {
                Err(error) if error.is_cancelled() => Ok(None),
                outcome => outcome.map(Some),
            };
            (format!("aborted after {after:?}"), outcome)
        }
        _ => ("left alone".into(), tokio::spawn(future).await.map(Some)),
    }
}
