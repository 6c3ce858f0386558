//! What everyone has beyond schemas, on a server of its own: rights of PUBLIC on parameters and settings of all roles are seen
//! from every database of a server.

use crate::sandbox::{Files, Raw};
use cgk::{
    Config, Operator,
    drift::{self, Change, Difference},
    lifecycle::{self, CreateOptions},
    migrate::{Migrations, Scope, Silent},
    setup,
    testing::{LocalServer, LocalServerOptions},
};

/// What is planted, with what drift says of it, and the oldest version that has it.
const PLANTED: &[(u32, &str, &str)] = &[
    (
        15,
        "grant alter system on parameter work_mem to public",
        "role public (everyone): has rights on parameter work_mem, which every tenant has too",
    ),
    (
        15,
        "grant set on parameter session_replication_role to public",
        "role public (everyone): has rights on parameter session_replication_role, which every tenant has too",
    ),
    (
        14,
        "grant create on tablespace pg_default to public",
        "role public (everyone): has rights on tablespace pg_default, which every tenant has too",
    ),
    (
        14,
        "alter role all set session_replication_role = replica",
        "role public (everyone): begins each session in every database with session_replication_role=replica",
    ),
    (
        14,
        "alter database fleet set session_replication_role = replica",
        "role public (everyone): begins each session in this database with session_replication_role=replica",
    ),
    (
        14,
        "alter role all in database fleet set role = pg_monitor",
        "role public (everyone): begins each session in this database with role=pg_monitor",
    ),
    (
        14,
        "alter database fleet set row_security = off",
        "role public (everyone): begins each session in this database with row_security=off",
    ),
    (
        14,
        "alter database fleet set app.current_organization_id = 'x'",
        "role public (everyone): begins each session in this database with app.current_organization_id=x",
    ),
    (
        14,
        "alter role all set cgk.isolation = 'path'",
        "role public (everyone): begins each session in every database with cgk.isolation=path",
    ),
    (
        14,
        "create function pg_catalog.lower(varchar) returns text language sql as 'select null::text'",
        "function pg_catalog.lower(character varying): stands among the server's own",
    ),
    (
        14,
        "create function pg_catalog.everything() returns bigint security definer language sql as 'select count(*) from pg_class'",
        "function pg_catalog.everything(): stands among the server's own",
    ),
    (
        14,
        "create operator pg_catalog.= (leftarg = text, rightarg = int, function = pg_catalog.texteq_int)",
        "operator pg_catalog.=(pg_catalog.text,integer): stands among the server's own",
    ),
    (
        14,
        "create foreign data wrapper w; create server s foreign data wrapper w; create user mapping for public server s",
        "role public (everyone): has a user mapping for server s, with which every tenant reaches it",
    ),
    (
        14,
        "create publication everything for all tables",
        "publication everything: publishes every table of the database",
    ),
];

/// Settings that weaken nothing.
const HARMLESS: &[&str] = &[
    "alter role all set session_replication_role = origin",
    "alter role all set session_replication_role = local",
    "alter role all reset session_replication_role",
    "alter database fleet set work_mem = '8MB'",
    "alter database other set session_replication_role = replica",
    "create publication empty",
    "alter database fleet set row_security = on",
    "alter database fleet set check_function_bodies = off",
    // Neither the name of one of the server's nor the rights of another role.
    "create function pg_catalog.texteq_int(text, int) returns bool language sql immutable as 'select $1 = $2::text'",
];

struct Fleet {
    // Dropped last.
    raw: Raw,
    operator: Operator,
    migrations: Migrations,
    _files: Files,
    server: LocalServer,
}

impl Fleet {
    async fn made() -> Self {
        let server = LocalServerOptions::new().setting("wal_level", "logical").start_default(&|_| ()).unwrap();
        let raw = Raw::connect(&server.url("postgres")).await;
        raw.run("create database other").await;
        raw.run("create database fleet").await;
        let raw = Raw::connect(&server.url("fleet")).await;
        let files = Files::of_tenants(&[("001_first.sql", "create table m1 (id int)")]);
        let migrations = files.load();
        let config = Config::from_url(&server.url("fleet")).unwrap();
        let (operator, db) = (Operator::connect(&config).await.unwrap(), cgk::Db::connect(&config).await.unwrap());
        setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
        let (acme, options) = ("acme".parse().unwrap(), CreateOptions::default());
        lifecycle::create(&operator, &db, &migrations, &acme, &options).await.unwrap();
        Self { raw, operator, migrations, _files: files, server }
    }

