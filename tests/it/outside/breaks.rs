//! What a tester from outside broke, and what is closed since: each test states a sentence of the documentation.

use crate::stage::{Stage, connect, run, slug};
use cgk::{Error, TransactionError};
use futures_util::FutureExt;

/// "A statement that fails takes the commit with it": a connection that is cut while the driver asks for a type, behind the
/// COMMIT, is no such failure.
#[tokio::test]
async fn a_connection_lost_behind_the_commit_is_not_told_as_a_failed_statement() {
    let stage = Stage::set().await;
    stage.sql("create type tenant_acme.mood as enum ('fine'); alter table tenant_acme.marks add mood tenant_acme.mood; grant usage on type tenant_acme.mood to public").await;
    let lock = connect(stage.database.name()).await;
    let acme = slug("acme");
    stage.next_user(&stage.db, "acme").await;
    run(&lock, "begin; lock table pg_catalog.pg_enum in access exclusive mode").await.unwrap();
    let tenant = stage.db.tenant(&acme);
    let writing = tenant.query("insert into marks (tag, n) values ('typed', 1) returning mood", &[]);
    let cut = async {
        stage.until("select exists (select from tenant_acme.marks where tag = 'typed')").await;
        let waits = "from pg_locks where relation = 'pg_enum'::regclass and not granted and database = (select oid from pg_database where datname = current_database())";
        stage.until(&format!("select exists (select {waits})")).await;
        stage.sql(&format!("select pg_terminate_backend(pid) {waits}")).await;
    };
    let (outcome, ()) = tokio::join!(writing, cut);
    run(&lock, "rollback").await.unwrap();
    assert_eq!(stage.marks("acme", "typed").await, (1, 0), "it is committed");
    let error = outcome.unwrap_err();
    assert!(
        matches!(error, Error::Transaction(TransactionError::CommitUnknown { .. })),
        "committed, and told as {:?}: {error:?}",
        error.kind()
    );
}

/// "A connection with additional or missing prepared statements is not used again": also when another statement begins like the
/// one that is missing.
#[tokio::test]
async fn a_statement_that_only_begins_like_the_entry_does_not_stand_for_it() {
    let stage = Stage::set().await;
    let (_, before) = stage.next_user(&stage.db, "globex").await;
    let drop_it = "do $$ declare s record; begin
        for s in select name from pg_prepared_statements where statement like '/* cgk: enter */%' loop
            execute format('deallocate %I', s.name); end loop; end $$";
    let outcome = stage
        .db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed(drop_it, &[]).await?;
            let dropped = tx.query("/* cgk: enter */ select tag from marks where n = $1", &[&0_i32]).now_or_never();
            assert!(
                matches!(dropped, Some(Err(Error::Transaction(TransactionError::StatementRefused { .. })))),
                "it is refused before it is sent"
            );
            Ok(())
        })
        .await;
    assert!(
        matches!(outcome, Err(Error::Transaction(TransactionError::Tampered { .. }))),
        "as after every refused form: {outcome:?}"
    );
    let mut refused = Vec::new();
    for _ in 0..5 {
        let pid = "select pg_backend_pid()";
        let next = stage.db.with_tenant(&slug("globex"), async |tx| tx.query_typed(pid, &[]).await).await;
        match next {
            Ok(rows) => assert_ne!(rows[0].get::<_, i32>(0), before, "the connection is used again"),
            Err(error) => refused.push(error.to_string()),
        }
    }
    assert!(refused.is_empty(), "{} of 5 calls after it are refused: {refused:?}", refused.len());
}
