//! What a service asks of its handle: health, load, its end, all tenants, notifications, errors and log lines.

use crate::{
    stage::{Stage, slug},
    support::{log::Log, patience::must_end},
};
use cgk::{
    Closed, ConnectionError, Db, Error, ErrorKind, PoolStatus, Statements,
    config::{Isolation, Pooling},
    ident::Ident,
    login::SharedTables,
};
use std::{error::Error as StdError, sync::Arc, time::Duration};
use tokio::sync::{Barrier, Notify};

const NONE: Duration = Duration::ZERO;

#[tokio::test]
async fn a_ping_needs_no_tenant_and_the_status_counts_connections() {
    let stage = Stage::set().await;
    // The connection that looked at the database is kept.
    assert_eq!((stage.db.pool_status().size, stage.db.pool_status().idle), (1, 1));
    stage.db.ping().await.unwrap();
    let status = stage.db.pool_status();
    assert_eq!((status.size_max, status.size, status.idle, status.waiting), (1, 1, 1, 0));
    stage
        .db
        .with_tenant(&slug("acme"), async |_| {
            assert_eq!(stage.db.pool_status().idle, 0);
            Ok(())
        })
        .await
        .unwrap();
    // A backend that is gone: the ping says so, and the next one has a new connection.
    let (_, pid) = stage.next_user(&stage.db, "acme").await;
    stage.sql(&format!("select pg_terminate_backend({pid})")).await;
    stage.until_gone(pid).await;
    let _ = stage.db.ping().await;
    stage.db.ping().await.unwrap();
    stage.next_user(&stage.db, "globex").await;
}

#[tokio::test]
async fn a_closed_pool_waits_for_its_transactions_and_takes_no_more() {
    let stage = Stage::set().await;
    let (inside, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (db, entered, released) = (stage.db.clone(), Arc::clone(&inside), Arc::clone(&go_on));
    let work = tokio::spawn(async move {
        db.with_tenant(&slug("acme"), async |tx| {
            entered.notify_one();
            released.notified().await;
            tx.execute("insert into marks (tag, n) values ('closing', 1)", &[]).await
        })
        .await
    });
    inside.notified().await;
    assert_eq!(stage.db.close(NONE).await, Closed::StillInUse(1));
    let error = stage.db.tenant(&slug("acme")).query("select 1", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Connection(ConnectionError::PoolClosed)), "{error}");
    assert_eq!((error.code(), error.kind(), error.is_retryable()), ("CGK0208", ErrorKind::Unavailable, false));
    // To a later deadline it waits.
    let db = stage.db.clone();
    let closing = tokio::spawn(async move { db.close(crate::support::patience::HANG).await });
    tokio::task::yield_now().await;
    assert!(!closing.is_finished());
    let error = stage.db.ping().await.unwrap_err();
    assert!(matches!(error, Error::Connection(ConnectionError::PoolClosed)), "{error}");
    go_on.notify_one();
    // What was under way commits.
    assert_eq!(work.await.unwrap().unwrap(), 1);
    assert_eq!(closing.await.unwrap(), Closed::Drained);
    assert_eq!(stage.marks("acme", "closing").await, (1, 0));
}

