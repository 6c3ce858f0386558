//! What `with_tenant_retry` runs again and what it does not.

use crate::{
    sandbox::{Cut, Proxy},
    stage::{Stage, slug},
};
use cgk::{Db, Error, ErrorKind, Retry, TenantError, TenantTx, TxOptions};
use futures_util::{FutureExt, StreamExt};
use std::{
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The application's own error, in which the server's answer is lost.
#[derive(Debug)]
enum AppError {
    GivenUp,
    Database(Error),
}

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

fn quick(tries_max: u32) -> Retry {
    Retry { tries_max, wait_first: Duration::from_millis(1), wait_max: Duration::from_millis(2) }
}

const INSERT: &str = "insert into marks (tag, n) values ('retry', 1)";
const CONFLICT: &str = "do $$ begin raise exception 'made up' using errcode = '40001'; end $$";
const DEADLOCK: &str = "do $$ begin raise exception 'made up' using errcode = '40P01'; end $$";
const CONFLICT_LATER: &str = "select public.conflict_at(i) from generate_series(1, 3000) i";
const DIVISION: &str = "select 1 / 0";
/// Fails at the end of the transaction only.
const AT_COMMIT: &str = "insert into late values (1)";

/// What a body does in a try.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A statement whose failure the body returns.
    Run(&'static str),
    /// A statement whose failure the body ignores.
    Ignore(&'static str),
    /// A statement whose failure the body undoes with a savepoint of the library.
    Undo(&'static str),
    /// A statement whose failure the body undoes with a savepoint that it writes itself.
    UndoByHand(&'static str),
    /// A statement whose future the body drops once it was sent.
    Leave(&'static str),
    /// The same in a part that the body does not release.
    LeaveInPart(&'static str),
    /// A statement of whose rows the body reads one.
    LeaveRows(&'static str),
    /// The body returns an error of its own.
    GiveUp,
}
use Step::{GiveUp, Ignore, Leave, LeaveInPart, LeaveRows, Run, Undo, UndoByHand};

impl Step {
    async fn take(self, tx: &mut TenantTx<'_>) -> Result<(), AppError> {
        match self {
            Run(sql) => tx.execute_typed(sql, &[]).await.map(drop)?,
            Ignore(sql) => drop(tx.execute_typed(sql, &[]).await),
            Undo(sql) => {
                let part = tx.savepoint().await?;
                let failed = part.execute_typed(sql, &[]).await;
                assert!(failed.is_err(), "{sql}");
            }
            UndoByHand(sql) => {
                tx.execute_typed("savepoint mine", &[]).await?;
                let failed = tx.execute_typed(sql, &[]).await;
                assert!(failed.is_err(), "{sql}");
                tx.execute_typed("rollback to savepoint mine", &[]).await?;
            }
            Leave(sql) => assert!(tx.execute_typed(sql, &[]).now_or_never().is_none(), "{sql}"),
            LeaveInPart(sql) => {
                let part = tx.savepoint().await?;
                assert!(part.execute_typed(sql, &[]).now_or_never().is_none(), "{sql}");
            }
            LeaveRows(sql) => {
                let rows = pin!(tx.query_raw(sql, &[]).await?);
                let first = rows.into_future().await.0.expect("a row")?;
                assert_eq!(first.get::<_, &str>(0).len(), 1_000, "the answer does not fit into one packet");
            }
            GiveUp => return Err(AppError::GivenUp),
        }
        Ok(())
    }
}

/// Inserts a row and takes the steps, in every try but the one after so many.
async fn attempt(stage: &Stage, retry: &Retry, failing: u32, steps: &[Step]) -> (Result<(), AppError>, u32) {
    let tries = AtomicU32::new(0);
    let db: Db<AppError> = stage.db.errors();
    let outcome = db
        .with_tenant_retry(&slug("acme"), &TxOptions::default(), retry, async |tx| {
            let tried = tries.fetch_add(1, Ordering::Relaxed) + 1;
            tx.execute(INSERT, &[]).await?;
            if tried <= failing {
                for step in steps {
                    step.take(tx).await?;
                }
            }
            Ok(())
        })
        .await;
    (outcome, tries.into_inner())
}

async fn set() -> Stage {
    let stage = Stage::set().await;
    stage
        .sql(
            "create table tenant_acme.late (n int);
             create function public.conflict() returns trigger language plpgsql as
               'begin raise exception ''made up'' using errcode = ''40001''; end';
             create function public.conflict_at(i int) returns text language plpgsql as
               'begin if i < 3000 then return repeat(''x'', 1000); end if; raise exception ''made up'' using errcode = ''40001''; end';
             create constraint trigger late after insert on tenant_acme.late deferrable initially deferred
               for each row execute function public.conflict();
             grant all on tenant_acme.late to public",
        )
        .await;
    stage
}

/// What the server undid as a whole because of a conflict is run again, however the body came to its end.
#[tokio::test]
async fn what_the_server_undid_is_run_again() {
    let stage = set().await;
    let cases: &[&[Step]] = &[
        &[Run(CONFLICT)],
        &[Run(DEADLOCK)],
        // The body's error hides the server's, or what follows does.
        &[Ignore(CONFLICT), GiveUp],
        &[Ignore(CONFLICT), Run(INSERT)],
        // The body ignores it and returns Ok.
        &[Ignore(CONFLICT)],
        &[Ignore(DEADLOCK), Ignore(INSERT)],
        // Found out at COMMIT.
        &[Run(AT_COMMIT)],
        // An earlier failure was undone; the conflict came after it.
        &[Undo(DIVISION), Run(CONFLICT)],
        &[UndoByHand(DIVISION), Run(CONFLICT)],
        &[Undo(CONFLICT), Run(DEADLOCK), GiveUp],
        // The body has not waited for the answer.
        &[Leave(CONFLICT)],
        &[Leave(CONFLICT), Run(INSERT)],
        &[Leave(CONFLICT), Ignore(INSERT), GiveUp],
        &[Leave(INSERT), Run(INSERT), Leave(CONFLICT)],
        &[LeaveInPart(DIVISION), Run(CONFLICT)],
        // Nor read the answer to its end.
        &[LeaveRows(CONFLICT_LATER)],
        // Nobody knows that it was no conflict.
        &[Leave(DIVISION)],
    ];
    for steps in cases {
        let (outcome, tries) = attempt(&stage, &quick(5), 2, steps).await;
        assert!(outcome.is_ok(), "{steps:?}: {outcome:?}");
        assert_eq!(tries, 3, "{steps:?}");
        // Two tries were undone, and the third is there once.
        assert_eq!(stage.marks("acme", "retry").await, (1, 0), "{steps:?}");
        stage.sql("delete from tenant_acme.marks where tag = 'retry'").await;
    }
}

/// Everything else is not: it would fail again, or the body has dealt with the conflict itself.
#[tokio::test]
async fn other_failures_are_not_run_again() {
    let stage = set().await;
    let cases: &[&[Step]] = &[
        &[Run(DIVISION)],
        &[GiveUp],
        &[Ignore(DIVISION)],
        // The conflict was undone by the body itself, and its own error has another reason.
        &[Undo(CONFLICT), GiveUp],
        &[UndoByHand(CONFLICT), GiveUp],
        &[Undo(CONFLICT), Run(DIVISION)],
        &[UndoByHand(CONFLICT), Run(DIVISION)],
        &[UndoByHand(CONFLICT), Ignore(DIVISION)],
        &[Undo(CONFLICT), Ignore("commit")],
        // What is refused is refused in every try.
        &[Run("commit")],
        &[Ignore(CONFLICT), Ignore("commit")],
        &[Ignore(CONFLICT), Run("reset role")],
        &[Run("do $$ begin reset role; end $$")],
        // The body has not waited for the answer, and its own error has another reason.
        &[Leave(INSERT), GiveUp],
        &[Leave(CONFLICT), GiveUp],
        &[LeaveInPart(CONFLICT), GiveUp],
        &[LeaveInPart(CONFLICT), Run(DIVISION)],
        &[Leave(INSERT), Ignore(DIVISION)],
        &[Leave(INSERT), Run("select 1"), Ignore(DIVISION), Ignore(INSERT)],
    ];
    for steps in cases {
        let (outcome, tries) = attempt(&stage, &quick(5), 2, steps).await;
        assert!(outcome.is_err(), "{steps:?}");
        assert_eq!(tries, 1, "{steps:?}: {outcome:?}");
        assert_eq!(stage.marks("acme", "retry").await, (0, 0), "{steps:?}");
    }
    // A conflict that was undone does not keep the rest from being committed.
    for steps in [[Undo(CONFLICT)], [UndoByHand(CONFLICT)]] {
        let (outcome, tries) = attempt(&stage, &quick(5), 2, &steps).await;
        assert!(outcome.is_ok() && tries == 1, "{steps:?}: {outcome:?}");
    }
    assert_eq!(stage.marks("acme", "retry").await, (2, 0));
}

#[tokio::test]
async fn it_gives_up_after_the_last_try_and_waits_in_between() {
    let stage = set().await;
    for (tries_max, expected) in [(0, 1), (1, 1), (2, 2), (4, 4)] {
        let retry = Retry { tries_max, wait_first: Duration::from_millis(20), wait_max: Duration::from_millis(40) };
        let began = Instant::now();
        let (outcome, tries) = attempt(&stage, &retry, u32::MAX, &[Run(CONFLICT)]).await;
        let waited = began.elapsed();
        assert_eq!(tries, expected);
        let Err(AppError::Database(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.sqlstate().unwrap().code(), "40001");
        // 20, 40 and once more 40 ms, each at least half of it.
        let least = [0, 10, 30, 50][expected as usize - 1];
        assert!(waited >= Duration::from_millis(least), "{tries_max}: {waited:?}");
    }
    assert_eq!(stage.marks("acme", "retry").await, (0, 0));
    stage.next_user(&stage.db, "acme").await;
}

/// The platform's transactions are run again by the same rules.
#[tokio::test]
async fn the_platform_gives_up_after_the_last_try_and_runs_nothing_else_again() {
    let stage = Stage::set().await;
    let db: Db<AppError> = stage.db.errors();
    for (failure, code, tries_max, expected) in
        [(CONFLICT, "40001", 0, 1), (CONFLICT, "40001", 1, 1), (DEADLOCK, "40P01", 3, 3), (DIVISION, "22012", 3, 1)]
    {
        let tries = AtomicU32::new(0);
        let outcome = db
            .platform()
            .transaction_retry(&TxOptions::default(), &quick(tries_max), async |tx| {
                tries.fetch_add(1, Ordering::Relaxed);
                tx.execute_typed("insert into public.marks values ('platform', 1)", &[]).await?;
                tx.execute_typed(failure, &[]).await?;
                Ok(())
            })
            .await;
        assert_eq!(tries.into_inner(), expected, "{failure}: {tries_max}");
        let Err(AppError::Database(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.sqlstate().unwrap().code(), code);
    }
    // One that the body ignores: the COMMIT says that the transaction was aborted.
    for (ignored, expected) in [(CONFLICT, 2), (DIVISION, 1)] {
        let tries = AtomicU32::new(0);
        let outcome = db
            .platform()
            .transaction_retry(&TxOptions::default(), &quick(3), async |tx| {
                if tries.fetch_add(1, Ordering::Relaxed) == 0 {
                    drop(tx.execute_typed(ignored, &[]).await);
                }
                Ok(())
            })
            .await;
        assert_eq!((tries.into_inner(), outcome.is_ok()), (expected, ignored == CONFLICT), "{outcome:?}");
    }
    assert_eq!(stage.number("select count(*) from public.marks where tag = 'platform'").await, 0);
}

/// Two transactions that read what the other writes: one of them is undone by the server itself and run again.
#[tokio::test]
async fn transactions_that_really_conflict_both_commit() {
    let stage = Stage::set().await;
    let db = Db::connect(&stage.database.config().clone().with_pool_size_max(2)).await.unwrap();
    let (tries, barrier) = (AtomicU32::new(0), tokio::sync::Barrier::new(2));
    let add = async |retry: Retry| {
        let first = AtomicU32::new(1);
        db.with_tenant_retry(&slug("acme"), &TxOptions::default().serializable(), &retry, async |tx| {
            tries.fetch_add(1, Ordering::Relaxed);
            let sum: i64 = tx.query_one("select count(*) from marks", &[]).await?.get(0);
            // Both have read before either writes, in their first try.
            if first.swap(0, Ordering::Relaxed) == 1 {
                barrier.wait().await;
            }
            tx.execute("insert into marks (tag, n) values ('sum', $1)", &[&(sum as i32)]).await
        })
        .await
    };
    let (one, two) = tokio::join!(add(quick(10)), add(quick(10)));
    assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
    assert!(tries.load(Ordering::Relaxed) >= 3, "no conflict: this proves nothing");
    // As if one had run after the other.
    assert_eq!(stage.number("select count(distinct n) from tenant_acme.marks where tag = 'sum'").await, 2);
}

/// The connection is cut around COMMIT while a conflict that the body undid is known: whether it committed is unknown, and it
/// must not run twice.
#[tokio::test]
async fn an_unknown_commit_is_never_run_again() {
    let stage = set().await;
    let mut unknown = 0;
    for messages in 0..40 {
        let proxy = Proxy::for_connections(&stage.database, 2).await;
        let db: Db<AppError> = Db::connect(proxy.config()).await.unwrap().errors();
        // Whatever a connection sends once, it has sent.
        db.with_tenant(&slug("acme"), async |tx| Ok::<_, AppError>(tx.execute(INSERT, &[]).await?)).await.unwrap();
        stage.sql("delete from tenant_acme.marks where tag = 'retry'").await;
        proxy.cut_after(messages, Cut::After);
        let tries = AtomicU32::new(0);
        let outcome = db
            .with_tenant_retry(&slug("acme"), &TxOptions::default(), &quick(3), async |tx| {
                tries.fetch_add(1, Ordering::Relaxed);
                tx.execute(INSERT, &[]).await?;
                UndoByHand(CONFLICT).take(tx).await
            })
            .await;
        let uncut = proxy.spare();
        assert_eq!(tries.into_inner(), 1, "cut after {messages}: {outcome:?}");
        match outcome {
            Err(AppError::Database(error)) if error.kind() == ErrorKind::CommitUnknown => {
                unknown += 1;
                stage.until("select not exists (select from pg_stat_activity where datname = current_database() and state like 'idle in%')").await;
                assert!(stage.marks("acme", "retry").await.0 <= 1);
            }
            Ok(()) if uncut => break,
            _ => {}
        }
    }
    assert!(unknown > 0, "no commit was cut: this proves nothing");
}

/// An entry that was refused by what was there a moment ago is tried again.
#[tokio::test]
async fn a_tenant_that_is_right_again_at_the_second_look_is_entered_by_the_next_try() {
    let stage = set().await;
    // Asked at the entry, whose transaction is undone, and again by the look at the reason.
    stage
        .sql(
            "create or replace function cgk_isolation_modes() returns text language plpgsql security definer as $$ begin
                 update public.organizations set status = 'active' where slug = 'acme'; return 'path role'; end $$",
        )
        .await;
    let suspend = "update organizations set status = 'suspended' where slug = 'acme'";
    let session = async || -> i32 {
        stage.db.tenant(&slug("acme")).query_one("select pg_backend_pid()", &[]).await.unwrap().get(0)
    };
    let before = session().await;
    stage.sql(suspend).await;
    // The control: a single try is told so.
    let (outcome, _) = attempt(&stage, &quick(1), 0, &[]).await;
    let Err(AppError::Database(error)) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error, Error::Tenant(TenantError::Changed { .. })), "{error:?}");
    // It may be the session's fault, so that is given up.
    assert_ne!(session().await, before);
    stage.sql(suspend).await;
    attempt(&stage, &quick(2), 0, &[]).await.0.unwrap();
    assert_eq!(stage.marks("acme", "retry").await, (1, 0));
}
