//! Statements beside a stream of rows: while it is read none can be sent (a doctest of `query_raw` shows that it does not
//! compile), and afterwards all of them work.

use crate::stage::{Stage, connect, slug};
use cgk::{Error, TenantTx};
use futures_util::TryStreamExt;
use std::{pin::pin, time::Duration};

/// More than every buffer between server and program holds.
const LARGE: &str = "select repeat('x', 1000) from generate_series(1, 100000)";

/// Reads one row of a large answer and leaves the rest.
async fn read_one(tx: &mut TenantTx<'_>) -> Result<(), Error> {
    let mut rows = pin!(tx.query_raw(LARGE, &[]).await?);
    assert!(rows.try_next().await?.is_some());
    Ok(())
}

#[tokio::test]
async fn what_is_left_of_a_stream_holds_up_no_statement() {
    let stage = Stage::set().await;
    let inserted = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            read_one(tx).await?;
            tx.execute("insert into marks (tag, n) values ('stream', 1)", &[]).await?;
            let mut part = tx.savepoint().await?;
            read_one(&mut part).await?;
            part.execute("insert into marks (tag, n) values ('stream', 2)", &[]).await?;
            part.release().await?;
            {
                let copy = "copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout";
                let mut data = pin!(tx.copy_out(copy).await?);
                assert!(data.try_next().await?.is_some());
            }
            Ok(tx.query_one("select count(*) from marks where tag = 'stream'", &[]).await?.get::<_, i64>(0))
        })
        .await;
    assert_eq!(inserted.unwrap(), 2);
    stage.next_user(&stage.db, "acme").await;
}

/// The way that is documented for statements inside the loop.
#[tokio::test]
async fn a_cursor_read_in_batches_leaves_room_for_statements() {
    let stage = Stage::set().await;
    stage.sql("insert into tenant_acme.marks select 'row', i from generate_series(1, 2500) i").await;
    stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed("declare c cursor for select n from marks where tag = 'row' order by n", &[]).await?;
            loop {
                let rows = tx.query_typed("fetch 1000 from c", &[]).await?;
                if rows.is_empty() {
                    return Ok(());
                }
                let last: i32 = rows[rows.len() - 1].get(0);
                tx.execute("insert into marks (tag, n) values ('batch', $1)", &[&last]).await?;
            }
        })
        .await
        .unwrap();
    assert_eq!(stage.number("select sum(n) from tenant_acme.marks where tag = 'batch'").await, 1000 + 2000 + 2500);
}

/// The control: the driver alone lets a statement be sent beside the stream, and that never comes back.
#[tokio::test]
async fn control_a_statement_beside_a_stream_hangs_in_the_driver() {
    let stage = Stage::set().await;
    let client = connect(stage.database.name()).await;
    let none: [i32; 0] = [];
    let mut rows = pin!(client.query_raw(LARGE, none).await.unwrap());
    assert!(rows.try_next().await.unwrap().is_some());
    let beside = tokio::time::timeout(Duration::from_millis(500), client.execute("select 1", &[])).await;
    assert!(beside.is_err(), "it came back: the signature of query_raw need not forbid it");
}
