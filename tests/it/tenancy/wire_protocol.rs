//! The wire between `with_tenant` and the server: cut at every byte, torn into pieces, and counted (threats T26, T27).
//!
//! Round trips of one `with_tenant` on a warm connection, counted below: 2 with one cached or typed statement (the first
//! message and the statement together, then the last message), 3 when the statement has to be prepared, 2 without any, and
//! one more for each further statement.

use super::wire_proxy::{Pace, Proxy, Way};
use crate::{
    sandbox,
    stage::{Stage, address, long, report, slug},
    support::{
        patience::{must_end, patient},
        score,
    },
};
use cgk::{
    ConnectionError, Db, Error, Operator, TenantError, TransactionError,
    lifecycle::{self, CreateManyOptions, NewTenant},
    migrate::{Migrations, Silent},
};
use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio_postgres::types::Type;

/// What a transaction does: in each case it writes three rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    /// Three statements, each waited for.
    Statements,
    /// One, and its commit behind it.
    Single,
    /// The same with an answer in a type of which the driver knows nothing before it comes. Not when it only warms a connection.
    NewType,
    /// A savepoint that is kept and one that is not, and a COPY.
    Copy,
}

const ONE: &str = "insert into marks (tag, n) values ($1, 1)";

impl Workload {
    async fn run(self, db: &Db, tag: &str) -> Result<(), Error> {
        let acme = slug("acme");
        match self {
            Self::Statements => {
                db.with_tenant(&acme, async |tx| {
                    for _ in 0..3 {
                        tx.execute(ONE, &[&tag]).await?;
                    }
                    Ok(())
                })
                .await
            }
            Self::Single => {
                let three = "insert into marks (tag, n) select $1, 1 from generate_series(1, 3)";
                db.tenant(&acme).execute(three, &[&tag]).await.map(drop)
            }
            Self::NewType if tag == "warm" => db.tenant(&acme).query_typed("select 1", &[]).await.map(drop),
            Self::NewType => {
                let three =
                    "insert into marks (tag, n) select $1, 1 from generate_series(1, 3) returning 'sad'::public.mood";
                db.tenant(&acme).query_typed(three, &[(&tag, Type::TEXT)]).await.map(drop)
            }
            Self::Copy => {
                db.with_tenant(&acme, async |tx| {
                    let part = tx.savepoint().await?;
                    part.execute(ONE, &[&tag]).await?;
                    part.release().await?;
                    {
                        let part = tx.savepoint().await?;
                        part.execute(ONE, &[&tag]).await?;
                    }
                    let mut sink = tx.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?;
                    futures_util::SinkExt::send(&mut sink, format!("{tag}\t1\n{tag}\t2\n").into()).await?;
                    sink.finish().await.map(drop)
                })
                .await
            }
        }
    }
}

async fn work(db: &Db, tag: &str) -> Result<(), Error> {
    Workload::Statements.run(db, tag).await
}

/// Waits until no backend of the library's works on this database: whatever will be committed is.
const SETTLED: &str = "select not exists (select from pg_stat_activity where datname = current_database()
                       and application_name = 'cgk' and state <> 'idle')";

#[derive(Default, Debug)]
struct Tally {
    cuts: usize,
    ok: usize,
    lost: usize,
    unknown_committed: usize,
    unknown_absent: usize,
}

/// Cuts the wire after each of these numbers of bytes.
async fn cut(
    stage: &Stage,
    proxy: &Proxy,
    workload: Workload,
    way: Way,
    positions: impl Iterator<Item = usize>,
    tally: &mut Tally,
) {
    for position in positions {
        let db = Db::connect(&proxy.config(stage)).await.unwrap();
        workload.run(&db, "warm").await.unwrap();
        let tag = format!("{}{position}", if way == Way::ToServer { 's' } else { 'c' });
        let budget = match way {
            Way::ToServer => &proxy.wire.to_server,
            Way::ToClient => &proxy.wire.to_client,
        };
        budget.store(position as i64, Ordering::SeqCst);
        let outcome = must_end("the work", workload.run(&db, &tag)).await;
        proxy.never_cut();
        stage.until(SETTLED).await;
        let (own, elsewhere) = stage.marks("acme", &tag).await;
        let what = format!("{workload:?} cut after {position} bytes: {outcome:?}, {own} rows");
        assert!([0, 3].contains(&own) && elsewhere == 0, "partial: {what}");
        tally.cuts += 1;
        match outcome {
            Ok(()) => {
                tally.ok += 1;
                assert_eq!(own, 3, "Ok, and absent: {what}");
            }
            Err(Error::Transaction(TransactionError::CommitUnknown { .. })) if own == 3 => tally.unknown_committed += 1,
            Err(Error::Transaction(TransactionError::CommitUnknown { .. })) => tally.unknown_absent += 1,
            Err(Error::Connection(ConnectionError::Lost { .. })) => {
                tally.lost += 1;
                assert_eq!(own, 0, "called lost, and committed: {what}");
            }
            Err(_) => panic!("not a typed loss: {what}"),
        }
        // The pool recovers by itself: the loss was noticed, or is noticed now.
        work(&db, "after").await.unwrap();
    }
}

