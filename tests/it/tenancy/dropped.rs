//! Futures of statements that are dropped, as by a timeout or `select!` around them, in a transaction that goes on: the statement is
//! in what is committed, or nothing is committed.

use crate::stage::{Stage, slug};
use cgk::{Error, TenantTx, TransactionError, config::Pooling};
use futures_util::FutureExt;

const TYPED: &str = "insert into marks (tag, n) values ('dropped', 1)";
const WITH_TYPES: &str = "insert into marks (tag, n) values ('dropped', $1)";
const COPY: &str = "copy (insert into marks (tag, n) values ('dropped', 1) returning tag) to stdout";

/// What a closure does with a statement before it returns `Ok`.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// It polls the future once and drops it.
    Typed,
    WithTypes,
    CopyOut,
    /// It drops the future without a poll.
    Unpolled,
    /// It waits for another statement first.
    AfterAnother,
    /// In a part that is dropped, or released.
    InDroppedPart,
    InReleasedPart,
    /// It drops the future of a savepoint.
    Savepoint,
    /// The controls: it waits.
    Awaited,
}
use Step::*;

async fn take(step: Step, tx: &mut TenantTx<'_>) -> Result<(), Error> {
    let polled = match step {
        Typed => tx.execute_typed(TYPED, &[]).now_or_never().is_some(),
        WithTypes => tx.execute(WITH_TYPES, &[&1_i32]).now_or_never().is_some(),
        CopyOut => tx.copy_out(COPY).now_or_never().is_some(),
        Unpolled => {
            drop(tx.execute_typed(TYPED, &[]));
            false
        }
        AfterAnother => {
            tx.query_typed("select 1", &[]).await?;
            tx.execute_typed(TYPED, &[]).now_or_never().is_some()
        }
        InDroppedPart => {
            let part = tx.savepoint().await?;
            part.execute(WITH_TYPES, &[&1_i32]).now_or_never().is_some()
        }
        InReleasedPart => {
            let part = tx.savepoint().await?;
            let polled = part.execute(WITH_TYPES, &[&1_i32]).now_or_never().is_some();
            part.release().await?;
            polled
        }
        Savepoint => tx.savepoint().now_or_never().is_some(),
        Awaited => {
            tx.execute(WITH_TYPES, &[&1_i32]).await?;
            false
        }
    };
    assert!(!polled, "{step:?} is not answered at once");
    Ok(())
}

/// Runs the step in a transaction of its own; how many rows are committed, or `None` where the commit is refused by name.
async fn committed(stage: &Stage, step: Step) -> Option<i64> {
    let outcome = stage.db.with_tenant(&slug("acme"), async |tx| take(step, tx).await).await;
    let (rows, _) = stage.marks("acme", "dropped").await;
    stage.sql("delete from tenant_acme.marks where tag = 'dropped'").await;
    stage.next_user(&stage.db, "globex").await;
    match outcome {
        Ok(()) => Some(rows),
        Err(error) => {
            assert!(
                matches!(&error, Error::Transaction(TransactionError::StatementDropped { .. }))
                    && error.code() == "CGK0511",
                "{step:?}: {error:?}"
            );
            assert_eq!(rows, 0, "{step:?}");
            None
        }
    }
}

#[tokio::test]
async fn on_a_connection_of_ones_own() {
    let stage = Stage::set().await;
    for (step, expected) in [
        (Typed, Some(1)),
        (WithTypes, None),
        (InDroppedPart, Some(0)),
        (InReleasedPart, None),
        (CopyOut, None),
        (Unpolled, Some(0)),
        (AfterAnother, Some(1)),
        (Savepoint, Some(0)),
        (Awaited, Some(1)),
        // The server has told the types.
        (WithTypes, Some(1)),
        (InDroppedPart, Some(0)),
        (InReleasedPart, Some(1)),
    ] {
        assert_eq!(committed(&stage, step).await, expected, "{step:?}");
    }
}

#[tokio::test]
async fn behind_a_pooler() {
    let stage = Stage::set_with(|config| config.with_pooling(Pooling::Transaction)).await;
    for (step, expected) in [
        (Typed, None),
        (WithTypes, None),
        (CopyOut, None),
        (Unpolled, Some(0)),
        // The entry is answered with it.
        (AfterAnother, Some(1)),
        (InDroppedPart, Some(0)),
        (Savepoint, Some(0)),
        (Awaited, Some(1)),
    ] {
        assert_eq!(committed(&stage, step).await, expected, "{step:?}");
    }
}

/// A savepoint whose future is dropped does not hold up what comes behind it.
#[tokio::test]
async fn the_transaction_goes_on_behind_a_savepoint_that_was_dropped() {
    for pooling in [Pooling::Direct, Pooling::Transaction] {
        let stage = Stage::set_with(|config| config.with_pooling(pooling)).await;
        let body = async |tx: &mut TenantTx<'_>| {
            assert!(tx.savepoint().now_or_never().is_none());
            tx.execute_typed(TYPED, &[]).await
        };
        assert_eq!(stage.db.with_tenant(&slug("acme"), body).await.unwrap(), 1, "{pooling:?}");
        assert_eq!(stage.marks("acme", "dropped").await, (1, 0), "{pooling:?}");
    }
}

#[tokio::test]
async fn in_the_platforms_transaction() {
    let stage = Stage::set().await;
    let sql = "insert into public.marks (tag, n) values ('dropped', $1)";
    let committed = async || {
        let outcome = stage
            .db
            .platform()
            .transaction(async |tx| {
                assert!(tx.execute(sql, &[&1_i32]).now_or_never().is_none());
                Ok(())
            })
            .await;
        let rows = stage.number("select count(*) from public.marks where tag = 'dropped'").await;
        stage.sql("delete from public.marks where tag = 'dropped'").await;
        (outcome, rows)
    };
    let (outcome, rows) = committed().await;
    assert!(
        matches!(&outcome, Err(Error::Transaction(TransactionError::PlatformRefused { why, .. })) if why.contains("dropped")),
        "{outcome:?}"
    );
    assert_eq!(rows, 0);
    // The control, which tells the types; and then it is sent at once.
    assert_eq!(stage.db.platform().execute(sql, &[&1_i32]).await.unwrap(), 1);
    stage.sql("delete from public.marks where tag = 'dropped'").await;
    let (outcome, rows) = committed().await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(rows, 1);
}
