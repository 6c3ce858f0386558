//! Every method of a transaction and of a single statement refuses what ends the transaction or leaves the tenant, and what its
//! answer could not be read from.

use crate::stage::{Stage, slug};
use cgk::{Error, Statements, TransactionError, tokio_postgres::types::Type};

const INSERT: &str = "insert into marks (tag, n) values ('admitted', 1)";

/// A method that sends a text of the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Query,
    QueryOne,
    QueryOpt,
    QueryAs,
    Execute,
    ExecuteAll,
    QueryTyped,
    ExecuteTyped,
    QueryRaw,
    CopyIn,
    CopyOut,
    BinaryCopyIn,
    BinaryCopyOut,
}
use Method::*;

const ALL: [Method; 13] = [
    Query,
    QueryOne,
    QueryOpt,
    QueryAs,
    Execute,
    ExecuteAll,
    QueryTyped,
    ExecuteTyped,
    QueryRaw,
    CopyIn,
    CopyOut,
    BinaryCopyIn,
    BinaryCopyOut,
];

impl Method {
    async fn send(self, tx: &mut impl Statements, sql: &str) -> Result<(), Error> {
        let types = [Type::TEXT, Type::INT4];
        match self {
            Query => tx.query(sql, &[]).await.map(drop),
            QueryOne => tx.query_one(sql, &[]).await.map(drop),
            QueryOpt => tx.query_opt(sql, &[]).await.map(drop),
            QueryAs => tx.query_as::<(i32,), _>(sql, &[]).await.map(drop),
            Execute => tx.execute(sql, &[]).await.map(drop),
            ExecuteAll => tx.execute_all(&[INSERT, sql]).await,
            QueryTyped => tx.query_typed(sql, &[]).await.map(drop),
            ExecuteTyped => tx.execute_typed(sql, &[]).await.map(drop),
            QueryRaw => tx.query_raw(sql, &[]).await.map(drop),
            CopyIn => tx.copy_in::<bytes::Bytes>(sql).await.map(drop),
            CopyOut => tx.copy_out(sql).await.map(drop),
            BinaryCopyIn => tx.binary_copy_in(sql, &types).await.map(drop),
            BinaryCopyOut => tx.binary_copy_out(sql, &types).await.map(drop),
        }
    }

    /// A text of the same kind that is admitted.
    fn harmless(self) -> &'static str {
        match self {
            CopyIn => "copy marks (tag, n) from stdin",
            BinaryCopyIn => "copy marks (tag, n) from stdin (format binary)",
            CopyOut => "copy marks (tag, n) to stdout",
            BinaryCopyOut => "copy marks (tag, n) to stdout (format binary)",
            _ => "select 1",
        }
    }
}

/// Writes a row, sends a text without looking at the answer, and returns whether it was refused before it was sent.
async fn body(tx: &mut impl Statements, method: Method, sql: &str) -> Result<bool, Error> {
    tx.execute_typed(INSERT, &[]).await?;
    let sent = method.send(tx, sql).await;
    Ok(matches!(sent, Err(Error::Transaction(TransactionError::StatementRefused { .. }))))
}

#[tokio::test]
async fn every_method_of_a_transaction_refuses_what_ends_it() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let written = async || {
        let own = stage.number("select count(*) from tenant_acme.marks where n > 0").await;
        own + stage.number("select count(*) from public.marks where n > 0").await
    };
    for method in ALL {
        for sql in ["commit", "reset role"] {
            let mut refused = [false; 2];
            let outcome = stage.db.with_tenant(&acme, async |tx| {
                refused[0] = body(tx, method, sql).await?;
                Ok(())
            });
            let outcome = outcome.await;
            assert!(
                matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
                "{method:?}, {sql}: {outcome:?}"
            );
            let platform = stage.db.platform();
            let outcome = platform.transaction(async |tx| {
                refused[1] = body(tx, method, sql).await?;
                Ok(())
            });
            let outcome = outcome.await;
            assert!(
                matches!(outcome, Err(Error::Transaction(TransactionError::PlatformRefused { .. }))),
                "{method:?}, {sql}: {outcome:?}"
            );
            assert_eq!((refused, written().await), ([true; 2], 0), "{method:?}, {sql}");
        }
        // The control: the method itself is none of it.
        let refused = stage.db.with_tenant(&acme, async |tx| body(tx, method, method.harmless()).await).await;
        // A COPY from the client that is not finished is abandoned, and commits nothing.
        match method {
            CopyIn | BinaryCopyIn => assert!(refused.is_err(), "{method:?}"),
            _ => assert!(!refused.unwrap(), "{method:?}"),
        }
        stage.sql("delete from tenant_acme.marks where n > 0").await;
    }
}

/// The commit of a single statement is sent behind it: a COPY, whose answer only the methods for it read, would be committed and
/// look like a failure.
#[tokio::test]
async fn a_copy_as_a_single_statement_is_refused_and_does_nothing() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    let (tenant, platform) = (stage.db.tenant(&acme), stage.db.platform());
    for sql in
        [format!("copy ({INSERT} returning n) to stdout"), format!("/* */ COPY ({INSERT} returning n) to stdout")]
    {
        let outcomes = [
            tenant.query(&sql, &[]).await.map(drop),
            tenant.query_one(&sql, &[]).await.map(drop),
            tenant.query_opt(&sql, &[]).await.map(drop),
            tenant.query_as::<(i32,), _>(&sql, &[]).await.map(drop),
            tenant.execute(&sql, &[]).await.map(drop),
            tenant.query_typed(&sql, &[]).await.map(drop),
            tenant.execute_typed(&sql, &[]).await.map(drop),
            platform.query(&sql, &[]).await.map(drop),
            platform.execute(&sql, &[]).await.map(drop),
            platform.query_typed(&sql, &[]).await.map(drop),
            platform.execute_typed(&sql, &[]).await.map(drop),
        ];
        for (number, outcome) in outcomes.iter().enumerate() {
            assert!(
                matches!(outcome, Err(Error::Transaction(TransactionError::StatementRefused { form: "copy", .. }))),
                "{number}, {sql}: {outcome:?}"
            );
        }
        assert_eq!(stage.marks("acme", "admitted").await, (0, 0), "{sql}");
    }
    // The control: what is in that COPY may be run.
    tenant.execute(INSERT, &[]).await.unwrap();
    assert_eq!(stage.marks("acme", "admitted").await, (1, 0));
}
