//! What is a lost connection and what only carries such a code: the severity of the server's answer decides, and a broken
//! stream, never a SQLSTATE.

use crate::{
    sandbox::{Cut, Proxy},
    stage::{Session, Stage, slug},
};
use cgk::{ConnectionError, Db, Error, ErrorKind, TransactionError, config::Isolation, login::SharedTables};

/// Codes that a server sends when it ends a connection, and any function may raise.
const CODES: [&str; 6] = ["57P01", "57P02", "57P05", "25P03", "25P04", "08006"];

fn raise(code: &str) -> String {
    format!("do $$ begin raise exception 'only said' using errcode = '{code}'; end $$")
}

#[tokio::test]
async fn an_error_with_the_code_of_a_shutdown_is_a_failed_statement() {
    let stage = Stage::set().await;
    let app = stage.app(Isolation::Role, SharedTables::All).await;
    let acme = slug("acme");
    for code in CODES {
        let sql = raise(code);
        let (_, before) = stage.next_user(&app, "acme").await;
        let error = app.with_tenant(&acme, async |tx| tx.execute_typed(&sql, &[]).await).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(TransactionError::Statement { .. })), "{code}: {error:?}");
        assert_eq!((error.kind(), error.sqlstate().unwrap().code()), (ErrorKind::Failed, code));
        let error = app.tenant(&acme).execute_typed(&sql, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(TransactionError::Statement { .. })), "{code}: {error:?}");
        let error = app.platform().execute_typed(&sql, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(TransactionError::PlatformStatement { .. })), "{code}: {error:?}");
        let (_, after) = stage.next_user(&app, "acme").await;
        assert_eq!(before, after, "{code}: the connection is as good as it was");
    }
}

#[tokio::test]
async fn an_error_with_the_code_of_a_shutdown_at_commit_is_no_unknown_commit() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    for code in CODES {
        stage
            .sql(&format!(
                "create or replace function public.refuse() returns trigger language plpgsql as
                     $$ begin raise exception 'only said' using errcode = '{code}'; end $$;
                 drop trigger if exists refuse on tenant_acme.marks;
                 create constraint trigger refuse after insert on tenant_acme.marks deferrable initially deferred
                     for each row execute function public.refuse()"
            ))
            .await;
        let insert = "insert into marks (tag, n) values ('lost', 1)";
        let error = stage.db.with_tenant(&acme, async |tx| tx.execute_typed(insert, &[]).await).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(TransactionError::Statement { .. })), "{code}: {error:?}");
        assert_eq!(error.sqlstate().unwrap().code(), code);
        let error = stage.db.tenant(&acme).execute_typed(insert, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Transaction(TransactionError::Statement { .. })), "{code}: {error:?}");
        assert_eq!(stage.marks("acme", "lost").await, (0, 0), "{code}");
        stage.next_user(&stage.db, "globex").await;
    }
}

/// The control: the same codes where the server does end the connection.
#[tokio::test]
async fn a_connection_that_the_server_ends_is_lost() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let terminated = async |pid: i32| {
        stage.number(&format!("select pg_terminate_backend({pid})::int::bigint")).await;
        stage.until_gone(pid).await;
    };
    let error = stage
        .db
        .with_tenant(&acme, async |tx| {
            terminated(Session::read(tx).await?.pid).await;
            tx.execute_typed("select 1", &[]).await
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Connection(ConnectionError::Lost { .. })), "{error:?}");
    let error = stage
        .db
        .platform()
        .transaction(async |tx| {
            terminated(tx.query_typed("select pg_backend_pid()", &[]).await?[0].get(0)).await;
            tx.execute_typed("select 1", &[]).await
        })
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Connection(ConnectionError::Lost { .. })), "{error:?}");

    let mut timeouts = vec!["idle_in_transaction_session_timeout"];
    if stage.number("select current_setting('server_version_num')::bigint").await >= 170_000 {
        timeouts.push("transaction_timeout");
    }
    for timeout in timeouts {
        let set = format!("set local {timeout} = '20ms'");
        let error = stage
            .db
            .with_tenant(&acme, async |tx| {
                let session = Session::read(tx).await?;
                tx.execute_typed(&set, &[]).await?;
                stage.until_gone(session.pid).await;
                tx.execute_typed("select 1", &[]).await
            })
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Connection(ConnectionError::Lost { .. })), "{timeout}: {error:?}");
    }
    stage.next_user(&stage.db, "globex").await;
}

