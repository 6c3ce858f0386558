//! A tenant's transaction that is dropped, at any point: nothing of it stays, and the next user of its connection neither
//! finds anything of it nor waits for it (threats T21, T23, T24, T29, T30).

use crate::{
    stage::{Session, Stage, address, connect, dice, long, report, run, slug},
    support::{patience::must_end, score},
};
use cgk::{Db, Error, TenantError, TenantSlug, TenantTx, TransactionError, lock};
use futures_util::{SinkExt, StreamExt};
use rand::{RngExt, rngs::StdRng};
use std::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use tokio_postgres::NoTls;

/// Drops a future right after its n-th poll, unless that finished it.
struct Cancellable<F> {
    future: Option<Pin<Box<F>>>,
    polls: usize,
}

impl<F> Cancellable<F> {
    fn after(polls: usize, future: F) -> Self {
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
enum Work {
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
    const HONEST: [Self; 11] = [
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
    const HOSTILE: [Self; 8] = [
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
    fn may_commit(self) -> bool {
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

    async fn run(self, tx: &mut TenantTx<'_>, other_role: &str) -> Result<(), Error> {
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

const PANIC: &str = "a closure that panics";

/// One transaction: a mark, some work, another mark.
async fn transaction(
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
async fn judge(stage: &Stage, what: &str, work: Work, outcome: Option<Result<(), Error>>, tag: &str, done: bool) {
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
const QUIET: &str = "select not exists (
    select from pg_locks l join pg_stat_activity a using (pid)
    where a.datname = current_database() and a.application_name = 'cgk'
      and (l.locktype = 'advisory' or l.mode like '%Exclusive%'))";

/// How often the works are gone through at most, until enough of them were cancelled.
const PASSES_MAX: usize = 50;

/// Drops each kind of work after its first poll, its second, … until it completes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_at_every_point_nothing_stays() {
    let stage = Stage::set().await;
    let (acme, other_role) = (slug("acme"), stage.role("globex"));
    let (mut runs, mut cancelled) = (0, 0);
    // A busy machine polls less often, as several answers are there at once: then the works are gone through again.
    for (pass, work) in (0..PASSES_MAX).flat_map(|pass| Work::HONEST.map(|work| (pass, work))) {
        if pass > 0 && cancelled > 40 {
            break;
        }
        for polls in 0.. {
            let (tag, done) = (format!("{work:?}{polls}_{pass}"), AtomicBool::new(false));
            let outcome =
                Cancellable::after(polls, transaction(&stage.db, &acme, work, &tag, &other_role, &done)).await;
            stage.next_user(&stage.db, "globex").await;
            let what = format!("{work:?} dropped after {polls} polls");
            let completed = outcome.is_some();
            judge(&stage, &what, work, outcome, &tag, done.load(Ordering::Relaxed)).await;
            runs += 1;
            if completed {
                break;
            }
            cancelled += 1;
        }
    }
    stage.until(QUIET).await;
    assert!(cancelled > 40, "only {cancelled} of {runs} runs were cancelled: this test proves nothing");
    report(&format!("dropped at every point: {runs} runs, {cancelled} cancelled"));
    let told =
        format!("{} kinds of work after every poll; {cancelled} cancelled before they ended", Work::HONEST.len());
    score::note(1, "transactions dropped at every point, partial or next user unclean", runs, 0, &told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_closures_dropped_at_random_leave_the_next_user_clean() {
    let stage = Stage::set().await;
    let mut dice = dice();
    let runs_min = 400 * long().unwrap_or(1);
    let kinds: Vec<Work> = Work::HONEST.into_iter().chain(Work::HOSTILE).collect();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(PANIC) {
            hook(info);
        }
    }));
    let (mut cancelled, mut committed, mut refused, mut panicked, mut backends) = (0, 0, 0, 0, Vec::new());
    let (mut hostile, mut runs) = (0, 0);
    let mut waits = Vec::with_capacity(runs_min);
    // Which moments are hit depends on the machine: it goes on until each ending was seen often enough.
    for n in 0..runs_min * 10 {
        let enough = cancelled - panicked > runs_min / 8 && committed > runs_min / 20 && refused > runs_min / 20;
        if n >= runs_min && enough {
            break;
        }
        runs += 1;
        let work = kinds[dice.random_range(0..kinds.len())];
        let (db, other_role, tag) = (stage.db.clone(), stage.role("globex"), format!("r{n}"));
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let future = {
            let (tag, done) = (tag.clone(), done.clone());
            async move { transaction(&db, &slug("acme"), work, &tag, &other_role, &done).await }
        };
        let (ending, outcome) = end(&mut dice, future).await;
        let what = format!("run {n}, {work:?}, {ending}");
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(panic) => {
                assert!(panic.is_panic() && work == Work::Panic, "{what}: {panic:?}");
                panicked += 1;
                None
            }
        };
        hostile += usize::from(Work::HOSTILE.contains(&work));
        match &outcome {
            None => cancelled += 1,
            Some(Ok(())) => committed += 1,
            Some(Err(_)) => refused += 1,
        }
        let (waited, pid) = stage.next_user(&stage.db, "globex").await;
        waits.push(waited);
        if !backends.contains(&pid) {
            backends.push(pid);
        }
        judge(&stage, &what, work, outcome, &tag, done.load(Ordering::Relaxed)).await;
        if n % 100 == 99 {
            // The dead rows of the copies would slow each look in a long run, and nobody else clears them away here.
            stage.watch.execute("delete from tenant_acme.marks where tag ~ '^r[0-9]'", &[]).await.unwrap();
            stage.watch.execute("vacuum tenant_acme.marks", &[]).await.unwrap();
        }
    }
    let _ = std::panic::take_hook();
    cancelled -= panicked;
    stage.until(QUIET).await;
    waits.sort();
    let told = format!(
        "{cancelled} cancelled, {committed} committed, {refused} refused, {panicked} panicked; the next user waited p50 {:?}, \
         p99 {:?}, at most {:?}; {} backends",
        waits[runs / 2],
        waits[runs * 99 / 100],
        waits[runs - 1],
        backends.len()
    );
    report(&format!("{runs} runs: {told}"));
    let enough = cancelled > runs_min / 8 && committed > runs_min / 20 && refused > runs_min / 20;
    assert!(enough, "this test proves nothing");
    score::note(1, "closures ended at random, partial or next user unclean", runs, 0, &told);
    let told = format!("{} kinds x dropped, timed out, aborted, left alone; {refused} refused", Work::HOSTILE.len());
    score::note(2, "hostile closures x endings, committed what they must not", hostile, 0, &told);
}

/// Runs a future in a task of its own and ends it: by a drop after some polls, by a time-out, by an abort, or not at all.
async fn end<F>(dice: &mut StdRng, future: F) -> (String, Result<Option<F::Output>, tokio::task::JoinError>)
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

/// One statement with its commit behind it: all of it or nothing, wherever it is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_statements_dropped_at_every_point() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let insert = "insert into marks (tag, n) select $1, 1 from generate_series(1, 2)";
    let mut runs = 0;
    for kind in ["cold", "cached", "slow"] {
        for polls in 0.. {
            runs += 1;
            let tag = format!("{kind}{polls}");
            let tenant = stage.db.tenant(&acme);
            let fresh = format!("{insert} -- {tag}");
            let slow = "insert into marks (tag, n) select $1, 1 from generate_series(1, 2), pg_sleep(0.02)";
            let sql = match kind {
                "cold" => &fresh,
                "cached" => insert,
                _ => slow,
            };
            let outcome = Cancellable::after(polls, tenant.execute(sql, &[&tag])).await;
            stage.next_user(&stage.db, "globex").await;
            let (own, elsewhere) = stage.marks("acme", &tag).await;
            assert!([0, 2].contains(&own) && elsewhere == 0, "{tag}: partial");
            match outcome {
                Some(outcome) => {
                    outcome.unwrap();
                    assert_eq!(own, 2, "{tag}: Ok, and absent");
                    break;
                }
                None => assert!(polls > 0 || own == 0, "{tag}"),
            }
        }
    }
    stage.until(QUIET).await;
    score::note(
        1,
        "single statements dropped at every point, partial or next user unclean",
        runs,
        0,
        "cold, cached, slow",
    );
}

/// A statement that would run for longer than this test may is running when its transaction is dropped: by `select!`, by an
/// abort, by a panic beside it, by an error. The next user gets a connection, and what was locked is free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_statement_that_was_dropped() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    for way in ["select", "abort", "panic", "error"] {
        let db = stage.db.clone();
        let (slept, quit) = (format!("slept_{way}"), std::sync::Arc::new(tokio::sync::Notify::new()));
        let (tenant, tag, stop) = (acme.clone(), slept.clone(), quit.clone());
        let task = tokio::spawn(async move {
            let sleeping = db.with_tenant(&tenant, async |tx| {
                tx.execute("insert into marks (tag, n) values ($1, 1)", &[&tag]).await?;
                tx.execute("lock table marks in access exclusive mode", &[]).await?;
                let sleep = format!("select pg_sleep(3600) as {tag}");
                tokio::select! {
                    slept = tx.query(&sleep, &[]) => { slept?; }
                    () = stop.notified(), if way == "panic" || way == "error" => {
                        assert!(way != "panic", "{PANIC}");
                        // The closure gives up on its own statement.
                        return Err(Error::Tenant(TenantError::NotFound { tenant: slug("nobody") }));
                    }
                }
                Ok(())
            });
            tokio::select! {
                outcome = sleeping => Some(outcome),
                () = stop.notified(), if way == "select" => None,
            }
        });
        let pid = stage.until_running(&format!("pg_sleep(3600) as {slept}")).await;
        match way {
            "abort" => task.abort(),
            _ => quit.notify_one(),
        }
        let (_, next) = stage.next_user(&stage.db, "globex").await;
        let lock = stage.sql("begin; lock table tenant_acme.marks in access exclusive mode; commit");
        must_end("the lock of a dropped transaction", lock).await;
        stage.until_gone(pid).await;
        assert_ne!(next, pid, "{way}: a connection that was cancelled went back to the pool");
        assert_eq!(stage.marks("acme", &slept).await, (0, 0), "{way}");
        let _ = task.await;
    }
}

/// The way in waits for the tenant's lock when its transaction is dropped: that is a statement like any other.
#[tokio::test]
async fn nobody_waits_for_an_entry_that_was_dropped() {
    let stage = Stage::set().await;
    let key = lock::tenant_key(&slug("acme"));
    let holder = connect(stage.database.name()).await;
    run(&holder, &format!("begin; select pg_advisory_xact_lock({key})")).await.unwrap();
    for statement in [false, true] {
        let db = stage.db.clone();
        let task = tokio::spawn(async move {
            db.with_tenant(&slug("acme"), async |tx| {
                if statement {
                    tx.query("select 1", &[]).await?;
                }
                Ok(())
            })
            .await
        });
        stage.until("select exists (select from pg_stat_activity where wait_event = 'advisory' and datname = current_database())").await;
        task.abort();
        // The lock is held until the end: who waits behind the entry waits for good.
        stage.next_user(&stage.db, "globex").await;
        stage.until("select not exists (select from pg_stat_activity where wait_event = 'advisory' and datname = current_database())").await;
    }
    drop(holder);
}

/// The clean-up is a task, and its runtime may end before it has run: the connection must not go back as it is.
#[test]
fn a_runtime_that_shuts_down_leaves_no_open_transaction_in_the_pool() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stage = home.block_on(Stage::set());
    for statement in ["insert into marks (tag, n) values ('lost', 1)", "select pg_sleep(3600) as lost"] {
        let (db, entered) = (stage.db.clone(), std::sync::Arc::new(tokio::sync::Notify::new()));
        let guest = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let inside = entered.clone();
        guest.spawn(async move {
            db.with_tenant(&slug("acme"), async |tx| {
                tx.execute("insert into marks (tag, n) values ('lost', 1)", &[]).await?;
                inside.notify_one();
                tx.query(statement, &[]).await?;
                std::future::pending::<()>().await;
                Ok(())
            })
            .await
        });
        let pid = home.block_on(async {
            entered.notified().await;
            stage.until("select exists (select from pg_locks l join pg_stat_activity a using (pid)
                         where a.datname = current_database() and l.mode = 'RowExclusiveLock')").await;
            stage.number("select pid::bigint from pg_stat_activity where application_name = 'cgk' and datname = current_database()
                          and state <> 'idle'").await
        });
        guest.shutdown_background();
        home.block_on(async {
            stage.next_user(&stage.db, "globex").await;
            if statement.contains("sleep") {
                // No runtime was left to cancel it from; its statement timeout would end it.
                stage.sql(&format!("select pg_terminate_backend({pid})")).await;
            }
            stage.until(QUIET).await;
            assert_eq!(stage.marks("acme", "lost").await, (0, 0));
        });
    }
}

#[tokio::test]
async fn an_unfinished_copy_commits_nothing_even_when_the_closure_says_ok() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let error = stage
        .db
        .with_tenant(&acme, async |tx| {
            let mut sink = tx.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?;
            sink.send("copied\t1\n".repeat(1000).into()).await
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::Aborted { .. })), "{error:?}");
    assert_eq!(stage.marks("acme", "copied").await, (0, 0));
    // In a savepoint it takes only that part along; closed as a sink, it counts.
    stage
        .db
        .with_tenant(&acme, async |tx| {
            {
                let mut part = tx.savepoint().await?;
                let mut sink = part.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?;
                sink.send("copied\t1\n".repeat(1000).into()).await?;
            }
            let mut sink = tx.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?;
            sink.send("copied\t2\n".into()).await?;
            sink.close().await
        })
        .await
        .unwrap();
    assert_eq!(stage.marks("acme", "copied").await, (1, 0));
    stage.next_user(&stage.db, "globex").await;
}

