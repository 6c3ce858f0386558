//! Adoption: a schema that other hands made gets a ledger, after it was compared, and nothing is run.

use crate::{
    sandbox::{Files, Raw, login_role, migrate_all, picture, versions},
    support::cgk::Shell,
};
use cgk::{
    Error, ErrorKind, MigrationError, Operator, SetupError, TenantSlug, drift,
    lifecycle::{self, BaselineOptions, Baselining, CreateOptions},
    migrate::{Migrations, Scope, Set},
    testing::{TestDatabase, TestServer},
};

const FILES: &[(&str, &str)] = &[
    ("001_first.sql", "create table m1 (id int primary key); create index m1_id on m1 (id)"),
    ("002_second.sql", "create table m2 (id int references m1)"),
    ("003_third.sql", "create table m3 (id int); select 1 / 0"),
];

/// The first two files, as somebody ran them by hand.
const BY_HAND: &str =
    "create table m1 (id int primary key); create index m1_id on m1 (id); create table m2 (id int references m1)";

async fn by_hand(slugs: &[&str]) -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    for slug in slugs {
        raw.run(&format!("create schema tenant_{slug}; set search_path = tenant_{slug}; {BY_HAND}; insert into m1 values (7); reset search_path")).await;
    }
    let operator = database.operator().await.unwrap();
    (database, Files::of_tenants(FILES), operator, raw)
}

fn upto(version: i64) -> BaselineOptions {
    let mut options = BaselineOptions::default();
    options.version = Some(version.to_string().parse().unwrap());
    options
}

fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

async fn adopt(
    operator: &Operator,
    migrations: &Migrations,
    tenant: &str,
    options: &BaselineOptions,
) -> cgk::Result<lifecycle::Baselined> {
    lifecycle::baseline(operator, migrations, &slug(tenant), options).await
}