#[tokio::test]
async fn every_active_tenant_has_its_turn_and_one_that_fails_stops_none() {
    let stage = Stage::set().await;
    stage.database.with_tenants(&["initech", "umbrella"]).await.unwrap();
    stage.sql("update organizations set status = 'suspended' where slug = 'umbrella'").await;
    let db = stage.db.clone();
    // Spawned: the future is Send.
    let outcomes = tokio::spawn(async move {
        db.for_each_tenant(
            |slug| slug.as_str() != "initech",
            8,
            async |tx| {
                if tx.slug().as_str() == "acme" {
                    tx.execute("select 1 / 0", &[]).await?;
                }
                Ok(tx.query_one("select tag from marks where n = 0", &[]).await?.get::<_, String>(0))
            },
        )
        .await
    })
    .await
    .unwrap()
    .unwrap();
    let [(acme, failed), (globex, tag)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((acme.as_str(), globex.as_str(), tag.as_deref().unwrap()), ("acme", "globex", "globex"));
    assert_eq!(failed.as_ref().unwrap_err().sqlstate().unwrap().code(), "22012");
    stage.next_user(&stage.db, "acme").await;
}

#[tokio::test]
async fn as_many_tenants_at_once_as_asked_for() {
    let stage = Stage::set().await;
    stage.database.with_tenants(&["initech"]).await.unwrap();
    let db = Db::connect(&stage.config().with_pool_size_max(3)).await.unwrap();
    let all = Barrier::new(3);
    let together = db.for_each_tenant(
        |_| true,
        3,
        async |_| {
            all.wait().await;
            Ok(())
        },
    );
    assert_eq!(must_end("three at once", together).await.unwrap().len(), 3);
    // The pool has three connections now; whoever runs sees how many are in use.
    let in_use = |status: PoolStatus| status.size - status.idle;
    for jobs in [0, 1] {
        let outcomes = db.for_each_tenant(|_| true, jobs, async |_| Ok(in_use(db.pool_status()))).await.unwrap();
        let seen: Vec<usize> = outcomes.into_iter().map(|(_, outcome)| outcome.unwrap()).collect();
        assert_eq!(seen, [1, 1, 1], "{jobs}");
    }
}

#[tokio::test]
async fn notifications_of_committed_transactions_arrive_in_order() {
    let stage = Stage::set().await;
    let odd = Ident::new("odd \"channel\"").unwrap();
    let mut listener = stage.db.listen(&[Ident::new("orders").unwrap(), odd.clone()]).await.unwrap();
    let notify = "select pg_notify($1, $2)";
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.query(notify, &[&"orders", &"one"]).await?;
            tx.query(notify, &[&"odd \"channel\"", &"two"]).await
        })
        .await
        .unwrap();
    let acme = slug("acme");
    let undone = stage.db.with_tenant(&acme, async |tx| {
        tx.query(notify, &[&"orders", &"never"]).await?;
        tx.query("select 1 / 0", &[]).await
    });
    undone.await.unwrap_err();
    stage.db.platform().query(notify, &[&"orders", &"three"]).await.unwrap();
    for expected in [("orders", "one"), ("odd \"channel\"", "two"), ("orders", "three")] {
        let received = listener.recv().await.unwrap();
        assert_eq!((received.channel(), received.payload()), expected);
    }
    // A lost connection is an error and not silence.
    stage.sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen %'").await;
    let error = listener.recv().await.map(|received| received.payload().to_owned()).unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("CGK0206", true));
    let pooled: Db = Db::connect(&stage.config().with_pooling(Pooling::Transaction)).await.unwrap();
    assert_eq!(pooled.listen(&[odd]).await.err().unwrap().code(), "CGK0207");
}

#[tokio::test]
async fn the_configuration_gives_the_driver_its_own() {
    let stage = Stage::set().await;
    assert_eq!(stage.config().driver().get_dbname(), Some(stage.database.name()));
}

