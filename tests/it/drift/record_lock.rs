//! The record of the shared schema with two runs at once: one run at a time, from its first look to the record.

use crate::sandbox::{Files, Raw, migrate_all};
use cgk::{
    Error, MigrationError, Operator, drift,
    migrate::{self, Migrations, Scope},
    testing::{TestDatabase, TestServer},
};
use std::time::Duration;

/// The lock's key, as SQL.
const KEY: &str = "('x' || encode(substr(sha256('cgk:shared-record'), 1, 8), 'hex'))::bit(64)::bigint";

/// How many sessions of this database hold the lock.
async fn holders(raw: &Raw) -> i64 {
    raw.one(&format!(
        "select count(*) from pg_locks where locktype = 'advisory' and granted and objsubid = 1
           and database = (select oid from pg_database where datname = current_database())
           and (classid::bigint << 32 | objid::bigint) = {KEY}"
    ))
    .await
}

async fn impatient(database: &TestDatabase) -> Operator {
    let mut session = database.config().session().clone();
    session.migration_wait = Duration::from_millis(100);
    Operator::connect(&database.config().clone().with_session(session)).await.unwrap()
}

#[tokio::test]
async fn a_migration_of_the_shared_schema_waits_until_the_record_is_free() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (raw, other) = (Raw::on(&database).await, Raw::on(&database).await);
    let files = Files::of_tenants(&[("001_notes.sql", "create table notes (id int)")]);
    files.public("900_marks.sql", "create table marks (id int)");
    let migrations = files.load();
    other.run(&format!("select pg_advisory_lock({KEY})")).await;
    assert_eq!(holders(&raw).await, 1);

    let error = migrate_all(&impatient(&database).await, &migrations).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::Locked { schema, .. }) if schema.as_str() == "public"),
        "{error:?}"
    );
    assert!(raw.one::<bool>("select to_regclass('public.marks') is null").await, "nothing was done");

    other.run("select pg_advisory_unlock_all()").await;
    let operator = impatient(&database).await;
    migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(holders(&raw).await, 0, "it is given up while the session goes on");
    let report = drift::verify(&operator, &migrations, &Scope::Public).await.unwrap();
    assert!(!report.has_drift(), "{report:?}");
}

/// The run that is under way holds it, and one that comes meanwhile neither looks at the schema nor ends the other's record.
#[tokio::test]
async fn a_second_run_beside_a_migration_does_not_disturb_its_record() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (raw, holder) = (Raw::on(&database).await, Raw::on(&database).await);
    let slow = database.operator().await.unwrap();
    // The clone of a database that was set up has no record of its own yet.
    cgk::setup::setup(&slow, &Migrations::bundled(), &mut migrate::Silent).await.unwrap();
    raw.run("create table public.gate (id int); create table public.by_hand (id int)").await;
    let files = Files::of_tenants(&[("001_notes.sql", "create table notes (id int)")]);
    files.public("900_marks.sql", "create table marks (id int); lock table public.gate");
    let migrations = files.load();
    holder.run("begin; lock table public.gate").await;
    let quick = impatient(&database).await;
    let beside = async {
        raw.wait_until("select exists (select from pg_locks where not granted and relation = 'public.gate'::regclass)")
            .await;
        assert_eq!(holders(&raw).await, 1);
        let error = migrate_all(&quick, &migrations).await.unwrap_err();
        assert!(matches!(error, Error::Migration(MigrationError::Locked { .. })), "{error:?}");
        holder.run("rollback").await;
    };
    let (done, ()) = tokio::join!(migrate_all(&slow, &migrations), beside);
    done.unwrap();
    let report = drift::verify(&quick, &migrations, &Scope::Public).await.unwrap();
    let found: Vec<_> = report.public.unwrap().differences.iter().map(ToString::to_string).collect();
    // The control: what was made by hand before is still named.
    assert_eq!(found, ["table by_hand: not from any migration", "table gate: not from any migration"]);
}
