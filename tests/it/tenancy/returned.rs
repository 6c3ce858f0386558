//! When a call returns, its transaction has ended: no task that runs later has to roll it back.

use crate::{
    sandbox::Proxy,
    stage::{Stage, connect, run, slug},
    support::patience::patient,
};
use cgk::{Db, Error, MigrationError, TransactionError, config::SessionSettings, lock};
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
    for is_running in [false, true] {
        let (_, before) = stage.next_user(&db, "acme").await;
        let acme = slug("acme");
        let failed = db.with_tenant(&acme, async |tx| {
            tx.execute_typed(INSERT, &[]).await?;
            if is_running {
                assert!(tx.execute_typed("select pg_sleep(600)", &[]).now_or_never().is_none());
            }
            stage.db.platform().execute_typed("select 1", &[]).await
        });
        assert!(failed.await.is_err());
        let (_, after) = stage.next_user(&db, "acme").await;
        // The control: a connection on which a statement was running is given up.
        assert_eq!(before != after, is_running);
    }
}
