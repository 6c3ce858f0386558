//! The statements that tenants' and the platform's transactions share, tried through the trait on both.

use crate::stage::{Stage, slug};
use cgk::{
    Db, Error, FromRow, OrganizationId, Result, Statements, TenantSlug, TxOptions,
    config::Isolation,
    login::SharedTables,
    tokio_postgres::{self, Row, types::Type},
};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use std::{
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
};

async fn stage() -> (Stage, Db) {
    let stage = Stage::set().await;
    stage.sql("grant all on public.marks to public; grant all on tenant_acme.marks to public").await;
    let db = stage.app(Isolation::Role, SharedTables::All).await;
    (stage, db)
}

#[derive(Debug, PartialEq)]
struct Mark {
    tag: String,
    n: i32,
}

impl FromRow for Mark {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { tag: row.try_get("tag")?, n: row.try_get("n")? })
    }
}

const OWN: &str = "select n, tag from marks where tag <> 'decoy' and n > 0 order by n";

/// Every method once; what was rolled back to a savepoint is not there.
async fn everything<T: Statements>(tx: &mut T) -> Result<()> {
    assert_eq!(tx.execute("insert into marks (tag, n) values ($1, $2)", &[&"one", &1]).await?, 1);
    let types = [Type::TEXT, Type::INT4];
    let (tag, n) = ("two", 2);
    let typed: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] = [(&tag, Type::TEXT), (&n, Type::INT4)];
    assert_eq!(tx.execute_typed("insert into marks (tag, n) values ($1, $2)", &typed).await?, 1);
    tx.execute_all(&["insert into marks (tag, n) values ('three', 3)", "update marks set tag = 'tres' where n = 3"])
        .await?;
    let part = tx.savepoint().await?;
    part.execute("insert into marks (tag, n) values ('gone', 99)", &[]).await?;
    assert_eq!(part.query("select 1 / 0", &[]).await.unwrap_err().sqlstate().unwrap().code(), "22012");
    drop(part);
    let mut part = tx.savepoint().await?;
    let mut copy = part.binary_copy_in("copy marks (tag, n) from stdin (format binary)", &types).await?;
    for n in 4..=5 {
        copy.write(&[&"copied", &n]).await?;
    }
    assert_eq!(copy.finish().await?, 2);
    part.release().await?;
    {
        let mut sink = pin!(tx.copy_in::<bytes::Bytes>("copy marks (tag, n) from stdin").await?);
        sink.send(bytes::Bytes::from_static(b"text\t6\n")).await?;
        sink.close().await?;
    }
    let marks = tx.query_as::<Mark, _>(OWN, &[]).await?;
    assert_eq!(marks[0], Mark { tag: "one".into(), n: 1 });
    let pairs: Vec<(i32, String)> = tx.query_as(OWN, &[]).await?;
    let tags: Vec<&str> = pairs.iter().map(|(_, tag)| tag.as_str()).collect();
    assert_eq!(tags, ["one", "two", "tres", "copied", "copied", "text"]);
    assert_eq!(tx.query_typed(OWN, &[]).await?.len(), 6);
    assert_eq!(tx.query_one("select count(*) from marks where n > 0", &[]).await?.get::<_, i64>(0), 6);
    assert!(tx.query_opt("select from marks where n = 99", &[]).await?.is_none());
    {
        let rows = pin!(tx.query_raw(OWN, &[]).await?);
        assert_eq!(rows.count().await, 6);
    }
    {
        let data = pin!(tx.copy_out("copy (select tag from marks where n = 1) to stdout").await?);
        let data: Vec<bytes::Bytes> = data.try_collect().await?;
        assert_eq!(data.concat(), b"one\n");
    }
    let copy = "copy (select n from marks where n > 0 order by n) to stdout (format binary)";
    let rows = tx.binary_copy_out(copy, &[Type::INT4]).await?;
    let rows: Vec<i32> = rows.map_ok(|row| row.get::<i32>(0)).try_collect().await?;
    assert_eq!(rows, [1, 2, 3, 4, 5, 6]);
    Ok(())
}

