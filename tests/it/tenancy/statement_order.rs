//! Two sessions in every order: a tenant's transaction beside somebody who drops or renames its schema under the tenant's
//! lock (threat T3). Which of the two waits is asserted, not timed.

use crate::{
    stage::{Stage, connect, run, slug},
    support::score,
};
use cgk::{Error, MigrationError, TenantError, lock};
use tokio::sync::mpsc;

/// What the tenant's transaction does before the other session comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// It has not begun.
    Nothing,
    Entered,
    Read,
    Written,
    /// It is over.
    Committed,
}

/// What the other session does to the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Drop,
    Rename,
    /// Renames it and puts another of the same name into its place.
    Replace,
}

impl Change {
    fn sql(self) -> &'static str {
        match self {
            Self::Drop => "drop schema tenant_acme cascade",
            Self::Rename => "alter schema tenant_acme rename to gone",
            Self::Replace => {
                "alter schema tenant_acme rename to gone; create schema tenant_acme;
                 create table tenant_acme.marks (tag text, n int); insert into tenant_acme.marks values ('impostor', 0);
                 grant usage on schema tenant_acme to public; grant all on tenant_acme.marks to public"
            }
        }
    }
}

const BEFORE: [Before; 5] = [Before::Nothing, Before::Entered, Before::Read, Before::Written, Before::Committed];
const CHANGES: [Change; 3] = [Change::Drop, Change::Rename, Change::Replace];

#[tokio::test]
async fn in_every_order_one_waits_for_the_other() {
    for change in CHANGES {
        for before in BEFORE {
            one_order(change, before).await;
        }
    }
    let orders = CHANGES.len() * BEFORE.len();
    score::note(
        11,
        "drop, rename, replace at each stage of a transaction, unexpected",
        orders,
        0,
        "who waits is asserted",
    );
}

async fn one_order(change: Change, before: Before) {
    let what = format!("{change:?} after {before:?}");
    let stage = Stage::set().await;
    let admin = connect(stage.database.name()).await;
    let admin_pid: i32 = admin.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let take = format!("begin; select pg_advisory_xact_lock({})", lock::tenant_key(&slug("acme")));

    // The tenant's transaction goes on step by step.
    let (step, mut steps) = mpsc::channel::<()>(1);
    let (say, mut said) = mpsc::channel::<i32>(8);
    let db = stage.db.clone();
    let tenant = async move {
        db.with_tenant(&slug("acme"), async |tx| {
            let pid: i32 = tx.query_typed("select pg_backend_pid()", &[]).await?[0].get(0);
            match before {
                Before::Read => drop(tx.query("select tag from marks", &[]).await?),
                Before::Written => drop(tx.execute("insert into marks (tag, n) values ('early', 1)", &[]).await?),
                _ => {}
            }
            let _ = say.send(pid).await;
            steps.recv().await;
            // Whatever happens outside, it reads its own rows and writes into its own schema.
            let tag: String = tx.query_one("select tag from marks where n = 0", &[]).await?.get(0);
            tx.execute("insert into marks (tag, n) values ('late', 1)", &[]).await?;
            Ok(tag)
        })
        .await
    };
    match before {
        Before::Nothing => {
            run(&admin, &take).await.unwrap();
            let task = tokio::spawn(tenant);
            stage
                .until(&format!(
                    "select exists (select from pg_stat_activity a where datname = current_database()
                                    and {admin_pid} = any (pg_blocking_pids(a.pid)))"
                ))
                .await;
            assert!(said.try_recv().is_err(), "{what}: it was entered");
            run(&admin, change.sql()).await.unwrap();
            run(&admin, "commit").await.unwrap();
            // Only a closure that runs listens.
            let _ = step.send(()).await;
            let outcome = task.await.unwrap();
            match change {
                // Another schema that is the tenant's by name, and everybody may use it: nothing tells them apart.
                Change::Replace => assert_eq!(outcome.unwrap(), "impostor", "{what}"),
                _ => {
                    assert!(matches!(outcome, Err(Error::Tenant(TenantError::NotReady { .. }))), "{what}: {outcome:?}");
                }
            }
        }
        Before::Committed => {
            step.send(()).await.unwrap();
            assert_eq!(tenant.await.unwrap(), "acme", "{what}");
            assert_eq!(stage.marks("acme", "late").await, (1, 0), "{what}");
            // Nothing of it is left to wait for.
            run(&admin, "set lock_timeout = '2s'").await.unwrap();
            run(&admin, &take).await.unwrap();
            run(&admin, change.sql()).await.unwrap();
            run(&admin, "commit").await.unwrap();
        }
        Before::Entered | Before::Read | Before::Written => {
            let task = tokio::spawn(tenant);
            let pid = said.recv().await.unwrap();
            let changing = tokio::spawn(async move {
                run(&admin, &take).await.unwrap();
                run(&admin, change.sql()).await.unwrap();
                run(&admin, "commit").await.unwrap();
            });
            stage.until(&format!("select {pid} = any (pg_blocking_pids({admin_pid}))")).await;
            assert!(!changing.is_finished(), "{what}");
            // Somebody else who comes meanwhile waits behind the change.
            step.send(()).await.unwrap();
            assert_eq!(task.await.unwrap().unwrap(), "acme", "{what}: it read somebody else's rows");
            changing.await.unwrap();
            if change != Change::Drop {
                let late = stage.number("select count(*) from gone.marks where tag = 'late'").await;
                assert_eq!(late, 1, "{what}: its row is not where it belongs");
            }
        }
    }
    // Nothing ever came to the decoys.
    let strays =
        "select (select count(*) from public.marks where n > 0) + (select count(*) from tenantsx.marks where n > 0)";
    assert_eq!(stage.number(strays).await, 0, "{what}");
    stage.next_user(&stage.db, "globex").await;
}