/// So many positions of a range, or all of them in a long run.
fn sample(range: RangeInclusive<usize>, positions: usize) -> impl Iterator<Item = usize> {
    let step = if long().is_some() { 1 } else { range.clone().count().div_ceil(positions) };
    range.step_by(step)
}

#[tokio::test]
async fn a_wire_that_is_cut_commits_all_or_nothing_and_never_lies() {
    let stage = Stage::set().await;
    let proxy = Proxy::start(&stage, Pace::AtOnce).await;
    // How long the conversation is, and where its last message begins.
    let db = Db::connect(&proxy.config(&stage)).await.unwrap();
    work(&db, "warm").await.unwrap();
    proxy.reset();
    let before_last = std::sync::Mutex::new((0, 0));
    db.with_tenant(&slug("acme"), async |tx| {
        for _ in 0..3 {
            tx.execute(ONE, &[&"warm"]).await?;
        }
        let seen = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        *before_last.lock().unwrap() = (seen(&proxy.wire.sent), seen(&proxy.wire.answered));
        Ok(())
    })
    .await
    .unwrap();
    let (sent_before, answered_before) = before_last.into_inner().unwrap();
    let sent = proxy.wire.sent.load(Ordering::SeqCst);
    let answered = proxy.wire.answered.load(Ordering::SeqCst);
    drop(db);

    let mut tally = Tally::default();
    // The tags of the cuts are a little shorter than or as long as "warm", so a position may lie past the end.
    let workload = Workload::Statements;
    cut(&stage, &proxy, workload, Way::ToServer, sample(0..=sent_before, 10), &mut tally).await;
    cut(&stage, &proxy, workload, Way::ToServer, sample(sent_before + 1..=sent - 1, 15), &mut tally).await;
    assert_eq!(tally.unknown_committed, 0, "committed by a message that never arrived: {tally:?}");
    assert!(tally.lost > 5 && tally.unknown_absent > 5, "{tally:?}");
    let before = tally.unknown_absent;
    cut(&stage, &proxy, workload, Way::ToClient, sample(0..=answered_before - 20, 10), &mut tally).await;
    assert_eq!((tally.unknown_absent, tally.unknown_committed), (before, 0), "{tally:?}");
    cut(&stage, &proxy, workload, Way::ToClient, sample(answered_before..=answered, 90), &mut tally).await;
    report(&format!(
        "{tally:?}; conversation of {sent} and {answered} bytes, the last message {} and {}",
        sent - sent_before,
        answered - answered_before
    ));
    assert!(tally.unknown_committed > 3 && tally.ok > 3, "{tally:?}");
    assert_eq!(tally.unknown_absent, before, "the last message arrived, so it was committed: {tally:?}");
    tally.note(workload);
}

impl Tally {
    fn note(&self, workload: Workload) {
        let told = format!(
            "{} Ok and there, {} lost and absent, {} said to be unknown, of which {} were committed",
            self.ok,
            self.lost,
            self.unknown_committed + self.unknown_absent,
            self.unknown_committed
        );
        let what = format!("wire cuts ({workload:?}), partial or a false answer");
        score::note(3, &what, self.cuts, 0, &told);
    }
}