/// A statement whose future was dropped inside a closure that goes on: it has run by the time of the COMMIT, wholly or not
/// at all, and what it failed with is not hidden.
#[tokio::test]
async fn a_statement_dropped_inside_a_closure_that_goes_on() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let insert = "insert into marks (tag, n) select 'dropped', 1 from pg_sleep(0.05)";
    stage.db.with_tenant(&acme, async |tx| tx.execute(insert, &[]).await).await.unwrap();
    stage.sql("delete from tenant_acme.marks where tag = 'dropped'").await;
    for polls in 0..8 {
        stage
            .db
            .with_tenant(&acme, async |tx| {
                tx.execute("insert into marks (tag, n) values ('kept', 1)", &[]).await?;
                let _ = Cancellable::after(polls, tx.execute(insert, &[])).await;
                tx.execute("insert into marks (tag, n) values ('kept', 2)", &[]).await
            })
            .await
            .unwrap();
        let kept = stage.marks("acme", "kept").await;
        assert_eq!(kept, (2, 0));
        assert!(stage.marks("acme", "dropped").await.0 <= 1);
        stage.sql("delete from tenant_acme.marks where n > 0").await;
        stage.next_user(&stage.db, "globex").await;
    }
    let error = stage
        .db
        .with_tenant(&acme, async |tx| {
            tx.execute("insert into marks (tag, n) values ('kept', 1)", &[]).await?;
            let failing = Cancellable::after(1, tx.query_typed("select 1 / 0", &[])).await;
            assert!(failing.is_none(), "it was answered before it could be dropped");
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transaction(TransactionError::Aborted { failed: None, .. })), "{error:?}");
    assert_eq!(stage.marks("acme", "kept").await, (0, 0));
}

