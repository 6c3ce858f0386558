//! What has a ledger's name and is none: tables of other tools, views and other objects, tables that take no row of cgk's.

use crate::sandbox::{Files, Raw, exists, failure, migrate_all, tenants};
use cgk::{
    Error, ErrorKind, LedgerProblem, MigrationError, MissingPart,
    lifecycle::{CreateOptions, create},
    migrate::{self, Migrations, SchemaState, Silent},
    setup,
    testing::TestServer,
};

/// The tables of golang-migrate, Rails, Ecto and dbmate have the ledger's name.
const FOREIGN: &[&str] = &[
    "(version bigint primary key, dirty boolean not null)",
    "(version varchar(255) primary key)",
    "(version bigint primary key, inserted_at timestamp)",
    "(version text, name text, checksum text)",
];

#[tokio::test]
async fn a_table_of_another_tool_is_never_the_ledger() {
    for columns in FOREIGN {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let files = Files::of_tenants(&[("001_first.sql", "create table t (id int)")]);
        let operator = tenants(&database, &files.load(), &["acme", "globex"]).await;
        let raw = Raw::on(&database).await;
        raw.run(&format!(
            "drop table tenant_acme.schema_migrations; create table tenant_acme.schema_migrations {columns}"
        ))
        .await;
        files.tenant("002_next.sql", "create table next (id int)");
        let migrations = files.load();
        let report = migrate_all(&operator, &migrations).await.unwrap();
        let error = failure(&report, "acme");
        assert_eq!(error.code(), "CGK0622", "{columns}: {error}");
        assert!(error.to_string().contains("belongs to another tool"), "{columns}: {error}");
        assert_eq!((report.migrated(), report.failed()), (1, 1), "{columns}: the other tenant is migrated");
        assert!(!exists(&raw, "tenant_acme.next").await, "{columns}");
        let state = migrate::read_state(&operator, &migrations).await.unwrap();
        let SchemaState::HalfProvisioned { missing: MissingPart::Ledger { why, .. } } = &state.tenants[0].state else {
            panic!("{state:?}")
        };
        assert!(matches!(**why, LedgerProblem::OfAnotherTool { .. }), "{why:?}");
        let db = database.db().await.unwrap();
        let made = create(&operator, &db, &migrations, &"acme".parse().unwrap(), &CreateOptions::default()).await;
        assert!(made.is_err() || !exists(&raw, "tenant_acme.next").await, "{columns}: {made:?}");
        assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.schema_migrations").await, 0, "{columns}");

        // And in the shared schema of a database that another tool migrates.
        let database = TestServer::shared().database().await.unwrap();
        let raw = Raw::on(&database).await;
        raw.run(&format!("create table public.schema_migrations {columns}")).await;
        let operator = database.operator().await.unwrap();
        let error = setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap_err();
        assert!(
            matches!(&error, Error::Migration(MigrationError::LedgerRefused { why, .. }) if why.to_string().contains("belongs to another tool")),
            "{columns}: {error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(!exists(&raw, "public.organizations").await, "{columns}");
    }
}

/// What else can have a ledger's name, how it is made in a schema, and what is said of it.
const UNFIT: &[(&str, &str)] = &[
    ("create view {}.schema_migrations as select 1 as version", "its schema_migrations is a view"),
    (
        "create materialized view {}.schema_migrations as select 1 as version",
        "its schema_migrations is a materialized view",
    ),
    (
        "create foreign data wrapper w; create server s foreign data wrapper w; \
         create foreign table {}.schema_migrations (version bigint) server s",
        "its schema_migrations is a foreign table",
    ),
    ("create sequence {}.schema_migrations", "its schema_migrations is a sequence"),
    ("create type {}.schema_migrations as (version bigint)", "its schema_migrations is a composite type"),
    ("create type {}.schema_migrations as enum ('a')", "its schema_migrations is a type"),
    (
        "create table {0}.x (); create index schema_migrations on {0}.x ((1))",
        "its schema_migrations is a relation of another kind",
    ),
];

#[tokio::test]
async fn what_is_no_table_is_never_the_ledger() {
    for (sql, said) in UNFIT {
        let refused = |error: &Error| {
            assert!(
                matches!(error, Error::Migration(MigrationError::LedgerRefused { why, .. }) if why.to_string().contains(said)),
                "{sql}: {error:?}"
            );
        };
        // In the shared schema.
        let database = TestServer::shared().database().await.unwrap();
        let raw = Raw::on(&database).await;
        let in_schema = |schema: &str| sql.replace("{0}", schema).replace("{}", schema);
        raw.run(&in_schema("public")).await;
        let operator = database.operator().await.unwrap();
        refused(&setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap_err());
        assert!(!exists(&raw, "public.organizations").await, "{sql}");

        // In a tenant's, beside another one.
        let database = TestServer::shared().set_up_database().await.unwrap();
        let files = Files::of_tenants(&[("001_first.sql", "create table t (id int)")]);
        let operator = tenants(&database, &files.load(), &["acme", "globex"]).await;
        let raw = Raw::on(&database).await;
        raw.run(&format!("drop table tenant_acme.schema_migrations; {}", in_schema("tenant_acme"))).await;
        files.tenant("002_next.sql", "create table next (id int)");
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        assert_eq!((report.migrated(), report.failed()), (1, 1), "{sql}");
        assert!(failure(&report, "acme").to_string().contains(said), "{sql}: {report:?}");
        let db = database.db().await.unwrap();
        let options = CreateOptions::default();
        refused(&create(&operator, &db, &files.load(), &"acme".parse().unwrap(), &options).await.unwrap_err());
        assert!(!exists(&raw, "tenant_acme.next").await, "{sql}");
    }
}

/// Columns that cgk does not fill: whether its rows can be written all the same.
const MORE_COLUMNS: &[(&str, bool)] = &[
    ("add column batch int not null", false),
    ("add column \"by\" text not null, add column batch int not null", false),
    ("alter column applied_by drop default", false),
    ("add column batch int", true),
    ("add column batch int not null default 1", true),
    ("add column batch int generated always as identity", true),
    ("add column batch bigint not null generated always as (version * 2) stored", true),
];

#[tokio::test]
async fn a_ledger_that_takes_no_row_is_refused_before_anything_runs() {
    for (change, is_fit) in MORE_COLUMNS {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let raw = Raw::on(&database).await;
        let files = Files::of_tenants(&[("001_first.sql", "create table t (id int)")]);
        let operator = tenants(&database, &files.load(), &["acme"]).await;
        // The rows are no obstacle to the column.
        raw.run(&format!(
            "create temp table kept as select * from schema_migrations; delete from schema_migrations;
             alter table schema_migrations {change}"
        ))
        .await;
        if *is_fit {
            raw.run("insert into schema_migrations (version, name, checksum, applied_at, applied_by, duration_ms, cgk_version)
                     select version, name, checksum, applied_at, applied_by, duration_ms, cgk_version from kept").await;
        }
        files.public("900_x.sql", "create table public.x ()").tenant("002_next.sql", "create table next (id int)");
        match migrate_all(&operator, &files.load()).await {
            Ok(report) => assert!(*is_fit && report.failed() == 0, "{change}: {report:?}"),
            Err(Error::Migration(MigrationError::LedgerRefused { why, .. })) => {
                assert!(!is_fit && matches!(why, LedgerProblem::UnfilledColumn { .. }), "{change}: {why}");
            }
            Err(error) => panic!("{change}: {error:?}"),
        }
        assert_eq!(exists(&raw, "public.x").await, *is_fit, "{change}");
        assert_eq!(exists(&raw, "tenant_acme.next").await, *is_fit, "{change}");
    }
}