/// The other ways to send the same: one message for everything, and messages in which the client has the word.
#[tokio::test]
async fn a_wire_that_is_cut_in_a_single_statement_or_a_copy_never_lies_either() {
    for workload in [Workload::Single, Workload::Copy] {
        let stage = Stage::set().await;
        let proxy = Proxy::start(&stage, Pace::AtOnce).await;
        let db = Db::connect(&proxy.config(&stage)).await.unwrap();
        workload.run(&db, "warm").await.unwrap();
        proxy.reset();
        workload.run(&db, "warm").await.unwrap();
        let (sent, answered) = (proxy.wire.sent.load(Ordering::SeqCst), proxy.wire.answered.load(Ordering::SeqCst));
        drop(db);
        let mut tally = Tally::default();
        // What is not wholly there is not committed; a tag may be shorter than that of the measured conversation.
        cut(&stage, &proxy, workload, Way::ToServer, sample(0..=sent - 12, 20), &mut tally).await;
        assert_eq!((tally.unknown_committed, tally.ok), (0, 0), "{workload:?}: {tally:?}");
        assert!(tally.lost + tally.unknown_absent > 15, "{workload:?}: {tally:?}");
        cut(&stage, &proxy, workload, Way::ToClient, sample(0..=answered, 60), &mut tally).await;
        report(&format!("{workload:?}: {tally:?}; conversation of {sent} and {answered} bytes"));
        assert!(tally.unknown_committed > 3 && tally.ok > 3, "{workload:?}: {tally:?}");
        tally.note(workload);
    }
}

/// The driver asks for a type that it does not know when the statement is answered, and so behind the COMMIT.
#[tokio::test]
async fn a_wire_that_is_cut_while_the_driver_looks_up_a_type_never_lies_either() {
    let (stage, workload) = (Stage::set().await, Workload::NewType);
    stage.sql("create type public.mood as enum ('glad', 'sad')").await;
    let proxy = Proxy::start(&stage, Pace::AtOnce).await;
    let db = Db::connect(&proxy.config(&stage)).await.unwrap();
    workload.run(&db, "warm").await.unwrap();
    proxy.reset();
    workload.run(&db, "size").await.unwrap();
    let answered = proxy.wire.answered.load(Ordering::SeqCst);
    drop(db);
    let mut tally = Tally::default();
    cut(&stage, &proxy, workload, Way::ToClient, sample(0..=answered, 60), &mut tally).await;
    report(&format!("{tally:?}; conversation of {answered} bytes"));
    assert!(tally.unknown_committed > 10, "{tally:?}");
    tally.note(workload);
}

/// The control: who takes every lost connection for a transaction that was undone tells a lie at each cut behind the COMMIT.
#[tokio::test]
async fn control_a_commit_whose_answer_is_cut_off_has_happened() {
    let stage = Stage::set().await;
    let proxy = Proxy::start(&stage, Pace::AtOnce).await;
    let user = address(stage.database.name()).get_user().unwrap().to_owned();
    let url = format!("postgresql://{user}@127.0.0.1:{}/{}?sslmode=disable", proxy.port, stage.database.name());
    let (tries, mut lies) = (10, 0);
    for n in 0..tries {
        let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let tx = client.transaction().await.unwrap();
        tx.execute("insert into public.marks values ('lied', $1)", &[&(n + 1)]).await.unwrap();
        proxy.wire.to_client.store(0, Ordering::SeqCst);
        let outcome = tx.commit().await;
        proxy.never_cut();
        assert!(outcome.is_err(), "its answer was cut off");
        let there = format!("select count(*) = 1 from public.marks where tag = 'lied' and n = {}", n + 1);
        stage.until(&there).await;
        lies += 1;
    }
    score::control(3, "driver alone: an error from commit() taken for a roll-back", tries as usize, lies, "committed");
}

/// The driver stops reading when nobody takes what it has read: an answer that comes in pieces must not hold up the next.
#[tokio::test]
async fn a_wire_that_delivers_in_pieces_holds_nothing_up() {
    let stage = Stage::set().await;
    let proxy = Proxy::start(&stage, Pace::InPieces).await;
    let db = Db::connect(&proxy.config(&stage)).await.unwrap();
    let acme = slug("acme");
    for n in 0..3 {
        must_end("the work", work(&db, &format!("p{n}"))).await.unwrap();
        assert_eq!(stage.marks("acme", &format!("p{n}")).await, (3, 0));
    }
    // Several statements on their way at once.
    let joined = db.with_tenant(&acme, async |tx| {
        let (a, b) = tokio::join!(tx.query_typed("select 1", &[]), tx.query_typed("select 2", &[]));
        Ok(a?[0].get::<_, i32>(0) + b?[0].get::<_, i32>(0))
    });
    assert_eq!(must_end("both", joined).await.unwrap(), 3);
    let nobody = slug("nobody");
    let refused = db.with_tenant(&nobody, async |tx| tx.query("select 1", &[]).await);
    assert!(matches!(must_end("the refusal", refused).await, Err(Error::Tenant(TenantError::NotFound { .. }))));
}