/// The same drops on code as it is often written. Each of these must go wrong, or the tests above cannot see it.
#[tokio::test]
async fn control_naive_transactions_leak_when_they_are_dropped() {
    let stage = Stage::set().await;
    let client = connect(stage.database.name()).await;
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let (mut open, mut paths) = (0_usize, 0_usize);
    for polls in 1..12 {
        // BEGIN without a guard.
        let naive = async {
            run(&client, "begin; set local search_path = tenant_acme").await.unwrap();
            client.query("insert into marks values ('naive', 1)", &[]).await.unwrap();
            client.query("select pg_sleep(0.001)", &[]).await.unwrap();
            run(&client, "commit").await.unwrap();
        };
        Cancellable::after(polls, naive).await;
        // The next user of the same backend.
        let row = client.query_one("select pg_backend_pid(), pg_current_xact_id_if_assigned() is not null", &[]).await;
        let row = row.unwrap();
        assert_eq!(row.get::<_, i32>(0), pid);
        open += usize::from(row.get::<_, bool>(1));
        run(&client, "rollback; reset all").await.unwrap();
        // A path of the session.
        let naive = async {
            run(&client, "set search_path = tenant_acme").await.unwrap();
            client.query("insert into marks values ('naive', 1)", &[]).await.unwrap();
            run(&client, "reset search_path").await.unwrap();
        };
        Cancellable::after(polls, naive).await;
        let row = client.query_one("select current_setting('search_path')", &[]).await.unwrap();
        paths += usize::from(row.get::<_, &str>(0) == "tenant_acme");
        run(&client, "reset all").await.unwrap();
    }
    assert!(open > 0 && paths > 0, "open transactions {open}, paths {paths}");
    report(&format!("control: {open} open transactions, {paths} leaked paths of 11 drops each"));
    score::control(1, "dropped: BEGIN without a guard", 11, open, "transactions left open");
    score::control(1, "dropped: search path of the session", 11, paths, "paths left set");
}

