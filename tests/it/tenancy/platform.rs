//! The platform's own way to the shared tables: all organizations, guarded and cleaned up like a tenant's transaction.

use crate::{
    stage::{Stage, slug},
    support::patience::must_end,
};
use cgk::{
    Db, Error, ErrorKind, SetupError, TenantError, TransactionError, TxOptions,
    config::{Isolation, Pooling},
    login::SharedTables,
};

async fn stage() -> (Stage, Db) {
    let stage = Stage::set().await;
    stage.sql("insert into users (organization_id, email) select id, slug || '@x' from organizations").await;
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    (stage, db)
}

const EMAILS: &str = "select email from users order by email";

#[tokio::test]
async fn it_sees_every_organization_and_leaves_the_session_clean() {
    let (stage, db) = stage().await;
    for _ in 0..2 {
        let rows = db.platform().query(EMAILS, &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["acme@x", "globex@x"]);
        stage.next_user(&db, "acme").await;
    }
    let state = "select current_setting('search_path'), current_user = session_user, current_setting('app.current_organization_id')";
    let row = db.platform().query_one(state, &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1), row.get::<_, &str>(2)), ("public, pg_temp", true, ""));
    assert!(db.platform().query_opt("select 1 from users where email = $1", &[&"no@x"]).await.unwrap().is_none());
    assert_eq!(db.platform().execute("update users set status = 'active'", &[]).await.unwrap(), 2);
    let typed = db.platform().query_typed(EMAILS, &[]).await.unwrap();
    assert_eq!(typed.len(), 2);
    assert_eq!(db.platform().execute_typed("update users set status = 'active'", &[]).await.unwrap(), 2);
    // The same statement text in a tenant is another statement.
    assert_eq!(db.tenant(&slug("acme")).query(EMAILS, &[]).await.unwrap().len(), 1);
    let error = db.platform().query_one(EMAILS, &[]).await.unwrap_err();
    assert_eq!(error.code(), "CGK0506");
    // No tenant's table is in its path.
    let error = db.platform().query("select from orders", &[]).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42P01");
}

#[tokio::test]
async fn a_transaction_commits_whole_or_not_at_all() {
    let (stage, db) = stage().await;
    let count = async || stage.number("select count(*) from magic_links").await;
    let insert = "insert into magic_links (email, token_hash, purpose, expires_at) values ($1, sha256($1::text::bytea), 'login', now() + interval '1 hour')";
    let platform = db.platform();
    let two = platform.transaction(async |tx| {
        tx.execute(insert, &[&"a@x"]).await?;
        tx.execute(insert, &[&"b@x"]).await
    });
    two.await.unwrap();
    assert_eq!(count().await, 2);
    let error = db
        .platform()
        .transaction::<(), _>(async |tx| {
            tx.execute(insert, &[&"c@x"]).await?;
            Err(Error::Tenant(TenantError::EntryRefused { tenant: slug("acme") }))
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), "CGK0405");
    // A failure that is ignored does not commit, and neither does a body that leaves.
    let error = db
        .platform()
        .transaction(async |tx| {
            tx.execute(insert, &[&"d@x"]).await?;
            let _ = tx.execute("select 1 / 0", &[]).await;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.sqlstate().unwrap().code()), ("CGK0507", "22012"));
    for leave in [
        "commit",
        "set local search_path = tenant_acme",
        "select set_config('cgk.tx', 'x', true)",
        "select set_config('app.current_organization_id', 'x', true)",
        &format!("set local role {}", stage.role("acme")),
    ] {
        let error = db
            .platform()
            .transaction(async |tx| {
                tx.execute(insert, &[&"e@x"]).await?;
                let _ = tx.query_typed(leave, &[]).await;
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.kind()), ("CGK0507", ErrorKind::Refused), "{leave}");
    }
    let read_only = TxOptions::default().read_only();
    let error =
        db.platform().transaction_in(&read_only, async |tx| tx.execute(insert, &[&"f@x"]).await).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "25006");
    assert_eq!(count().await, 2);
    stage.next_user(&db, "globex").await;
}

