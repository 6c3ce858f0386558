//! Statements that the driver refuses and never sends: a closure that ignores that commits nothing, as with one that the server
//! refuses, and the error says that it is the statement and not the connection.

use crate::stage::{Stage, slug};
use cgk::{
    Db, Error, ErrorKind, Retry, Statements, TransactionError, TxOptions,
    tokio_postgres::types::{ToSql, Type as PgType},
};
use futures_util::StreamExt;
use std::sync::atomic::{AtomicUsize, Ordering};

const INSERT: &str = "insert into marks (tag, n) values ($1, 2)";
const ZERO: &str = "insert into marks (tag, n) values ('zero\0', 2)";
const ROW: &str = "insert into marks (tag, n) values ('kept', 1)";

/// What the driver refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Type,
    /// Of a statement whose types are known from before.
    TypeOfKnown,
    TypeInQueryRaw,
    Number,
    TooMany,
    ZeroByte,
    ZeroByteInPrepared,
    ZeroByteInSeveral,
    ZeroByteInCopy,
    ZeroByteInCopyOut,
    /// A value of a row of COPY; the COPY is then abandoned.
    ValueInCopy,
    /// The control: nothing is.
    Nothing,
}
use Refused::*;

const ALL: [Refused; 11] = [
    Type,
    TypeOfKnown,
    TypeInQueryRaw,
    Number,
    TooMany,
    ZeroByte,
    ZeroByteInPrepared,
    ZeroByteInSeveral,
    ZeroByteInCopy,
    ZeroByteInCopyOut,
    ValueInCopy,
];

/// Asks for such a statement and returns its error.
async fn ask(what: Refused, tx: &mut impl Statements) -> Option<Error> {
    let many: Vec<i32> = (0..70_000).collect();
    let many: Vec<(&(dyn ToSql + Sync), PgType)> =
        many.iter().map(|n| (n as &(dyn ToSql + Sync), PgType::INT4)).collect();
    match what {
        Type => tx.execute(INSERT, &[&5_i32]).await.err(),
        TypeOfKnown => {
            tx.execute("insert into marks (tag, n) values ($1, 3)", &[&"known"]).await.unwrap();
            tx.execute("insert into marks (tag, n) values ($1, 3)", &[&5_i32]).await.err()
        }
        TypeInQueryRaw => {
            match tx.query_raw("insert into marks (tag, n) values ($1, 4) returning n", &[&5_i32]).await {
                Ok(mut rows) => rows.next().await.and_then(Result::err),
                Err(error) => Some(error),
            }
        }
        Number => tx.execute(INSERT, &[&"one", &"two"]).await.err(),
        TooMany => tx.execute_typed("insert into marks (tag, n) values ('many', $1)", &many).await.err(),
        ZeroByte => tx.execute_typed(ZERO, &[]).await.err(),
        ZeroByteInPrepared => tx.execute("insert into marks (tag, n) values ('zero\0' || $1, 2)", &[&"x"]).await.err(),
        ZeroByteInSeveral => tx.execute_all(&[ROW, ZERO, ROW]).await.err(),
        ZeroByteInCopy => tx.copy_in::<bytes::Bytes>("copy marks from stdin with (null '\0')").await.err(),
        ZeroByteInCopyOut => tx.copy_out("copy marks to stdout with (null '\0')").await.err(),
        ValueInCopy => {
            let types = [PgType::TEXT, PgType::INT4];
            let mut copy = tx.binary_copy_in("copy marks (tag, n) from stdin (format binary)", &types).await.unwrap();
            copy.write(&[&"copied", &1_i32]).await.unwrap();
            copy.write(&[&7_i32, &1_i32]).await.err()
        }
        Nothing => None,
    }
}

fn assert_says_so(what: Refused, error: &Error) {
    let report = error.report();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Invalid, false), "{what:?}: {report}");
    assert!(!report.contains("lost the connection"), "{what:?}: {report}");
    assert!(report.starts_with("a statement of ") && !report.contains("response"), "{what:?}: {report}");
}

/// Where in the transaction it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    /// In a part that is rolled back.
    InDroppedPart,
    /// In a part that is released, which fails.
    InReleasedPart,
    /// Before a part that is rolled back.
    BeforePart,
}
use Place::*;

/// Writes a row, asks for such a statement and ignores its error, writes a row again.
async fn body(what: Refused, place: Place, tx: &mut impl Statements) -> Result<(), Error> {
    tx.execute_typed(ROW, &[]).await?;
    let error = match place {
        Outside => ask(what, tx).await,
        InDroppedPart | InReleasedPart => {
            let mut part = tx.savepoint().await?;
            let error = ask(what, &mut *part).await;
            if place == InReleasedPart {
                let released = part.release().await;
                assert_eq!(
                    released.map_err(|error| error.kind()).err(),
                    error.as_ref().map(|_| ErrorKind::Refused),
                    "{what:?}"
                );
            }
            error
        }
        BeforePart => {
            let error = ask(what, tx).await;
            drop(tx.savepoint().await?);
            error
        }
    };
    assert_eq!(error.is_some(), what != Nothing, "{what:?}");
    if let Some(error) = error {
        assert_says_so(what, &error);
    }
    if what != ValueInCopy || place != Outside && place != BeforePart {
        // A statement that succeeds behind it makes nothing good.
        tx.execute_typed(ROW, &[]).await?;
    }
    Ok(())
}

