//! A statement or an entry that is dropped: the next user of its connection does not wait for it.

use super::cancel_work::{Cancellable, PANIC, QUIET};
use crate::{
    stage::{Stage, address, connect, report, run, slug},
    support::{patience::must_end, score},
};
use cgk::{Error, TenantError, lock};
use tokio_postgres::NoTls;

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