fn refused(error: &Error) -> String {
    match error {
        Error::Migration(MigrationError::LedgerRefused { why, .. }) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schema_made_by_hand_becomes_a_tenant() {
    let (database, files, operator, raw) = by_hand(&["acme"]).await;
    let migrations = files.load();
    let done = adopt(&operator, &migrations, "acme", &upto(2)).await.unwrap();
    assert_eq!((done.baselining, done.head.unwrap().to_string().as_str()), (Baselining::Adopted, "002_second"));
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
    // It is a whole tenant: a service enters it, its rows are there, nothing differs.
    let db = database.db().await.unwrap();
    let rows: i32 = db
        .with_tenant(&slug("acme"), async |tx| Ok(tx.query_one("select id from m1", &[]).await?.get(0)))
        .await
        .unwrap();
    assert_eq!(rows, 7);
    assert!(!drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
    // Again: nothing.
    let before = picture(&raw, "tenant_acme").await;
    for options in [BaselineOptions::default(), upto(2)] {
        let again = adopt(&operator, &migrations, "acme", &options).await.unwrap();
        assert_eq!(again.baselining, Baselining::Existed);
    }
    assert_eq!(picture(&raw, "tenant_acme").await, before);
    assert_eq!(
        refused(&adopt(&operator, &migrations, "acme", &upto(1)).await.unwrap_err()),
        "it says 002_second already, and not version 001"
    );
    // What is newer is migrated as ever.
    files.tenant("003_third.sql", "create table m3 (id int)");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().migrated(), 1);
    assert!(!drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap().has_drift());
}

#[tokio::test]
async fn a_schema_that_differs_is_refused_and_named() {
    let (_database, files, operator, raw) = by_hand(&["acme"]).await;
    let migrations = files.load();
    raw.run("drop index tenant_acme.m1_id; alter table tenant_acme.m2 alter id type bigint").await;
    let before = (picture(&raw, "tenant_acme").await, picture(&raw, "public").await);
    let error = adopt(&operator, &migrations, "acme", &upto(2)).await.unwrap_err();
    let Error::Migration(MigrationError::BaselineDiffers { differences, upto: told, .. }) = &error else {
        panic!("{error:?}")
    };
    assert_eq!(differences, &["index m1_id: missing", "column m2.id: type is bigint, migrations give integer"]);
    assert_eq!((told.as_str(), error.kind()), ("002", ErrorKind::Drift));
    // What only version 1 gives is judged as that.
    let error = adopt(&operator, &migrations, "acme", &upto(1)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::BaselineDiffers { differences, .. }) if differences.iter().any(|line| line == "table m2: not from any migration")),
        "{error:?}"
    );
    assert_eq!((picture(&raw, "tenant_acme").await, picture(&raw, "public").await), before);
    assert_eq!(raw.one::<i64>("select count(*) from organizations").await, 0);
    // With a reason it is taken over, and the reason kept.
    let mut options = upto(2);
    options.accept_differences = Some("the index was too big".into());
    // But only what is named, by its object or by its line.
    for (accept, left) in [
        (vec![], vec!["index m1_id: missing", "column m2.id: type is bigint, migrations give integer"]),
        (vec!["index m1_id"], vec!["column m2.id: type is bigint, migrations give integer"]),
        (vec!["column m2.id: type is bigint, migrations give integer"], vec!["index m1_id: missing"]),
    ] {
        options.accept = accept.into_iter().map(ToOwned::to_owned).collect();
        let error = adopt(&operator, &migrations, "acme", &options).await.unwrap_err();
        assert!(
            matches!(&error, Error::Migration(MigrationError::BaselineDiffers { differences, .. }) if *differences == left),
            "{error:?}"
        );
    }
    options.accept = vec!["index m1_id".into(), "column m2.id".into()];
    // What others may do in a tenant's schema is called what it is, and no name of an object accepts it.
    raw.run("grant select on tenant_acme.m1 to public; grant select on tenant_acme.m2 to pg_monitor").await;
    options.accept.extend(["table m1".into(), "table m2".into()]);
    let error = adopt(&operator, &migrations, "acme", &options).await.unwrap_err();
    let holes = [
        "table m1: grants are everyone: select, migrations give none: a hole in isolation",
        "table m2: grants are pg_monitor: select, migrations give none: a hole in isolation",
    ];
    assert!(
        matches!(&error, Error::Migration(MigrationError::BaselineDiffers { differences, .. }) if *differences == holes),
        "{error:?}"
    );
    raw.run("revoke select on tenant_acme.m1 from public; revoke select on tenant_acme.m2 from pg_monitor").await;
    let done = adopt(&operator, &migrations, "acme", &options).await.unwrap();
    assert_eq!((done.baselining, done.accepted.len()), (Baselining::Adopted, 2));
    let kept: String = raw.one("select repairs -> 0 ->> 'reason' || ': ' || (repairs -> 0 ->> 'detail') from tenant_acme.schema_migrations where version = 2").await;
    assert_eq!(
        kept,
        "the index was too big: index m1_id: missing\ncolumn m2.id: type is bigint, migrations give integer"
    );
    assert!(drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
}

#[tokio::test]
async fn the_ledgers_of_other_tools_are_read() {
    let tables: &[(&str, &str, &str, i64)] = &[
        (
            "refinery",
            "refinery_schema_history",
            "create table refinery_schema_history (version int4 primary key, name varchar, applied_on varchar, checksum varchar); insert into refinery_schema_history values (1, 'first', '', '1'), (2, 'second', '', '2')",
            2,
        ),
        (
            "flyway",
            "flyway_schema_history",
            "create table flyway_schema_history (installed_rank int primary key, version varchar(50), description varchar, success bool not null); insert into flyway_schema_history values (1, '1', '', true), (2, '2', '', true), (3, null, 'repeatable', true)",
            2,
        ),
        (
            "sqlx",
            "_sqlx_migrations",
            "create table _sqlx_migrations (version bigint primary key, description text, success bool not null); insert into _sqlx_migrations values (1, '', true), (2, '', true)",
            2,
        ),
        (
            "diesel",
            "__diesel_schema_migrations",
            "create table __diesel_schema_migrations (version varchar(50) primary key, run_on timestamp); insert into __diesel_schema_migrations values ('00000000000001'), ('00000000000002')",
            2,
        ),
        (
            "goose",
            "goose_db_version",
            "create table goose_db_version (id serial primary key, version_id bigint, is_applied bool); insert into goose_db_version (version_id, is_applied) values (0, true), (1, true), (2, true), (3, true), (3, false)",
            2,
        ),
        (
            "golang",
            "old_migrations",
            "create table old_migrations (version bigint primary key, dirty bool not null); insert into old_migrations values (2, false)",
            2,
        ),
        (
            "rails",
            "old_migrations",
            "create table old_migrations (version varchar primary key); insert into old_migrations values ('1'), ('2')",
            2,
        ),
    ];
    let names: Vec<&str> = tables.iter().map(|(name, ..)| *name).collect();
    let (_database, files, operator, raw) = by_hand(&names).await;
    let migrations = files.load();
    for (tenant, table, sql, expected) in tables {
        raw.run(&format!("set search_path = tenant_{tenant}; {sql}; reset search_path")).await;
        let mut options = BaselineOptions::default();
        options.from_table = Some((*table).into());
        let done =
            adopt(&operator, &migrations, tenant, &options).await.unwrap_or_else(|error| panic!("{tenant}: {error:?}"));
        assert_eq!(done.head.unwrap().version.get(), *expected, "{tenant}");
    }
}

#[tokio::test]
async fn ledgers_that_do_not_fit_are_refused() {
    let names = ["golang", "rails", "failed", "dirty", "gap", "unknown", "text", "none", "other"];
    let (_database, files, operator, raw) = by_hand(&names).await;
    let migrations = files.load();
    raw.run(
        "create table tenant_golang.schema_migrations (version bigint primary key, dirty bool not null);
         create table tenant_rails.schema_migrations (version varchar primary key);
         create table tenant_failed._sqlx_migrations (version bigint, success bool); insert into tenant_failed._sqlx_migrations values (1, true), (2, false);
         create table tenant_dirty.old (version bigint, dirty bool); insert into tenant_dirty.old values (2, true);
         create table tenant_gap.old (version bigint); insert into tenant_gap.old values (2);
         create table tenant_unknown.old (version bigint); insert into tenant_unknown.old values (1), (9);
         create table tenant_text.old (version text); insert into tenant_text.old values ('1.2');
         create table tenant_other.old (name text)",
    )
    .await;
    for (tenant, table, why) in [
        (
            "golang",
            None,
            "its schema_migrations belongs to another tool (golang-migrate), with the columns version, dirty",
        ),
        (
            "rails",
            None,
            "its schema_migrations belongs to another tool (that of Rails or dbmate), with the columns version",
        ),
        ("failed", Some("_sqlx_migrations"), "its table _sqlx_migrations says that version 002 did not succeed"),
        ("dirty", Some("old"), "its table old says that version 002 did not succeed"),
        ("gap", Some("old"), "its table old and the files of the set do not have the same versions: 001"),
        ("unknown", Some("old"), "its table old and the files of the set do not have the same versions: 002, 003, 009"),
        ("text", Some("old"), "its table old has a version \"1.2\", which no file can have"),
        ("none", Some("old"), "it has no table old"),
        ("other", Some("old"), "its table old has no column version, but name; say --version instead"),
        ("nobody", None, "there is no such schema"),
    ] {
        let mut options = BaselineOptions::default();
        options.from_table = table.map(Into::into);
        let error = adopt(&operator, &migrations, tenant, &options).await.unwrap_err();
        assert_eq!((refused(&error).as_str(), error.kind()), (why, ErrorKind::Conflict), "{tenant}");
    }
    let error = adopt(&operator, &migrations, "none", &upto(9)).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0611", ErrorKind::Invalid), "{error}");
    assert_eq!(raw.one::<i64>("select count(*) from organizations").await, 0);
    // As the hint says: renamed, and then read.
    raw.run("alter table tenant_golang.schema_migrations rename to old_migrations; insert into tenant_golang.old_migrations values (1, false); drop table tenant_golang.m2").await;
    let mut options = BaselineOptions::default();
    options.from_table = Some("old_migrations".into());
    assert_eq!(adopt(&operator, &migrations, "golang", &options).await.unwrap().head.unwrap().version.get(), 1);
}

/// What a killed adoption leaves is nothing, and it can be run again; one that lost its registry row or role is finished.
#[tokio::test]
async fn killed_in_between_it_leaves_nothing() {
    let (database, files, operator, raw) = by_hand(&["acme"]).await;
    let migrations = files.load();
    let before = (picture(&raw, "tenant_acme").await, raw.one::<i64>("select count(*) from organizations").await);
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&slug("acme")));
    let holder = Raw::on(&database).await;
    // A share lets the comparison through and stops what writes.
    holder.run(&format!("begin; select pg_advisory_xact_lock_shared({key})")).await;
    let shell = Shell::on(&database);
    let config = format!("migrations = {:?}\n", files.path());
    shell.write("cgk.toml", &config);
    let mut child = shell.start(&["migrate:baseline", "acme", "--version", "2"]);
    raw.wait_until("select exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))").await;
    child.kill().unwrap();
    child.wait().unwrap();
    raw.wait_until("select not exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))").await;
    holder.run("rollback").await;
    assert_eq!(
        (picture(&raw, "tenant_acme").await, raw.one::<i64>("select count(*) from organizations").await),
        before
    );
    adopt(&operator, &migrations, "acme", &upto(2)).await.unwrap();
    assert!(!drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
    // The registry row is lost: finished, with the ledger as it is.
    raw.run("set session_replication_role = replica; delete from organizations; reset session_replication_role").await;
    let done = adopt(&operator, &migrations, "acme", &BaselineOptions::default()).await.unwrap();
    assert_eq!(done.baselining, Baselining::Finished);
    assert!(!drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_adopt_once() {
    let (database, files, _operator, raw) = by_hand(&["acme"]).await;
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (operator, migrations) = (crate::support::patience::patient_operator(&database).await, files.load());
        runs.spawn(async move { adopt(&operator, &migrations, "acme", &upto(2)).await.unwrap().baselining });
    }
    let done = runs.join_all().await;
    assert_eq!(done.iter().filter(|one| **one == Baselining::Adopted).count(), 1, "{done:?}");
    assert_eq!(done.iter().filter(|one| **one == Baselining::Existed).count(), 7, "{done:?}");
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
}

/// The shared schema of a database whose platform was there before cgk.
#[tokio::test]
async fn the_shared_schema_is_adopted() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (operator, raw, migrations) =
        (database.operator().await.unwrap(), Raw::on(&database).await, Migrations::bundled());
    raw.run("drop table public.schema_migrations").await;
    raw.run("alter table users add nickname text").await;
    let error = lifecycle::baseline_public(&operator, &migrations, &BaselineOptions::default()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::BaselineDiffers { differences, .. }) if differences[..] == ["column users.nickname: not from any migration"]),
        "{error:?}"
    );
    raw.run("alter table users drop nickname").await;
    // A file that cannot run beside the schema, and so cannot say what it makes, is named. Nothing of the attempt stays.
    let files = Files::of_tenants(&[("001_x.sql", "select 1")]);
    files
        .public("100_one.sql", "create table one (id int)")
        .public("101_two.sql", "create table two (id int); select 1 / 0");
    let error = lifecycle::baseline_public(&operator, &files.load(), &BaselineOptions::default()).await.unwrap_err();
    let Error::Migration(MigrationError::NoReference { file, .. }) = &error else { panic!("{error:?}") };
    assert!(file.ends_with("public/101_two.sql") && error.sqlstate().is_some(), "{error:?}");
    assert_eq!((error.code(), error.kind()), ("CGK0621", ErrorKind::Failed));
    assert_eq!(raw.one::<i64>("select count(*) from pg_class where relname in ('one', 'two')").await, 0);
    let done = lifecycle::baseline_public(&operator, &migrations, &BaselineOptions::default()).await.unwrap();
    assert_eq!(
        (done.baselining, done.slug, done.head.as_ref()),
        (Baselining::Adopted, None, migrations.set(Set::Public).head())
    );
    assert!(!drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap().has_drift());
    assert!(cgk::setup::setup(&operator, &migrations, &mut cgk::migrate::Silent).await.unwrap().applied.is_empty());
}