/// The same without the lock: a transaction that has touched no table reads and writes what took the schema's place.
#[tokio::test]
async fn control_without_the_lock_the_transaction_goes_astray() {
    for change in CHANGES {
        let stage = Stage::set().await;
        let (naive, admin) = (connect(stage.database.name()).await, connect(stage.database.name()).await);
        run(&naive, "begin; set local search_path = tenant_acme, public").await.unwrap();
        run(&admin, change.sql()).await.unwrap();
        let tag: String = naive.query_one("select tag from marks where n = 0", &[]).await.unwrap().get(0);
        run(&naive, "insert into marks (tag, n) values ('late', 1); commit").await.unwrap();
        let expected = if change == Change::Replace { "impostor" } else { "decoy" };
        assert_eq!(tag, expected, "{change:?}");
    }
    let changes = CHANGES.len();
    score::control(11, "without the lock, drop, rename, replace", changes, changes, "another table read and written");
}

/// A change that holds the lock too long: a typed error, within the lock timeout, and no statement runs.
#[tokio::test]
async fn a_tenant_that_stays_locked_is_said_to_be() {
    let wait = std::time::Duration::from_millis(50);
    let stage = Stage::set_with(|config| {
        let session = cgk::config::SessionSettings { lock_timeout: wait, ..config.session().clone() };
        config.with_session(session)
    })
    .await;
    let admin = connect(stage.database.name()).await;
    run(&admin, &format!("begin; select pg_advisory_xact_lock({})", lock::tenant_key(&slug("acme")))).await.unwrap();
    let error = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            let _ = tx.execute_typed("insert into public.marks values ('astray', 1)", &[]).await;
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::Migration(MigrationError::Locked { waited, .. }) if *waited == wait), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(stage.number("select count(*) from public.marks where n > 0").await, 0);
    // The lock is the tenant's own: the others do not wait.
    stage.next_user(&stage.db, "globex").await;
    run(&admin, "commit").await.unwrap();
    stage.next_user(&stage.db, "acme").await;
}
