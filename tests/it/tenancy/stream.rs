//! Statements beside a stream of rows: while it is read none can be sent (a doctest of `query_raw` shows that it does not
//! compile), and afterwards all of them work.

use crate::{
    stage::{Stage, connect, slug},
    support::patience::must_end,
};
use bytes::Bytes;
use cgk::{Error, TenantTx};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
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

const COPY: &str = "copy marks (tag, n) from stdin";

/// How a COPY ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyEnd {
    Finish,
    Forward,
    Close,
    ForwardFinish,
    CloseCloseFinish,
    Drop,
}

async fn copy(tx: &mut TenantTx<'_>, end: CopyEnd, data: &'static [u8]) -> Result<u64, Error> {
    let mut sink = tx.copy_in::<Bytes>(COPY).await?;
    match end {
        CopyEnd::Forward | CopyEnd::ForwardFinish => {
            futures_util::stream::iter([Ok(Bytes::from_static(data))]).forward(&mut sink).await?;
        }
        _ => sink.send(Bytes::from_static(data)).await?,
    }
    if [CopyEnd::Close, CopyEnd::CloseCloseFinish].contains(&end) {
        sink.close().await?;
    }
    if end == CopyEnd::CloseCloseFinish {
        sink.close().await?;
    }
    match end {
        CopyEnd::Finish | CopyEnd::ForwardFinish | CopyEnd::CloseCloseFinish => sink.finish().await,
        CopyEnd::Forward | CopyEnd::Close | CopyEnd::Drop => Ok(1),
    }
}

/// "Complete when `finish` or closing has returned; dropped before, abandoned."
#[tokio::test]
async fn a_copy_is_complete_when_it_was_finished_or_closed() {
    let stage = Stage::set().await;
    for (data, valid) in [(&b"copied\t1\n"[..], true), (b"copied\tno number\n", false)] {
        for end in [
            CopyEnd::Finish,
            CopyEnd::Forward,
            CopyEnd::Close,
            CopyEnd::ForwardFinish,
            CopyEnd::CloseCloseFinish,
            CopyEnd::Drop,
        ] {
            let acme = slug("acme");
            let copied = stage.db.with_tenant(&acme, async |tx| copy(tx, end, data).await);
            let outcome = must_end("copy", copied).await;
            let complete = valid && end != CopyEnd::Drop;
            let rows = stage.marks("acme", "copied").await;
            assert_eq!(
                (outcome.is_ok(), rows),
                (complete, (complete.into(), 0)),
                "{end:?}, valid {valid}: {outcome:?}"
            );
            assert!(outcome.is_err() || matches!(outcome, Ok(1)), "{end:?}: {outcome:?}");
            stage.sql("delete from tenant_acme.marks where tag = 'copied'").await;
            stage.next_user(&stage.db, "globex").await;
        }
    }
}
