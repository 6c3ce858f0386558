//! `tx.client()`: the driver's client inside of a transaction, for generated code, and what the transaction's end still finds.

use crate::stage::{Stage, slug};
use cgk::{ErrorKind, config::Isolation, login::SharedTables};
use tokio_postgres::{Client, Statement};

/// Code as a generator writes it: it knows the driver alone.
async fn generated(client: &Client, statement: &Statement, tag: &str) -> Result<u64, tokio_postgres::Error> {
    client.execute(statement, &[&tag]).await
}

const INSERT: &str = "insert into marks (tag, n) values ($1, 1)";

#[tokio::test]
async fn generated_code_runs_inside_of_the_tenant() {
    let stage = Stage::set().await;
    let acme = slug("acme");
    for (name, db) in stage.handles().await {
        let before = stage.marks("acme", "client").await;
        let changed = db
            .with_tenant(&acme, async |tx| {
                let client = tx.client().await?;
                let statement = client.prepare(INSERT).await?;
                // Beside the transaction's own statements.
                tx.execute(INSERT, &[&"client"]).await?;
                Ok(generated(client, &statement, "client").await?)
            })
            .await
            .unwrap();
        assert_eq!((changed, stage.marks("acme", "client").await), (1, (before.0 + 2, 0)), "{name}");
        if name.starts_with("role") {
            stage.next_user(&db, "globex").await;
        }
    }
    let platform = stage.db.platform();
    let found = platform
        .transaction(async |tx| Ok(tx.client().await?.query("select slug from organizations", &[]).await?.len()));
    assert!(found.await.unwrap() >= 2);
}

#[tokio::test]
async fn the_error_is_the_drivers_and_rolls_back() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let acme = slug("acme");
    let error = db.with_tenant(&acme, async |tx| {
        let client = tx.client().await?;
        tx.execute(INSERT, &[&"lost"]).await?;
        let error: tokio_postgres::Error = client.query("select 1 / 0", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22012");
        Ok(())
    });
    // The closure ignores it, and the server does not commit.
    assert_eq!(error.await.unwrap_err().code(), "CGK0502");
    assert_eq!(stage.marks("acme", "lost").await, (0, 0));
    stage.next_user(&db, "globex").await;
    // A tenant that cannot be entered has no client.
    let unknown = db.with_tenant(&slug("unknown"), async |tx| tx.client().await.map(drop)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
}

/// What the form of a statement would show is found at the end: nothing is committed with the call, and the next user of the
/// connection is in its own tenant.
#[tokio::test]
async fn leaving_the_tenant_through_the_client_is_found_at_the_end() {
    let stage = Stage::set().await;
    let db = stage.app(Isolation::Role, SharedTables::Registry).await;
    let acme = slug("acme");
    for attack in [
        "select set_config('search_path', 'tenant_globex', true)",
        "select set_config('role', 'none', true)",
        "select set_config('app.current_organization_id', 'x', true)",
        "rollback",
    ] {
        let left = db.with_tenant(&acme, async |tx| {
            let client = tx.client().await?;
            client.execute(INSERT, &[&"left"]).await?;
            client.execute(attack, &[]).await?;
            Ok(())
        });
        let error = left.await.unwrap_err();
        assert!(error.code().starts_with("CGK05"), "{attack}: {error} {}", error.code());
        assert_eq!(stage.marks("acme", "left").await, (0, 0), "{attack}");
        stage.next_user(&db, "globex").await;
    }
    // The control: without an attack it is committed.
    db.with_tenant(&acme, async |tx| Ok(tx.client().await?.execute(INSERT, &[&"left"]).await?)).await.unwrap();
    assert_eq!(stage.marks("acme", "left").await, (1, 0));
}