/// A server that stops at the end of a transaction says so, and may have committed it.
#[tokio::test]
async fn a_server_that_ends_the_connection_at_commit_leaves_it_unknown() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    stage
        .sql(
            "create function public.stop() returns trigger language plpgsql security definer as
                 $$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(600); return null; end $$;
             create constraint trigger stop after insert on tenant_acme.marks deferrable initially deferred
                 for each row execute function public.stop();
             create constraint trigger stop after insert on public.marks deferrable initially deferred
                 for each row execute function public.stop()",
        )
        .await;
    let insert = "insert into marks (tag, n) values ('lost', 1)";
    let outcomes = [
        ("a transaction", stage.db.with_tenant(&acme, async |tx| tx.execute_typed(insert, &[]).await).await),
        ("a statement", stage.db.tenant(&acme).execute_typed(insert, &[]).await),
        ("the platform's", stage.db.platform().transaction(async |tx| tx.execute_typed(insert, &[]).await).await),
        ("the platform's statement", stage.db.platform().execute_typed(insert, &[]).await),
    ];
    for (what, outcome) in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate().unwrap().code()), (ErrorKind::CommitUnknown, "57P01"), "{what}");
    }
    stage.next_user(&stage.db, "globex").await;
}

/// A connection through a proxy, on which the tenant `acme` has worked.
async fn through(proxy: &Proxy) -> Db {
    let db = Db::connect(&crate::support::patience::patient(proxy.config()).with_pool_size_max(1)).await.unwrap();
    db.tenant(&slug("acme")).query_typed("select 1", &[]).await.unwrap();
    db
}

#[tokio::test]
async fn a_connection_that_is_lost_on_the_way_in_is_no_unknown_commit() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let proxy = Proxy::to(&stage.database).await;
    for how in [Cut::Before, Cut::After] {
        let db = through(&proxy).await;
        proxy.cut_after(0, how);
        let error = db.with_tenant(&acme, async |_| Ok(())).await.unwrap_err();
        assert!(matches!(error, Error::Connection(ConnectionError::Lost { .. })), "{how:?}: {error:?}");
        assert!(error.report().contains("enter tenant acme"), "{how:?}: {}", error.report());
        // The control: the commit of a single statement is sent at once, and no answer says that it was not reached.
        let db = through(&proxy).await;
        proxy.cut_after(0, how);
        let error = db.tenant(&acme).query_typed("select 1", &[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommitUnknown, "{how:?}: {error:?}");
    }
    // A server that says why it ends the session has not reached what was sent behind that.
    let db = through(&proxy).await;
    proxy.rewrite(|text| text.starts_with("begin").then(|| format!("select 1 / 0; {text}")));
    for single in [false, true] {
        let error = match single {
            true => db.tenant(&acme).query_typed("select 1", &[]).await.map(drop),
            false => db.with_tenant(&acme, async |_| Ok(())).await,
        };
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Connection(ConnectionError::Lost { .. })), "single {single}: {error:?}");
    }
}

/// What was committed is committed, and a session that could not be reset has no next user.
#[tokio::test]
async fn a_commit_whose_reset_fails_is_a_commit_and_costs_the_connection() {
    let stage = Stage::set().await;
    let proxy = Proxy::to(&stage.database).await;
    let db = through(&proxy).await;
    let write = async |tag: &str| {
        db.with_tenant(&slug("acme"), async |tx| {
            tx.execute("insert into marks (tag, n) values ($1, 1)", &[&tag]).await?;
            Ok(Session::read(tx).await?.pid)
        })
        .await
    };
    let first = write("control").await.unwrap();
    // The control: the connection is used again.
    assert_eq!(write("control").await.unwrap(), first);
    let mut fails = true;
    proxy.rewrite(move |text| {
        let failing =
            text.contains("commit; close all").then(|| text.replacen("commit; close all", "commit; select 1 / 0", 1));
        if failing.is_some() && std::mem::take(&mut fails) { failing } else { None }
    });
    assert_eq!(write("unclean").await.unwrap(), first);
    assert_eq!(stage.marks("acme", "unclean").await, (1, 0));
    assert_ne!(write("control").await.unwrap(), first);
}