#[tokio::test]
async fn a_tenant_and_the_platform_have_the_same_statements() {
    let (stage, db) = stage().await;
    // Spawned, so that the futures of the trait are shown to be Send.
    let task = db.clone();
    tokio::spawn(async move { task.with_tenant(&slug("acme"), async |tx| everything(tx).await).await })
        .await
        .unwrap()
        .unwrap();
    stage.next_user(&db, "acme").await;
    let task = db.clone();
    tokio::spawn(async move { task.platform().transaction(async |tx| everything(tx).await).await })
        .await
        .unwrap()
        .unwrap();
    stage.next_user(&db, "acme").await;
    for table in ["tenant_acme.marks", "public.marks"] {
        assert_eq!(stage.number(&format!("select count(*) from {table} where n > 0")).await, 6, "{table}");
    }
    let pairs: Vec<(String, i32)> =
        db.tenant(&slug("acme")).query_as(&OWN.replace("n, tag", "tag, n"), &[]).await.unwrap();
    assert_eq!(pairs.len(), 6);
    assert_eq!(db.platform().query_as::<Mark, _>(OWN, &[]).await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_row_that_does_not_fit_is_an_error_and_the_transaction_goes_on() {
    let (_stage, db) = stage().await;
    let acme = slug("acme");
    let count = db
        .with_tenant(&acme, async |tx| {
            let error = tx.query_as::<(i64,), _>("select 'text'", &[]).await.unwrap_err();
            assert_eq!((error.code(), error.sqlstate()), ("CGK0505", None));
            let error = tx.query_as::<(i32, i32), _>("select 1", &[]).await.unwrap_err();
            assert_eq!(error.code(), "CGK0505");
            let error = tx.query_as::<(i32,), _>("select null::int", &[]).await.unwrap_err();
            assert_eq!(error.code(), "CGK0505");
            Ok(tx.query_as::<(Option<i32>,), _>("select null::int", &[]).await?.len())
        })
        .await;
    assert_eq!(count.unwrap(), 1);
    assert_eq!(db.platform().query_as::<(i64,), _>("select 'text'", &[]).await.unwrap_err().code(), "CGK0506");
}

#[cfg(feature = "derive")]
mod derived {
    use super::*;
    use cgk::postgres_from_row::{self, FromRow};

    #[derive(Debug, PartialEq, FromRow)]
    struct Tagged {
        #[from_row(rename = "tag")]
        name: String,
        n: i32,
    }

    #[tokio::test]
    async fn a_struct_is_read_by_the_names_of_its_columns() {
        let (_stage, db) = stage().await;
        let marks: Vec<Tagged> = db.tenant(&slug("acme")).query_as("select n, tag from marks", &[]).await.unwrap();
        assert_eq!(marks, [Tagged { name: "acme".into(), n: 0 }]);
        let error = db.tenant(&slug("acme")).query_as::<Tagged, _>("select n from marks", &[]).await.unwrap_err();
        assert_eq!(error.code(), "CGK0505");
    }
}

#[tokio::test]
async fn the_first_refused_or_failed_statement_of_several_decides() {
    let (stage, db) = stage().await;
    let all = async |statements: &[&str]| {
        db.with_tenant(&slug("acme"), async |tx| tx.execute_all(statements).await).await.unwrap_err()
    };
    let insert = "insert into marks (tag, n) values ('all', 1)";
    assert_eq!(all(&[insert, "commit"]).await.code(), "CGK0510");
    assert_eq!(all(&[insert, "select 1 / 0", "select 1"]).await.sqlstate().unwrap().code(), "22012");
    // Several statements in one text.
    assert_eq!(all(&["insert into marks values ('all', 2); commit"]).await.sqlstate().unwrap().code(), "42601");
    assert_eq!(stage.marks("acme", "all").await, (0, 0));
    // Many, in their order.
    let many: Vec<String> = (0..100).map(|n| format!("insert into marks (tag, n) select 'many', {n} where (select count(*) from marks where tag = 'many') = {n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    db.with_tenant(&slug("acme"), async |tx| tx.execute_all(&many).await).await.unwrap();
    assert_eq!(stage.marks("acme", "many").await, (100, 0));
}

#[tokio::test]
async fn a_transaction_knows_its_organization_and_ids_are_parameters() {
    let (stage, db) = stage().await;
    for pooling in [cgk::config::Pooling::Direct, cgk::config::Pooling::Transaction] {
        let db: Db = Db::connect(&db.config().clone().with_pooling(pooling)).await.unwrap();
        let acme = slug("acme");
        let id = db.with_tenant(&acme, async |tx| tx.organization_id().await).await.unwrap();
        let sql = "select slug, id from public.organizations where id = $1 and slug = $2";
        let [row] = &stage.watch.query(sql, &[&id, &acme]).await.unwrap()[..] else { panic!("{id}") };
        assert_eq!((row.get::<_, TenantSlug>(0), row.get::<_, OrganizationId>(1)), (acme.clone(), id));
        // What SQL says meanwhile does not change it.
        let error = db
            .with_tenant(&acme, async |tx| {
                tx.query_typed("select set_config('app.current_organization_id', 'x', true)", &[]).await?;
                assert_eq!(tx.organization_id().await?, id);
                Ok(())
            })
            .await
            .unwrap_err();
        assert_eq!(error.code(), "CGK0501");
        let nobody = slug("nobody");
        let error = db.with_tenant(&nobody, async |tx| tx.organization_id().await).await.unwrap_err();
        assert_eq!(error.code(), "CGK0401");
    }
    // A text that is no slug is not read as one.
    let row = stage.watch.query_one("select 'Not A Slug'::text, 'x'::text", &[]).await.unwrap();
    assert!(row.try_get::<_, TenantSlug>(0).is_err());
}

/// The body of a transaction that waits for its entry never starts where that is refused; by default it does.
#[tokio::test]
async fn the_body_waits_for_the_entry_where_that_is_asked_for() {
    let (stage, db) = stage().await;
    stage.sql("update organizations set status = 'suspended' where slug = 'globex'").await;
    let started = AtomicU32::new(0);
    let run = async |tenant: &str, options: &TxOptions| {
        let slug = slug(tenant);
        let outcome: Result<i64> = db
            .with_tenant_in(&slug, options, async |tx| {
                started.fetch_add(1, Ordering::SeqCst);
                Ok(tx.query_one("select count(*) from marks", &[]).await?.get(0))
            })
            .await;
        (outcome.map_err(|error| error.code()), started.swap(0, Ordering::SeqCst))
    };
    let waiting = TxOptions::default().wait_for_entry();
    assert_eq!(run("nobody", &waiting).await, (Err("CGK0401"), 0));
    assert_eq!(run("globex", &waiting).await, (Err("CGK0402"), 0));
    assert_eq!(run("acme", &waiting).await, (Ok(1), 1));
    // The control: without it the body starts.
    assert_eq!(run("globex", &TxOptions::default()).await, (Err("CGK0402"), 1));
    // The platform, where its login may not use `public`.
    let login = stage.app_name();
    stage
        .sql(&format!(
            "revoke usage on schema public from public; revoke usage on schema public from {}",
            login.as_str()
        ))
        .await;
    let error =
        db.platform().transaction_in::<(), _>(&waiting, async |_| unreachable!("it does not start")).await.unwrap_err();
    assert_eq!(error.code(), "CGK0301", "{error}");
    let error = db.platform().query_one("select 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), "CGK0301", "{error}");
}

/// A conflict that the server undid is run again for the platform too.
#[tokio::test]
async fn the_platform_runs_again_what_the_server_undid() {
    let (stage, db) = stage().await;
    let options = TxOptions::default().repeatable_read();
    let tries = AtomicU32::new(0);
    let outcome = db
        .platform()
        .transaction_retry(&options, &cgk::Retry::default(), async |tx| {
            let before: i64 = tx.query_one("select count(*) from marks", &[]).await?.get(0);
            if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                // Somebody else changes the row behind the snapshot of this transaction.
                stage.sql("update public.marks set n = n + 1").await;
            }
            tx.execute("update marks set n = n + 10", &[]).await?;
            Ok::<_, Error>(before)
        })
        .await;
    assert_eq!((outcome.unwrap(), tries.load(Ordering::SeqCst)), (1, 2));
    assert_eq!(stage.number("select n::int8 from public.marks").await, 11);
}