/// Runs the body as acme and as the platform, and returns how each ended.
async fn outcomes(db: &Db, what: Refused, place: Place) -> [Result<(), Error>; 2] {
    let tenant = db.with_tenant(&slug("acme"), async |tx| body(what, place, tx).await).await;
    [tenant, db.platform().transaction(async |tx| body(what, place, tx).await).await]
}

async fn written(stage: &Stage) -> (i64, i64) {
    let count = async |table: &str| stage.number(&format!("select count(*) from {table} where n > 0")).await;
    let found = (count("tenant_acme.marks").await, count("public.marks").await);
    stage.sql("delete from tenant_acme.marks where n > 0; delete from public.marks where n > 0").await;
    found
}

#[tokio::test]
async fn what_the_driver_refuses_is_not_committed_around() {
    let stage = Stage::set().await;
    let db = &stage.db;
    for what in ALL {
        for place in [Outside, BeforePart] {
            // The COPY that is abandoned fails at the server too, so no part can be begun behind it.
            if (what, place) == (ValueInCopy, BeforePart) {
                continue;
            }
            let [tenant, platform] = outcomes(db, what, place).await;
            assert!(
                matches!(tenant, Err(Error::Transaction(TransactionError::Aborted { .. }))),
                "{what:?} {place:?}: {tenant:?}"
            );
            assert_eq!(
                platform.as_ref().map_err(Error::kind).err(),
                Some(ErrorKind::Refused),
                "{what:?}: {platform:?}"
            );
            assert_eq!(written(&stage).await, (0, 0), "{what:?} {place:?}");
        }
        // As with one that the server refuses, what is rolled back is forgotten.
        for place in [InDroppedPart, InReleasedPart] {
            for outcome in outcomes(db, what, place).await {
                outcome.unwrap_or_else(|error| panic!("{what:?} {place:?}: {}", error.report()));
            }
            assert_eq!(written(&stage).await, (2, 2), "{what:?} {place:?}");
        }
        stage.next_user(db, "globex").await;
    }
    // The control: without such a statement all of it is committed.
    for place in [Outside, InDroppedPart, InReleasedPart, BeforePart] {
        for outcome in outcomes(db, Nothing, place).await {
            outcome.unwrap();
        }
        assert_eq!(written(&stage).await, (2, 2), "{place:?}");
    }
}

/// Types that are out of date are learned anew, and that is no refusal.
#[tokio::test]
async fn a_type_that_has_changed_meanwhile_is_no_refusal() {
    let stage = Stage::set().await;
    let (db, acme) = (&stage.db, slug("acme"));
    let insert = "insert into marks (tag, n) values ('changed', $1)";
    db.with_tenant(&acme, async |tx| tx.execute(insert, &[&1_i32]).await).await.unwrap();
    stage.sql("alter table tenant_acme.marks alter n type text").await;
    db.with_tenant(&acme, async |tx| tx.execute(insert, &[&"two"]).await).await.unwrap();
    assert_eq!(stage.number("select count(*) from tenant_acme.marks where tag = 'changed'").await, 2);
}

#[tokio::test]
async fn a_single_statement_says_it_too_and_is_not_tried_again() {
    let stage = Stage::set().await;
    let (db, acme) = (&stage.db, slug("acme"));
    let many: Vec<i32> = (0..70_000).collect();
    let many: Vec<(&(dyn ToSql + Sync), PgType)> =
        many.iter().map(|n| (n as &(dyn ToSql + Sync), PgType::INT4)).collect();
    let (tenant, platform) = (db.tenant(&acme), db.platform());
    for (what, error) in [
        (ZeroByte, tenant.execute_typed(ZERO, &[]).await.err()),
        (ZeroByte, platform.execute_typed(ZERO, &[]).await.err()),
        (ZeroByteInPrepared, tenant.query("select 1, '\0' || $1", &[&"x"]).await.err()),
        (Type, tenant.execute(INSERT, &[&5_i32]).await.err()),
        (Type, platform.execute(INSERT, &[&5_i32]).await.err()),
        (Number, tenant.execute(INSERT, &[&"one", &"two"]).await.err()),
        (TooMany, tenant.execute_typed("insert into marks (tag, n) values ('many', $1)", &many).await.err()),
        (TooMany, platform.query_typed("select 1", &many).await.err()),
    ] {
        assert_says_so(what, &error.unwrap());
        stage.next_user(db, "globex").await;
    }
    assert_eq!(written(&stage).await, (0, 0));

    let runs = AtomicUsize::new(0);
    let (options, retry) = (TxOptions::default(), Retry::default());
    let outcome = db.with_tenant_retry(&acme, &options, &retry, async |tx| {
        runs.fetch_add(1, Ordering::Relaxed);
        tx.execute_typed("select 1", &many).await
    });
    assert_says_so(TooMany, &outcome.await.unwrap_err());
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}