/// Dropped while a statement runs: nothing stays, and the next user neither waits nor meets the cancel.
#[tokio::test]
async fn a_dropped_future_leaves_nothing_behind() {
    let (stage, db) = stage().await;
    for round in 0..5 {
        // A text of its own: the last round's statement may still be seen dying.
        let (text, sleep) = (format!("dropped {round}"), format!("select pg_sleep(3600) /* dropped {round} */"));
        let platform = db.platform();
        let work = platform.transaction(async |tx| {
            tx.execute("update users set status = 'disabled'", &[]).await?;
            tx.query(&sleep, &[]).await
        });
        tokio::select! {
            outcome = work => panic!("{:?}", outcome.map(|rows| rows.len())),
            _ = stage.until_running(&text) => {}
        }
        stage.next_user(&db, "acme").await;
    }
    assert_eq!(stage.number("select count(*) from users where status = 'disabled'").await, 0);
}

#[tokio::test]
async fn a_task_inside_a_tenant_is_refused() {
    let (stage, db) = stage().await;
    // Also where there would be a connection for it.
    let other = stage.app(Isolation::Role, SharedTables::All).await;
    let error = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.query("table marks", &[]).await?;
            other.platform().query(EMAILS, &[]).await
        })
        .await
        .unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0509", ErrorKind::Refused));
    assert_eq!(other.platform().query(EMAILS, &[]).await.unwrap().len(), 2);
}

/// A call inside its transaction for which the pool can never have a connection is refused at once and by name.
#[tokio::test]
async fn a_call_inside_it_that_can_get_no_connection_is_refused() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    for (size, enough) in [(1, false), (2, true)] {
        let db: Db = Db::connect(&stage.config().with_pool_size_max(size)).await.unwrap();
        let platform = db.platform();
        let outcomes = platform
            .transaction(async |_| {
                Ok([
                    must_end("tenant", db.with_tenant(&acme, async |_| Ok(()))).await,
                    must_end("statement", db.tenant(&acme).execute("select 1", &[])).await.map(drop),
                    must_end("platform", db.platform().execute("select 1", &[])).await.map(drop),
                ])
            })
            .await
            .unwrap();
        let expected = [Some(acme.clone()), Some(acme.clone()), None];
        for (outcome, expected) in outcomes.into_iter().zip(expected) {
            match outcome {
                Ok(()) => assert!(enough),
                Err(Error::Transaction(TransactionError::NestedInPlatform { tenant, size_max })) => {
                    assert_eq!((tenant, size_max, enough), (expected, 1, false));
                }
                other => panic!("{other:?}"),
            }
        }
        // The platform's transaction is over.
        db.with_tenant(&acme, async |_| Ok(())).await.unwrap();
    }
}

/// `row_security = off`, as whoever makes dumps sets it: the statement that the server then refuses says what to do.
#[tokio::test]
async fn row_security_off_is_named_with_what_helps() {
    let (stage, db) = stage().await;
    stage.sql(&format!("alter database \"{}\" set row_security = off", stage.database.name())).await;
    let again = || async { Db::<Error>::connect(db.config()).await.unwrap() };
    let refused = again().await.platform().query(EMAILS, &[]).await.unwrap_err();
    let Error::Setup(SetupError::Privilege { needed, grant, .. }) = refused else { panic!("{refused:?}") };
    assert!(needed.contains("row_security is off"), "{needed}");
    stage.sql(&grant).await;
    assert_eq!(again().await.platform().query(EMAILS, &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn behind_a_transaction_pooler_it_is_the_same() {
    let (_stage, db) = stage().await;
    let db: Db = Db::connect(&db.config().clone().with_pooling(Pooling::Transaction)).await.unwrap();
    assert_eq!(db.platform().query(EMAILS, &[]).await.unwrap().len(), 2);
    assert_eq!(db.platform().query_typed(EMAILS, &[]).await.unwrap().len(), 2);
    let one = "select email from users where email = $1";
    assert_eq!(db.platform().query(one, &[&"acme@x"]).await.unwrap().len(), 1);
    let left: i64 = db.platform().query_one("select count(*) from pg_prepared_statements", &[]).await.unwrap().get(0);
    assert_eq!(left, 0);
}

/// The calls stand in spawned tasks, with borrowed captures.
#[tokio::test]
async fn its_futures_are_send() {
    let (_stage, db) = stage().await;
    let rows = tokio::spawn(async move {
        let email = String::from("acme@x");
        db.platform().transaction(async |tx| tx.query("select id from users where email = $1", &[&email]).await).await
    });
    assert_eq!(rows.await.unwrap().unwrap().len(), 1);
}
