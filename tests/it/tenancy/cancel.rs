//! A tenant's transaction that is dropped, at any point: nothing of it stays, and the next user of its connection neither
//! finds anything of it nor waits for it (threats T21, T23, T24, T29, T30).

use super::cancel_work::{Cancellable, PANIC, QUIET, Work, end, judge, transaction};
use crate::{
    stage::{Session, Stage, connect, dice, long, report, run, slug},
    support::score,
};
use cgk::{Error, TransactionError};
use futures_util::SinkExt;
use rand::RngExt;
use std::sync::atomic::{AtomicBool, Ordering};

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
            let written = Session::read(tx).await?;
            tx.execute_typed("do $$ begin set local search_path = public; end $$", &[]).await?;
            Ok::<_, Error>((written, Session::read(tx).await?))
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
            Session::read(tx).await
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