    async fn found(&self) -> Vec<Difference> {
        found(&self.operator, &self.migrations).await
    }
}

async fn found(operator: &Operator, migrations: &Migrations) -> Vec<Difference> {
    let report = drift::verify(operator, migrations, &Scope::Everything).await.unwrap();
    let found = report.schemas().flat_map(|schema| &schema.differences).chain(&report.rights).chain(&report.strays);
    found.cloned().collect()
}

#[tokio::test]
async fn what_everyone_has_is_named_and_its_fix_takes_it_away() {
    let fleet = Fleet::made().await;
    for harmless in HARMLESS {
        fleet.raw.run(harmless).await;
    }
    for (since, sql, expected) in PLANTED {
        if fleet.operator.facts().major() < *since {
            continue;
        }
        assert_eq!(fleet.found().await, [], "before {sql}");
        fleet.raw.run(sql).await;
        let found = fleet.found().await;
        let [one] = &found[..] else { panic!("{sql}: {found:#?}") };
        assert!(one.to_string().starts_with(expected), "{sql}: {one}");
        assert!(matches!(one.change, Change::Wrong { .. }) && one.fix.len() == 1, "{one:?}");
        fleet.raw.run(&one.fix[0].sql).await;
    }
    assert_eq!(fleet.found().await, []);
}

/// A login that may only read compares the fleet under the policy of the page, which is no drift; given to a tenant, it is.
#[tokio::test]
async fn a_reader_is_told_the_policy_that_it_needs_and_the_policy_is_no_drift() {
    let fleet = Fleet::made().await;
    fleet.raw.run("create role reader login; grant pg_read_all_data to reader").await;
    let url = fleet.server.url("fleet").replace("//postgres@", "//reader@");
    let reader = Operator::connect(&Config::from_url(&url).unwrap()).await.unwrap();
    let refused = drift::verify(&reader, &fleet.migrations, &Scope::Everything).await.unwrap_err();
    let cgk::Error::Setup(cgk::SetupError::Privilege { grant, .. }) = &refused else { panic!("{refused:?}") };
    fleet.raw.run(grant).await;
    assert_eq!(found(&reader, &fleet.migrations).await, []);
    assert_eq!(fleet.found().await, []);
    // The control: it sees what differs.
    fleet.raw.run("create table tenant_acme.planted ()").await;
    let seen = found(&reader, &fleet.migrations).await;
    assert_eq!(seen.iter().map(|one| one.object.as_str()).collect::<Vec<_>>(), ["planted"], "{seen:#?}");
    fleet.raw.run("drop table tenant_acme.planted").await;
    // A policy of another name, one for more than reading, and one for a tenant's role.
    let role: String = fleet.raw.one("select rolname::text from pg_roles where rolname like 'cgk\\_acme\\_%'").await;
    for policy in [
        "create policy readers on public.organizations for select to reader using (true)".to_owned(),
        "alter policy cgk_reader_reader on public.organizations rename to x; \
         create policy cgk_reader_reader on public.organizations to reader using (true)"
            .to_owned(),
        format!("create policy cgk_reader_{role} on public.organizations for select to {role} using (true)"),
    ] {
        fleet.raw.run(&format!("begin; {policy}; commit")).await;
        assert_ne!(fleet.found().await, [], "{policy}");
        fleet.raw.run("drop policy if exists readers on public.organizations; drop policy if exists x on public.organizations").await;
        fleet
            .raw
            .run(
                "drop policy if exists cgk_reader_reader on public.organizations; \
                 create policy cgk_reader_reader on public.organizations for select to reader using (true)",
            )
            .await;
        fleet.raw.run(&format!("drop policy if exists cgk_reader_{role} on public.organizations")).await;
        assert_eq!(fleet.found().await, [], "after {policy}");
    }
}