/// Whoever polls first does not keep the others waiting when it is not polled again.
#[tokio::test]
async fn a_statement_that_is_not_polled_again_holds_nothing_up() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let summed = stage.db.with_tenant(&acme, async |tx| {
        let mut first = Box::pin(tx.query_typed("select 1", &[]));
        assert!(futures_util::FutureExt::now_or_never(&mut first).is_none());
        let second = tx.query_typed("select 2", &[]).await?;
        let (first, third) = tokio::join!(first, tx.query_typed("select 3", &[]));
        Ok(first?[0].get::<_, i32>(0) + second[0].get::<_, i32>(0) + third?[0].get::<_, i32>(0))
    });
    assert_eq!(must_end("the sum", summed).await.unwrap(), 6);
}

/// The connection breaks while a statement runs, and no cancel request arrives: the server notices it and ends the statement.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_statement_whose_cancel_request_is_lost_is_ended_by_the_server() {
    let stage = Stage::set().await;
    let proxy = Proxy::start(&stage, Pace::AtOnce).await;
    // The control: a session without cgk.
    let user = address(stage.database.name()).get_user().unwrap().to_owned();
    let url = format!("postgresql://{user}@127.0.0.1:{}/{}?sslmode=disable", proxy.port, stage.database.name());
    let (other, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let control = tokio::spawn(async move { other.query("select pg_sleep(3601)", &[]).await });
    let db = Db::connect(&patient(&proxy.config(&stage)).with_pool_size_max(2)).await.unwrap();
    let platform = db.clone();
    let calls = [
        tokio::spawn(async move {
            db.with_tenant(&slug("acme"), async |tx| tx.query_typed("select pg_sleep(3602)", &[]).await).await
        }),
        tokio::spawn(async move { platform.platform().query_typed("select pg_sleep(3603)", &[]).await }),
    ];
    let left = stage.until_running("pg_sleep(3601)").await;
    let ended = [stage.until_running("pg_sleep(3602)").await, stage.until_running("pg_sleep(3603)").await];
    proxy.vanish();
    for call in calls {
        must_end("a call", call).await.unwrap().unwrap_err();
    }
    must_end("the control", control).await.unwrap().unwrap_err();
    for pid in ended {
        stage.until_gone(pid).await;
    }
    let runs_on = format!("select count(*) from pg_stat_activity where pid = {left} and state = 'active'");
    assert_eq!(stage.number(&runs_on).await, 1);
    stage.sql(&format!("select pg_terminate_backend({left})")).await;
}

/// The checks before a creation are sent without a wait between them.
#[tokio::test]
async fn the_round_trips_of_a_creation_are_counted() {
    let stage = Stage::set().await;
    let migrations = Migrations::bundled();
    let proxy = Proxy::start(&stage, Pace::Late).await;
    let operator = Operator::connect(&proxy.config(&stage)).await.unwrap();
    let mut counted = Vec::new();
    for tenant in ["initech", "umbrella"] {
        proxy.reset();
        lifecycle::create(&operator, &stage.db, &migrations, &slug(tenant), &Default::default()).await.unwrap();
        counted.push(proxy.wire.turns.load(Ordering::SeqCst));
    }
    report(&format!("round trips of creations beside the entry into the tenant: {counted:?}"));
    // The registry and the shared ledger (2), the record of the files, the logins, the creation, its result. An answer that comes
    // before those sent with it may be followed by the next query before they come, which counts as one more. One by one there
    // would be 12.
    assert!(counted.iter().all(|turns| *turns <= 9), "{counted:?}");
    // The control: what is waited for one by one is counted one by one.
    proxy.reset();
    lifecycle::check_rights(&operator).await.unwrap();
    let one = proxy.wire.turns.load(Ordering::SeqCst);
    lifecycle::check_rights(&operator).await.unwrap();
    assert_eq!((one, proxy.wire.turns.load(Ordering::SeqCst)), (1, 2));
}

