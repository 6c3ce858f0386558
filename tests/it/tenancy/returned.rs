//! When a call returns, its transaction has ended: no task that runs later has to roll it back.

use crate::{
    sandbox::Proxy,
    stage::{Stage, connect, run, slug},
    support::patience::patient,
};
use cgk::{
    Db, Error, MigrationError, TransactionError,
    config::{Pooling, SessionSettings},
    lock,
};
use futures_util::FutureExt;
use std::time::Duration;

const INSERT: &str = "insert into marks (tag, n) values ('returned', 1)";

/// How many of the library's sessions are inside a transaction. The runtime of the test stands still meanwhile, so what a task
/// of it would roll back later is still open.
fn open_now(stage: &Stage) -> i64 {
    let database = stage.database.name().to_owned();
    let look = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let open = "select count(*) from pg_stat_activity where datname = current_database()
                        and application_name = 'cgk' and state <> 'idle'";
            connect(&database).await.query_one(open, &[]).await.unwrap().get(0)
        })
    };
    std::thread::spawn(look).join().unwrap()
}

fn assert_ended<T>(stage: &Stage, what: &str, outcome: Result<T, Error>) -> Error {
    let Err(error) = outcome else { panic!("{what}: it did not fail") };
    assert_eq!(open_now(stage), 0, "{what}: {error:?}");
    error
}

async fn impatient() -> Stage {
    let adjust = |config: cgk::Config| {
        let session = SessionSettings { lock_timeout: Duration::from_millis(20), ..config.session().clone() };
        config.with_session(session)
    };
    Stage::set_with(adjust).await
}

#[tokio::test]
async fn a_transaction_that_fails_is_rolled_back() {
    let stage = impatient().await;
    let acme = slug("acme");
    // The control: inside it is open.
    let inside = stage.db.with_tenant(&acme, async |tx| {
        tx.execute_typed(INSERT, &[]).await?;
        Ok(open_now(&stage))
    });
    assert_eq!(inside.await.unwrap(), 1);

    let own = stage.db.with_tenant(&acme, async |tx| {
        tx.execute_typed(INSERT, &[]).await?;
        // Refused before it is sent: the transaction itself is still good.
        stage.db.platform().execute_typed("select 1", &[]).await
    });
    let error = assert_ended(&stage, "the body fails", own.await);
    assert!(matches!(error, Error::Transaction(TransactionError::PlatformInsideTenant { .. })), "{error:?}");
    for (what, ignored) in [
        ("a refused statement", "commit"),
        ("a failed statement", "select 1 / 0"),
        ("a changed path", "do $$ begin perform set_config('search_path', 'public', true); end $$"),
    ] {
        let body = stage.db.with_tenant(&acme, async |tx| {
            tx.execute_typed(INSERT, &[]).await?;
            let _ = tx.execute_typed(ignored, &[]).await;
            Ok(())
        });
        assert_ended(&stage, what, body.await);
    }
    let platform = stage.db.platform().transaction(async |tx| tx.execute_typed("select 1 / 0", &[]).await).await;
    assert_ended(&stage, "the platform's body fails", platform);
    assert_eq!(stage.marks("acme", "returned").await, (1, 0), "what the control has written");
}

#[tokio::test]
async fn a_refused_entry_is_rolled_back() {
    let stage = impatient().await;
    let acme = slug("acme");
    let nothing = async |tenant: &str| stage.db.with_tenant(&slug(tenant), async |_| Ok(())).await;
    assert_ended(&stage, "an unknown tenant", nothing("nobody").await);
    assert_ended(
        &stage,
        "a statement of an unknown tenant",
        stage.db.tenant(&slug("nobody")).query("select 1", &[]).await,
    );
    let admin = connect(stage.database.name()).await;
    run(&admin, &format!("begin; select pg_advisory_xact_lock({})", lock::tenant_key(&acme))).await.unwrap();
    let error = assert_ended(&stage, "a locked tenant", nothing("acme").await);
    assert!(matches!(error, Error::Migration(MigrationError::Locked { .. })), "{error:?}");
    run(&admin, "commit").await.unwrap();
    nothing("acme").await.unwrap();
    stage.sql("grant create on schema public to public").await;
    assert_ended(&stage, "a tenant beside which everybody may create", nothing("acme").await);
    let platform = stage.db.platform().transaction(async |_| Ok(())).await;
    assert_ended(&stage, "the platform where everybody may create", platform);
}

