//! Drift: every kind of it is planted by hand, found and named; where there is none, none is found.

pub(crate) mod changes;

pub(crate) use changes::PLANTED;
use changes::{EXTRA, FILES, RICH};

use crate::{
    sandbox::{Files, Raw, login_role, migrate_all, picture, tenants},
    stage::report,
};
use cgk::{
    ErrorKind, Operator, TenantSlug,
    drift::{self, NotCompared, SchemaDrift},
    ident::{DatabaseTag, RoleName},
    migrate::{Migrations, Scope},
    testing::{TestDatabase, TestServer},
};
use std::time::{Duration, Instant};

pub(crate) async fn planted() -> (TestDatabase, Migrations, Operator, Raw, Vec<String>) {
    // The slug makes a schema of the name that a column and an alias have.
    planted_with(&["id", "untouched"]).await
}

/// A tenant for each of [`PLANTED`], and some more.
pub(crate) async fn planted_with(more: &[&str]) -> (TestDatabase, Migrations, Operator, Raw, Vec<String>) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Files::of_tenants(FILES).load();
    let slugs: Vec<String> = (0..PLANTED.len()).map(|index| format!("k{index}")).collect();
    let mut all: Vec<&str> = slugs.iter().map(String::as_str).collect();
    all.extend(more);
    let operator = tenants(&database, &migrations, &all).await;
    let raw = Raw::on(&database).await;
    (database, migrations, operator, raw, slugs)
}

pub(crate) fn role(database: &TestDatabase, slug: &str) -> String {
    RoleName::of_tenant(&slug.parse().unwrap(), &DatabaseTag::of(database.name())).as_str().to_owned()
}

pub(crate) fn lines(drift: &SchemaDrift) -> Vec<String> {
    drift.differences.iter().map(ToString::to_string).collect()
}

pub(crate) fn of<'a>(report: &'a drift::DriftReport, slug: &str) -> &'a SchemaDrift {
    report.tenants.iter().find(|tenant| tenant.slug.as_ref().is_some_and(|found| found.as_str() == slug)).unwrap()
}

#[tokio::test]
async fn every_kind_of_difference_is_found_and_named() {
    let (database, migrations, operator, raw, slugs) = planted().await;
    // The control: an untouched fleet shows nothing, by the quick look and one by one.
    let before = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
    for schema in before.schemas() {
        assert!(schema.is_clean(), "{}: {:?} {:?}", schema.schema.as_str(), lines(schema), schema.not_compared);
    }
    const { assert!(PLANTED.len() > 60) };
    assert!(!before.has_drift() && before.tenants.len() == PLANTED.len() + 2 && before.public.is_some());
    for slug in ["k0", "id"] {
        let scope = Scope::Only(vec![slug.parse().unwrap()]);
        let one = drift::verify(&operator, &migrations, &scope).await.unwrap();
        assert!(one.tenants[0].is_clean() && one.tenants.len() == 1 && one.public.is_none(), "{:?}", one.tenants);
    }

    let filled = |text: &str, slug: &str| {
        text.replace("{schema}", &format!("tenant_{slug}")).replace("{role}", &role(&database, slug))
    };
    for (slug, (sql, _)) in slugs.iter().zip(PLANTED) {
        raw.run(&format!("set search_path = tenant_{slug}, public; {}", filled(sql, slug))).await;
    }
    // A service fills what the migrations leave empty.
    raw.run("reset search_path; refresh materialized view tenant_untouched.empty").await;
    let all = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    let only = |slug: &str| Scope::Only(vec![slug.parse().unwrap()]);
    for (slug, (sql, expected)) in slugs.iter().zip(PLANTED) {
        let found = lines(of(&all, slug));
        let as_expected = found.len() == expected.len()
            && found.iter().zip(*expected).all(|(found, expected)| found.starts_with(&filled(expected, slug)));
        assert!(as_expected, "{sql}\nfound    {found:#?}\nexpected {expected:#?}");
        // The quick look and the close one say the same.
        let one = drift::verify(&operator, &migrations, &only(slug)).await.unwrap();
        assert_eq!(lines(of(&one, slug)), found, "{sql}");
    }
    for slug in ["id", "untouched"] {
        assert!(of(&all, slug).is_clean(), "{slug}: {:?}", lines(of(&all, slug)));
    }
}