#[tokio::test]
async fn control_without_a_cancel_the_next_user_waits() {
    let stage = Stage::set().await;
    let client = connect(stage.database.name()).await;
    Cancellable::after(1, client.query_typed("select pg_sleep(3600)", &[])).await;
    let pid = stage.until_running("pg_sleep(3600)").await;
    let next = tokio::spawn(async move { client.query_typed("select 1", &[]).await });
    // Time for an answer, if there were one: the statement runs on, and whatever is sent behind it waits.
    for _ in 0..100 {
        assert_eq!(stage.until_running("pg_sleep(3600)").await, pid);
        assert!(!next.is_finished(), "nobody waited: the tests above prove nothing");
    }
    stage.sql(&format!("select pg_cancel_backend({pid})")).await;
    must_end("the next user", next).await.unwrap().unwrap();
    score::control(1, "dropped without a cancel: the next user waits", 1, 1, "until the statement is cancelled");
}

/// A cancel names a connection, not a statement: one that arrives late meets whatever runs there by then.
#[tokio::test]
async fn control_a_connection_that_is_used_again_after_a_cancel_kills_the_next_user() {
    let stage = Stage::set().await;
    let (client, connection) = address(stage.database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    assert!(Cancellable::after(1, client.query_typed("select 1", &[])).await.is_none(), "it was not dropped");
    let late = client.cancel_token();
    let innocent = tokio::spawn(async move { client.query_typed("select pg_sleep(3600)", &[]).await });
    stage.until_running("pg_sleep(3600)").await;
    late.cancel_query(NoTls).await.unwrap();
    let error = innocent.await.unwrap().unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    report("control: an innocent statement was cancelled");
    score::control(1, "connection used again after a cancel", 1, 1, "an innocent statement cancelled");
}

/// A session that is unclean is seen as such.
#[tokio::test]
async fn control_an_unclean_session_is_seen() {
    let stage = Stage::set().await;
    let acme = stage.role("acme");
    let sessions = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute("insert into marks (tag, n) values ('x', 0)", &[]).await?;
            tx.execute_typed("create temp table leftover ()", &[]).await?;
            tx.execute_typed("listen gossip", &[]).await?;
            tx.execute_typed("declare held cursor with hold for select 1", &[]).await?;
            tx.execute_typed("select pg_advisory_lock(4711)", &[]).await?;
            let written = Session::look(tx).await?;
            tx.execute_typed("do $$ begin set local search_path = public; end $$", &[]).await?;
            Ok::<_, Error>((written, Session::look(tx).await?))
        })
        .await;
    // The path is seen by the guard as well.
    assert!(matches!(sessions, Err(Error::Transaction(TransactionError::Tampered { .. }))));
    let written = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute("insert into marks (tag, n) values ('x', 1)", &[]).await?;
            tx.execute_typed("create temp table leftover ()", &[]).await?;
            tx.execute_typed("declare held cursor with hold for select 1", &[]).await?;
            tx.execute_typed("select pg_advisory_lock(4711)", &[]).await?;
            Session::look(tx).await
        })
        .await
        .unwrap();
    assert_eq!(
        written.faults("acme", &acme),
        ["open transaction", "table locks", "advisory locks", "temporary objects", "cursors"]
    );
    let path = ["search path", "role", "rows"];
    assert_eq!(&written.faults("globex", "nobody")[..2], &path[..2]);
    stage.next_user(&stage.db, "acme").await;
}
