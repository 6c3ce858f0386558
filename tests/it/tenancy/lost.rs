//! What is a lost connection and what only carries such a code: the severity of the server's answer decides, and a broken
//! stream, never a SQLSTATE.

use crate::stage::{Session, Stage, slug};
use cgk::{ConnectionError, Error, ErrorKind, TransactionError, config::Isolation, login::SharedTables};

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
            terminated(Session::look(tx).await?.pid).await;
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
                let session = Session::look(tx).await?;
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