#[tokio::test]
async fn a_single_statement_that_fails_is_rolled_back() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let tenant = stage.db.tenant(&acme);
    assert_ended(&stage, "it cannot be described", tenant.execute("insert into nothing values ($1)", &[&1_i32]).await);
    assert_ended(&stage, "it fails", tenant.query_typed("select 1 / 0", &[]).await);
    assert_ended(&stage, "the driver refuses a value", tenant.query("select $1::int", &[&"one"]).await);
    assert_ended(&stage, "it is refused", tenant.query("commit", &[]).await);
    assert_ended(&stage, "the platform's fails", stage.db.platform().query_typed("select 1 / 0", &[]).await);
}

/// A server that takes its time for the rollback keeps its connection, as long as no statement was running.
#[tokio::test]
async fn a_slow_rollback_costs_no_connection() {
    let stage = Stage::set().await;
    let proxy = Proxy::to(&stage.database).await;
    let db: Db = Db::connect(&patient(proxy.config()).with_pool_size_max(1)).await.unwrap();
    // Twenty times as long as a running statement may take to give way.
    proxy.rewrite(|text| {
        text.starts_with("rollback; ").then(|| text.replacen("rollback; ", "rollback; select pg_sleep(0.1); ", 1))
    });
    let acme = slug("acme");
    let (mut before, tenant) = (stage.next_user(&db, "acme").await.1, db.tenant(&acme));
    for what in ["own", "ignored", "single", "refused by the driver", "running"] {
        let in_tenant = async |tx: &mut cgk::TenantTx<'_>| {
            tx.execute_typed(INSERT, &[]).await?;
            match what {
                "ignored" => drop(tx.execute_typed("select 1 / 0", &[]).await),
                "running" => assert!(tx.execute_typed("select pg_sleep(600)", &[]).now_or_never().is_none()),
                _ => {}
            }
            match what {
                "ignored" => Ok(()),
                _ => stage.db.platform().execute_typed("select 1", &[]).await.map(drop),
            }
        };
        let failed = match what {
            "single" => tenant.query_typed("select 1 / 0", &[]).await.map(drop),
            "refused by the driver" => tenant.query("select $1::int", &[&"one"]).await.map(drop),
            _ => db.with_tenant(&acme, in_tenant).await,
        };
        assert!(failed.is_err(), "{what}");
        let (_, after) = stage.next_user(&db, "acme").await;
        // The control: a connection on which a statement was running is given up.
        assert_eq!(before != after, what == "running", "{what}");
        before = after;
    }
}

/// Behind a pooler another client may be the next on the session, so a rollback resets it completely.
#[tokio::test]
async fn a_rollback_behind_a_pooler_leaves_nothing_to_the_next_client() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    stage.sql("create table public.found (exits text, prepared bigint)").await;
    let proxy = Proxy::to(&stage.database).await;
    // What is in the session behind the rollback and its reset.
    let look =
        "insert into public.found select current_setting('exit_on_error'), (select count(*) from pg_prepared_statements
                where name = 'stolen')";
    proxy.rewrite(move |text| text.starts_with("rollback; ").then(|| format!("{text}; {look}")));
    // The control: on a connection of its own the statement is found, and costs the connection.
    for (pooling, expected) in [(Pooling::Transaction, ("off", 0_i64)), (Pooling::Direct, ("on", 1))] {
        let db: Db = Db::connect(&patient(proxy.config()).with_pool_size_max(1).with_pooling(pooling)).await.unwrap();
        let failed = db.with_tenant(&acme, async |tx| {
            tx.execute_typed("prepare stolen as select tag from marks", &[]).await?;
            stage.db.platform().execute_typed("select 1", &[]).await
        });
        assert!(failed.await.is_err());
        let row =
            stage.watch.query_one("select exits, max(prepared) from public.found group by exits", &[]).await.unwrap();
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1)), expected, "{pooling:?}");
        stage.sql("truncate public.found").await;
    }
}