/// The schema belongs to somebody else: their role is acted as, or asked for.
#[tokio::test]
async fn a_schema_of_another_owner() {
    let (database, files, _operator, raw) = by_hand(&[]).await;
    let migrations = files.load();
    let (owner, _) = login_role(&database, &raw, "").await;
    let (name, config) = login_role(&database, &raw, "createrole").await;
    raw.run(&format!(
        "create schema tenant_acme authorization {owner}; grant create on database {0} to {name}; grant all on all tables in schema public to {name};
         create policy operator on organizations to {name} using (true) with check (true);
         set role {owner}; set search_path = tenant_acme; {BY_HAND}; reset search_path; reset role",
        database.name()
    ))
    .await;
    let operator = Operator::connect(&config).await.unwrap();
    let error = adopt(&operator, &migrations, "acme", &upto(2)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Setup(SetupError::Privilege { grant, .. }) if *grant == format!("grant \"{owner}\" to \"{name}\"")),
        "{error:?}"
    );
    assert_eq!(raw.one::<i64>("select count(*) from organizations").await, 0);
    raw.run(&format!("grant {owner} to {name}")).await;
    adopt(&operator, &migrations, "acme", &upto(2)).await.unwrap();
    assert!(!drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().has_drift());
}

/// A new tenant of the files is like an adopted one: nothing tells them apart but the note.
#[tokio::test]
async fn an_adopted_tenant_is_like_a_created_one() {
    let (database, files, operator, raw) = by_hand(&["acme"]).await;
    files.without("003_third.sql");
    let migrations = files.load();
    adopt(&operator, &migrations, "acme", &BaselineOptions::default()).await.unwrap();
    let db = database.db().await.unwrap();
    lifecycle::create(&operator, &db, &migrations, &slug("globex"), &CreateOptions::default()).await.unwrap();
    let like = |lines: Vec<String>, tenant: &str| {
        let mut lines: Vec<String> = lines
            .into_iter()
            .filter(|line| !line.starts_with("row "))
            .map(|line| line.replace(tenant, "<tenant>"))
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(like(picture(&raw, "tenant_acme").await, "acme"), like(picture(&raw, "tenant_globex").await, "globex"));
}