#[tokio::test]
async fn nothing_of_the_comparison_stays() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Files::of_tenants(FILES).load();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    let schemas = "select nspname::text from pg_namespace where not starts_with(nspname::text, 'pg_t') order by 1";
    let before = (picture(&raw, "public").await, picture(&raw, "tenant_acme").await, raw.all::<String>(schemas).await);
    assert!(!drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap().has_drift());
    let after = (picture(&raw, "public").await, picture(&raw, "tenant_acme").await, raw.all::<String>(schemas).await);
    assert_eq!(before, after);
    // Nor after files that a new tenant could not get: those who have them are compared all the same, without a record.
    let files = Files::of_tenants(&[
        ("001_rich.sql", RICH),
        ("002_extra.sql", EXTRA),
        ("003_bad.sql", "create table bad (); select 1 / count(*) from orders"),
    ]);
    raw.run("insert into tenant_acme.orders default values").await;
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().migrated(), 1);
    let report = drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap();
    assert!(report.lacks_reference() && !report.has_drift(), "{report:?}");
    assert_eq!(raw.all::<String>(schemas).await, before.2);
    // The connection is as good as before.
    let error = drift::verify(&operator, &migrations, &Scope::Only(vec!["nobody".parse().unwrap()])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_tenant_behind_is_compared_with_its_own_version() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&FILES[..1]);
    let operator = tenants(&database, &files.load(), &["behind", "edited"]).await;
    files.tenant("002_extra.sql", EXTRA);
    tenants(&database, &files.load(), &["ahead"]).await;
    let report = drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift(), "{:?}", report.tenants.iter().map(lines).collect::<Vec<_>>());
    let heads: Vec<_> = report.tenants.iter().map(|tenant| tenant.head.as_ref().unwrap().to_string()).collect();
    assert_eq!(heads, ["002_extra", "001_rich", "001_rich"]);
    // The control: with a table of the next version by hand, the one that is behind has one too many.
    Raw::on(&database).await.run("create table tenant_behind.extra (id int, a int, b int)").await;
    let report = drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap();
    let found = lines(of(&report, "behind"));
    assert_eq!(found, ["table extra: not from any migration"]);
    assert!(of(&report, "edited").is_clean() && of(&report, "ahead").is_clean());
}

#[tokio::test]
async fn strays_and_the_shared_schema() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Migrations::bundled();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    let raw = Raw::on(&database).await;
    let ghost = role(&database, "ghost");
    raw.run(&format!(
        "create schema tenant_ghost; create schema tenantsx; create schema \"tenant_Odd\"; create role {ghost} nologin;
         insert into organizations (id, slug, name, status) values (gen_random_uuid(), 'soon', 'Soon', 'onboarding'),
                (gen_random_uuid(), 'gone', 'Gone', 'active');
         alter table users add column nickname text; create table public.marks (id int);
         grant select on public.organizations to pg_monitor; grant select on public.users to public"
    ))
    .await;
    let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
    let strays: Vec<_> = report.strays.iter().map(ToString::to_string).collect();
    let expected = [
        "schema tenant_ghost: of no tenant in the registry".to_owned(),
        format!("role {ghost}: of no tenant in the registry"),
    ];
    assert_eq!(strays, expected);
    assert_eq!(
        lines(report.public.as_ref().unwrap()),
        [
            "table marks: not from any migration",
            "table users: grants are everyone: select, migrations give none",
            "column users.nickname: not from any migration"
        ]
    );
    assert_eq!(of(&report, "soon").not_compared, Some(NotCompared::SettingUp));
    assert!(of(&report, "soon").differences.is_empty());
    assert_eq!(lines(of(&report, "gone")), ["schema tenant_gone: missing"]);
    assert!(of(&report, "acme").is_clean());
    raw.run(&format!("drop role {ghost}")).await;
}