/// Tenants that are complete cost no query each where many are created.
#[tokio::test]
async fn the_queries_for_tenants_that_are_complete_are_counted() {
    let stage = Stage::set().await;
    let migrations = Migrations::bundled();
    let proxy = sandbox::Proxy::to(&stage.database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    let mut counted = Vec::new();
    // The first run warms the connection up, and the last one is the control: a tenant that is created costs more.
    for tenants in [&["acme"][..], &["acme"], &["acme", "globex"], &["acme", "globex", "initech"]] {
        let tenants: Vec<NewTenant> = tenants.iter().map(|tenant| NewTenant::from(slug(tenant))).collect();
        let options = CreateManyOptions::default();
        proxy.take();
        lifecycle::create_many(&operator, &stage.db, &migrations, &tenants, &options, &mut Silent).await.unwrap();
        counted.push(sandbox::round_trips(&proxy.take()));
    }
    assert_eq!(counted[1], counted[2], "{counted:?}");
    assert!(counted[3] > counted[2], "{counted:?}");
}

#[tokio::test]
async fn round_trips_are_counted() {
    let stage = Stage::set().await;
    let proxy = Proxy::start(&stage, Pace::Late).await;
    let db = Db::connect(&proxy.config(&stage)).await.unwrap();
    let acme = slug("acme");
    macro_rules! trips {
        ($body:expr) => {{
            proxy.reset();
            db.with_tenant(&acme, $body).await.unwrap();
            proxy.wire.turns.load(Ordering::SeqCst)
        }};
    }
    let select = "select tag from marks where n = $1";
    trips!(async |_| Ok(()));
    let none = trips!(async |_| Ok(()));
    let cold = trips!(async |tx| tx.query(select, &[&0_i32]).await);
    let cached = trips!(async |tx| tx.query(select, &[&0_i32]).await);
    let typed = trips!(async |tx| tx.query_typed("select tag from marks", &[]).await);
    let two = trips!(async |tx| {
        tx.query(select, &[&0_i32]).await?;
        tx.query(select, &[&0_i32]).await
    });
    let joined = trips!(async |tx| {
        let (a, b) = tokio::join!(tx.query(select, &[&0_i32]), tx.query(select, &[&0_i32]));
        a.and(b)
    });
    let savepoint = trips!(async |tx| {
        let part = tx.savepoint().await?;
        part.query(select, &[&0_i32]).await?;
        part.release().await
    });
    let refused = {
        proxy.reset();
        db.with_tenant(&acme, async |tx| tx.query("select 1 / 0", &[]).await).await.unwrap_err();
        proxy.wire.turns.load(Ordering::SeqCst)
    };
    // Single statements: of a tenant, and of the platform.
    macro_rules! single {
        ($call:expr) => {{
            $call.await.unwrap();
            proxy.reset();
            $call.await.unwrap();
            proxy.wire.turns.load(Ordering::SeqCst)
        }};
    }
    let tenant_single = single!(db.tenant(&acme).query(select, &[&0_i32]));
    let platform_single = single!(db.platform().query("select tag from marks where n = $1", &[&0_i32]));
    let platform_typed = single!(db.platform().execute_typed("select 1", &[]));
    assert_eq!((tenant_single, platform_single, platform_typed), (1, 1, 1));
    // The control: a transaction of the platform with one statement takes two.
    let platform_two = single!(db.platform().transaction(async |tx| tx.query(select, &[&0_i32]).await));
    assert_eq!(platform_two, 2);
    report(&format!(
        "round trips: none {none}, cold {cold}, cached {cached}, typed {typed}, two {two}, joined {joined}, savepoint \
         {savepoint}, failed {refused}"
    ));
    assert_eq!((none, cold, cached, typed), (2, 3, 2, 2));
    assert_eq!((two, joined, savepoint, refused), (3, 2, 4, 2));
    let told = format!(
        "round trips: {cached} with a known or typed statement, {cold} when its types have to be asked for, {two} with two, {joined} with \
         two at once, {savepoint} with a savepoint"
    );
    score::note(18, "conversations whose round trips are counted, other than stated", 8, 0, &told);
}