/// Each case of `is_retryable`, met on a server.
#[tokio::test]
async fn what_is_retryable_can_succeed_when_it_is_run_again() {
    let stage = Stage::set_with(|config| config.with_pool_wait(Duration::from_millis(50))).await;
    let acme = slug("acme");
    // The only connection is in use.
    let timeout = stage
        .db
        .with_tenant(&acme, async |_| {
            let other = stage.db.clone();
            Ok(tokio::spawn(async move { other.tenant(&slug("acme")).query("select 1", &[]).await }).await)
        })
        .await;
    let timeout = timeout.unwrap().unwrap().unwrap_err();
    assert_eq!((timeout.code(), timeout.is_retryable()), ("CGK0205", true));
    // The connection is lost before the commit.
    let lost = stage
        .db
        .with_tenant(&acme, async |tx| {
            let pid: i32 = tx.query_one("select pg_backend_pid()", &[]).await?.get(0);
            stage.sql(&format!("select pg_terminate_backend({pid})")).await;
            stage.until_gone(pid).await;
            tx.query("select 1", &[]).await
        })
        .await
        .unwrap_err();
    assert_eq!((lost.code(), lost.is_retryable()), ("CGK0206", true), "{lost}");
    // A plan is out of date.
    let stale = stage
        .db
        .with_tenant(&acme, async |tx| {
            tx.execute_all(&["create temp table t (a int)", "prepare p as select * from t", "execute p"]).await?;
            tx.execute_all(&["alter table t add b int", "execute p"]).await
        })
        .await
        .unwrap_err();
    assert_eq!((stale.sqlstate().unwrap().code(), stale.is_retryable()), ("0A000", true), "{stale}");
    // The controls: the same SQLSTATE of another origin, and what stays wrong.
    for sql in ["select 1 / 0", "insert into marks (n) values ('x'::text::int)", "select lo_import('x') over ()"] {
        let error = stage.db.tenant(&acme).query_typed(sql, &[]).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    let raised = "do $$ begin raise 'x' using errcode = '0A000'; end $$";
    let error = stage.db.tenant(&acme).execute_typed(raised, &[]).await.unwrap_err();
    assert_eq!((error.sqlstate().unwrap().code(), error.is_retryable()), ("0A000", false));
    stage.next_user(&stage.db, "globex").await;
}

/// What is shown of an error names operation and cause, and no value of a row.
#[tokio::test]
async fn no_text_of_an_error_holds_the_detail() {
    let stage = Stage::set().await;
    stage.sql("create unique index marks_tag_key on tenant_acme.marks (tag)").await;
    let acme = slug("acme");
    let insert = "insert into marks (tag, n) values ('row value 4711', 1)";
    stage.db.tenant(&acme).execute(insert, &[]).await.unwrap();
    let error = stage.db.tenant(&acme).execute(insert, &[]).await.unwrap_err();
    let expected = "a statement of tenant acme failed: ERROR: duplicate key value violates unique constraint \
                    \"marks_tag_key\" (23505)";
    assert_eq!((error.to_string().as_str(), error.report().as_str()), (expected, expected));
    assert_eq!(error.constraint(), Some("marks_tag_key"));
    // The control: the server did say it.
    assert!(error.db().unwrap().detail().unwrap().contains("4711"));
    let chain: Vec<String> = std::iter::successors(Some(&error as &dyn StdError), |&error| error.source())
        .flat_map(|error| [error.to_string(), format!("{error:?}"), format!("{error:#?}")])
        .collect();
    assert!(chain.iter().all(|text| !text.contains("4711")), "{chain:#?}");
    // A value that the driver could not read: its cause is said once.
    let error = stage.db.tenant(&acme).query_as::<(i32,), _>("select 'x'", &[]).await.unwrap_err();
    let expected = "a statement of tenant acme failed: error deserializing column 0: cannot convert between the Rust type \
                    `i32` and the Postgres type `text`";
    assert_eq!(error.report(), expected);
    // And one line for causes below.
    let refused = cgk::Config::from_url("postgresql://x@127.0.0.1:1/x?sslmode=disable").unwrap();
    let report = Db::connect(&refused).await.unwrap_err().report();
    assert!(report.starts_with("could not connect to ") && report.contains("error connecting to server"), "{report}");
    assert!(!report.contains('\n'), "{report}");
}

/// `?` in a closure with the default error type.
#[tokio::test]
async fn errors_of_other_libraries_pass_through_the_default_handle() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    async fn row(tx: &impl Statements) -> cgk::Result<i32> {
        Ok(tx.query_one("select 'x'", &[]).await?.try_get(0)?)
    }
    let error = stage.db.with_tenant(&acme, async |tx| row(tx).await).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0903", ErrorKind::Failed));
    let json = stage.db.with_tenant(&acme, async |_| Ok(serde_json::from_str::<i32>("[1")?)).await.unwrap_err();
    let boxed = stage.db.with_tenant::<(), _>(&acme, async |_| {
        let error: Box<dyn StdError + Send + Sync> = "sold out".into();
        Err(error)?
    });
    let boxed = boxed.await.unwrap_err();
    assert_eq!((json.code(), boxed.code(), boxed.to_string().as_str()), ("CGK0904", "CGK0904", "sold out"));
    assert!(json.to_string().starts_with("invalid type: sequence"), "{json}");
    stage.next_user(&stage.db, "acme").await;
}

#[tokio::test]
async fn a_log_line_says_operation_tenant_and_outcome() {
    let stage = Stage::set().await;
    let app = stage.app(Isolation::Role, SharedTables::All).await;
    let log = Log::default();
    let guard = log.listen("cgk=debug");
    let acme = slug("acme");
    stage.db.with_tenant(&acme, async |tx| tx.query("select 1", &[]).await).await.unwrap();
    stage.db.tenant(&acme).query("select 1 / 0", &[]).await.unwrap_err();
    app.platform().transaction(async |tx| tx.query("select 2", &[]).await).await.unwrap();
    app.platform().query_one("select 3", &[]).await.unwrap();
    drop(guard);
    let text = log.text();
    for line in [
        "cgk{operation=\"with_tenant\" tenant=\"acme\" outcome=\"committed\"}",
        "cgk{operation=\"query\" tenant=\"acme\" outcome=\"failed\"}",
        "cgk{operation=\"platform\" outcome=\"committed\"}",
        "cgk{operation=\"query_one\" outcome=\"committed\"}",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    // Neither statements nor values are logged.
    assert!(!text.contains("select"), "{text}");
}