/// Without superuser: an operator's login of its own, which owns what it made.
#[tokio::test]
async fn an_operator_needs_no_superuser() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (name, config) = login_role(&database, &raw, "createrole").await;
    // PostgreSQL 14 lets everyone create in public, which drift names and this operator may not take away.
    raw.run(&format!(
        "grant create on database {0} to {name}; grant all on schema public to {name};
         revoke create on schema public from public",
        database.name()
    ))
    .await;
    let operator = Operator::connect(&config).await.unwrap();
    let (db, migrations) = (cgk::Db::connect(&config).await.unwrap(), Migrations::bundled());
    cgk::setup::setup(&operator, &migrations, &mut cgk::migrate::Silent).await.unwrap();
    let acme: TenantSlug = "acme".parse().unwrap();
    cgk::lifecycle::create(&operator, &db, &migrations, &acme, &Default::default()).await.unwrap();
    let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
    assert!(!report.has_drift(), "{:?}", report.schemas().map(lines).collect::<Vec<_>>());
    // The control, and what it takes: reading, and no right to create anything.
    raw.run("alter table tenant_acme.orders add scratch int").await;
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(lines(&report.tenants[0]), ["column orders.scratch: not from any migration"]);
    raw.run(&format!("revoke create on database {} from {name}", database.name())).await;
    let operator = Operator::connect(&config).await.unwrap();
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(lines(&report.tenants[0]), ["column orders.scratch: not from any migration"]);
    raw.run(&format!("revoke all on cgk_references from {name}")).await;
    let error = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let cgk::Error::Setup(cgk::SetupError::Privilege { grant, .. }) = &error else { panic!("{error:?}") };
    assert!(grant.contains("grant select on public.cgk_references"), "{grant}");
}

/// The fleet is migrated forwards again and again while it is compared: never is anything found.
#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_migration_is_no_drift() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let slugs: Vec<String> = (0..24).map(|index| format!("m{index}")).collect();
    let slugs: Vec<&str> = slugs.iter().map(String::as_str).collect();
    let files = Files::of_tenants(&FILES[..1]);
    let operator = tenants(&database, &files.load(), &slugs).await;
    let migrating = database.operator().await.unwrap();
    let versions = 8;
    for version in 2..2 + versions {
        let sql = format!(
            "create table n{version} (id int primary key, v text default 'x'); alter table orders add c{version} int; create or replace function touch() returns trigger language plpgsql as $$ begin return {version}; end $$"
        );
        files.tenant(&format!("{version:03}_more.sql"), &sql);
    }
    let migrations = files.load();
    let all = migrations.clone();
    let run = tokio::spawn(async move {
        for version in 2..2 + versions {
            let target = cgk::migrate::Target::Version(version.to_string().parse().unwrap());
            let planned = cgk::migrate::plan_fleet(&migrating, &all, &Scope::Tenants, target).await.unwrap();
            let report = cgk::migrate::run(&migrating, &all, planned, &mut cgk::migrate::Silent).await.unwrap();
            assert_eq!(report.failed(), 0);
        }
    });
    let (mut looks, mut mixed) = (0, 0);
    while !run.is_finished() || looks == 0 {
        let scope = if looks % 3 == 2 {
            Scope::Only(vec!["m7".parse().unwrap(), "m8".parse().unwrap()])
        } else {
            Scope::Tenants
        };
        let report = drift::verify(&operator, &migrations, &scope).await.unwrap();
        assert!(!report.has_drift(), "{:?}", report.tenants.iter().map(lines).collect::<Vec<_>>());
        let heads: std::collections::BTreeSet<_> = report.tenants.iter().map(|tenant| tenant.head.clone()).collect();
        mixed += usize::from(heads.len() > 1);
        looks += 1;
    }
    run.await.unwrap();
    report(&format!("{looks} looks, {mixed} of them at a fleet of several versions"));
    // The control: the same loop sees what is planted.
    Raw::on(&database).await.run("drop table tenant_m3.n2").await;
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(lines(of(&report, "m3")), ["table n2: missing"]);
}

#[tokio::test]
async fn one_that_is_being_migrated_is_busy_and_not_drifted() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let migrations = Files::of_tenants(FILES).load();
    tenants(&database, &migrations, &["acme"]).await;
    let mut raw = Raw::on(&database).await;
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&"acme".parse().unwrap()));
    raw.run(&format!("begin; select pg_advisory_xact_lock({key}); drop table tenant_acme.extra")).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(50);
    let config = database.config().clone().with_session(session);
    let operator = Operator::connect(&config).await.unwrap();
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(report.tenants[0].not_compared, Some(NotCompared::Busy));
    assert!(report.has_busy() && !report.has_drift());
    raw.run("rollback").await;
    raw = Raw::on(&database).await;
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert!(report.tenants[0].is_clean());
    raw.run("drop table tenant_acme.extra").await;
    assert!(drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
}

/// `pg_dump -n`, dropped, restored: the same, also where a column had been dropped and left a gap.
#[tokio::test]
async fn a_restored_schema_is_clean() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(FILES);
    files.tenant(
        "003_gap.sql",
        "alter table orders drop quantity; alter table orders add quantity bigint; alter table extra rename a to z",
    );
    // PostgreSQL writes the AND of an AND that a BETWEEN is, and reads it as one AND.
    files.tenant(
        "004_between.sql",
        "create table spans (x int, y int, constraint spans_check check (x between 1 and 5 and y > 0),
             inside boolean generated always as (x between 1 and 5 and y > 0) stored, low boolean default (1 between 0 and 2 and true));
         create index spans_x on spans (x) where x between 1 and 5 and y > 0;
         create view inner_spans as select * from spans where x between 1 and 5 and y > 0;
         create policy inner_ones on spans using (x between 1 and 5 and y > 0) with check (x between 1 and 5 and y > 0);
         create trigger spans_touch before update on spans for each row when (new.x between 1 and 5 and new.y > 0) execute function touch();
         create domain small as int constraint small_check check (value between 1 and 5 and value <> 3);
         create function is_small(x int) returns boolean language sql begin atomic select x between 1 and 5 and x <> 3; end;
         create rule spans_kept as on delete to spans where old.x between 1 and 5 and old.y > 0 do instead nothing",
    );
    let migrations = files.load();
    let operator = tenants(&database, &migrations, &["acme", "globex"]).await;
    let Some(tools) = tools() else {
        return report("no pg_dump of the server's version: a restored schema was not tried");
    };
    let folder = std::env::temp_dir().join(format!("cgk-dump-{:016x}", rand::random::<u64>()));
    let url = crate::sandbox::url(&database, None);
    let ok = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    ok(std::process::Command::new(tools.join("pg_dump")).args(["-n", "tenant_acme", "-f"]).arg(&folder).arg(&url));
    let raw = Raw::on(&database).await;
    raw.run("drop schema tenant_acme cascade").await;
    assert!(drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
    ok(std::process::Command::new(tools.join("psql"))
        .args(["-qX", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&folder)
        .arg(&url));
    let _ = std::fs::remove_file(&folder);
    // The control: the server's text is another one now.
    let of = |schema: &str| {
        let sql = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'spans_check' and connamespace = to_regnamespace";
        format!("{sql}('tenant_{schema}')")
    };
    assert_ne!(raw.one::<String>(&of("acme")).await, raw.one::<String>(&of("globex")).await);
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert!(!report.has_drift(), "{:?}", report.tenants.iter().map(lines).collect::<Vec<_>>());
    // A restored expression that is then changed is drift.
    raw.run("alter table tenant_acme.spans drop constraint spans_check, add constraint spans_check check (x between 1 and 6 and y > 0)").await;
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(lines(&report.tenants[0]).len(), 1, "{:?}", lines(&report.tenants[0]));
}

/// Where `pg_dump` and `psql` of the server's own version are; only a private server's are known.
pub(crate) fn tools() -> Option<std::path::PathBuf> {
    let directory = std::env::var_os("CGK_PG_BIN").map(std::path::PathBuf::from).or_else(|| {
        let mut found: Vec<_> =
            std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|entry| entry.path().join("bin")).collect();
        found.sort();
        found.pop()
    })?;
    (TestServer::shared().local().is_some() && directory.join("pg_dump").exists() && directory.join("psql").exists())
        .then_some(directory)
}

/// A thousand tenants, also of an older version and with drift. Long: `CGK_TEST_LONG`; the time is told and not judged.
#[tokio::test]
async fn a_large_fleet_is_compared_whole() {
    let number = if crate::stage::long().is_some() { 1000 } else { 60 };
    let database = TestServer::shared().set_up_database().await.unwrap();
    let slugs: Vec<String> = (0..number).map(|index| format!("t{index}")).collect();
    let slugs: Vec<&str> = slugs.iter().map(String::as_str).collect();
    database.with_tenants(&slugs).await.unwrap();
    let (operator, raw) = (database.operator().await.unwrap(), Raw::on(&database).await);
    for slug in &slugs[..30] {
        raw.run(&format!("alter table tenant_{slug}.orders add scratch int")).await;
    }
    let began = Instant::now();
    let found = drift::verify(&operator, &Migrations::bundled(), &Scope::Tenants).await.unwrap();
    report(&format!("{number} tenants, 30 of them with drift: {:?}", began.elapsed()));
    let drifted: Vec<_> = found.tenants.iter().filter(|tenant| !tenant.is_clean()).collect();
    assert_eq!(drifted.len(), 30);
    assert!(drifted.iter().all(|tenant| lines(tenant) == ["column orders.scratch: not from any migration"]));
}
