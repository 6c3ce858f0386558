//! Replay and rehearsal: a history that ran release by release also runs from nothing, and before any tenant is touched it is
//! tried whether it does.

use crate::{
    sandbox::{Files, Raw, migrate_all, plan_all, tenants},
    stage::slug,
};
use cgk::{
    Config, Db, Error, MigrationError, Operator, TenantError,
    config::Isolation,
    drift,
    lifecycle::{self, CreateManyOptions, CreateOptions, Creation},
    migrate::{self, Outcome, Scope, Silent},
    setup::IsolationChange,
    testing::{TestDatabase, TestServer},
};

/// A history: files that are released one by one, and whether one transaction cannot hold them all on PostgreSQL 14 to 16.
struct History {
    name: &'static str,
    files: &'static [&'static str],
    file_by_file: bool,
}

const HISTORIES: &[History] = &[
    History {
        name: "rows under a deferred key, then a column",
        files: &[
            "create table kinds (id int primary key); create table items (id int primary key, kind int references kinds deferrable initially deferred)",
            "insert into kinds values (1); insert into items values (1, 1)",
            "alter table items add column note text",
        ],
        file_by_file: true,
    },
    History {
        name: "an enum value, used by the next file",
        files: &[
            "create type mood as enum ('a'); create table items (m mood)",
            "alter type mood add value 'b'",
            "insert into items values ('b')",
        ],
        file_by_file: true,
    },
    History {
        name: "an enum value and its use without a transaction",
        files: &[
            "create type mood as enum ('a'); create table items (m mood)",
            "-- cgk:no-transaction\nalter type mood add value 'b'; insert into items values ('b')",
        ],
        file_by_file: true,
    },
    History {
        name: "two temporary tables of one name",
        files: &[
            "create temp table staging on commit drop as select 1 as n; create table a as select n from staging",
            "create temp table staging on commit drop as select 2 as n; create table b as select n from staging",
        ],
        // The session is reset between files, and their tables with it.
        file_by_file: false,
    },
    History {
        name: "the time as a key",
        files: &[
            "create table items (at timestamptz primary key); insert into items values (now())",
            "insert into items values (now())",
        ],
        file_by_file: true,
    },
    History {
        name: "a procedure that commits",
        files: &[
            "create table items (i int); create procedure fill() language plpgsql as $$ begin insert into items values (1); commit; end $$",
            "-- cgk:no-transaction\ncall fill()",
        ],
        file_by_file: true,
    },
    History {
        name: "an index made concurrently",
        files: &["create table items (i int)", "-- cgk:no-transaction\ncreate index concurrently items_i on items (i)"],
        file_by_file: false,
    },
];

/// The first files of a history.
fn released(history: &History, number: usize) -> Files {
    let named: Vec<(String, &str)> = history.files[..number]
        .iter()
        .enumerate()
        .map(|(index, sql)| (format!("{:03}_x.sql", index + 1), *sql))
        .collect();
    let named: Vec<(&str, &str)> = named.iter().map(|(name, sql)| (name.as_str(), *sql)).collect();
    Files::of_tenants(&named)
}

async fn connected(database: &TestDatabase, isolation: Isolation) -> (Operator, Db) {
    let config: Config = database.config().clone().with_isolation(isolation);
    // The database was set up with the default.
    for step in [IsolationChange::Start, IsolationChange::Finish] {
        cgk::setup::change_isolation(&config, step).await.unwrap();
    }
    (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap())
}

async fn leftovers(raw: &Raw) -> Vec<String> {
    raw.all("select nspname::text from pg_namespace where nspname like 'cgk\\_%'").await
}

async fn release_by_release(isolation: Isolation) {
    for history in HISTORIES {
        let name = history.name;
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (operator, db) = connected(&database, isolation).await;
        let raw = Raw::on(&database).await;
        let create = async |slug_text: &str, files: &Files| {
            lifecycle::create(&operator, &db, &files.load(), &slug(slug_text), &CreateOptions::default()).await
        };
        create("old", &released(history, 1)).await.unwrap();
        for number in 2..=history.files.len() {
            let migrations = released(history, number).load();
            let planned = plan_all(&operator, &migrations).await.unwrap();
            let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
            assert_eq!((report.migrated(), report.failed()), (1, 0), "{name}");
        }
        let files = released(history, history.files.len());
        let migrations = files.load();
        let rehearsal = migrate::rehearse(&operator, &migrations).await.unwrap();
        assert!(!rehearsal.is_new, "{name}: the last run rehearsed it");
        // The precondition: one transaction cannot hold it. Newer servers allow more.
        if operator.facts().major() < 17 || !name.contains("enum") {
            assert_eq!(rehearsal.file_by_file, history.file_by_file, "{name}");
        }
        assert_eq!(create("new", &files).await.unwrap().creation, Creation::New, "{name}");
        let many = [slug("m1").into(), slug("m2").into()];
        let options = CreateManyOptions::default();
        let made = lifecycle::create_many(&operator, &db, &migrations, &many, &options, &mut Silent).await.unwrap();
        assert_eq!((made.count(Creation::New), made.failed()), (2, 0), "{name}: {made:?}");
        assert_eq!(raw.all::<String>("select distinct status::text from organizations").await, ["active"], "{name}");
        let report = drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap();
        for schema in report.schemas() {
            assert!(schema.is_clean(), "{name}: {:?} {:?}", schema.differences, schema.not_compared);
        }
        assert_eq!(leftovers(&raw).await, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test]
async fn a_history_runs_from_nothing_under_role_isolation() {
    release_by_release(Isolation::Role).await;
}

#[tokio::test]
async fn a_history_runs_from_nothing_under_path_isolation() {
    release_by_release(Isolation::Path).await;
}

/// Never rehearsed: the creation itself finds out that it takes one transaction a file.
#[tokio::test]
async fn a_set_that_was_never_rehearsed_makes_a_tenant_file_by_file() {
    for history in HISTORIES.iter().filter(|history| history.file_by_file) {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let migrations = released(history, history.files.len()).load();
        let operator = tenants(&database, &migrations, &["acme"]).await;
        let raw = Raw::on(&database).await;
        assert_eq!(raw.all::<String>("select status::text from organizations").await, ["active"], "{}", history.name);
        assert_eq!(leftovers(&raw).await, Vec::<String>::new(), "{}", history.name);
        assert!(!drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap().has_drift());
    }
}

#[tokio::test]
async fn no_tenant_is_touched_when_a_new_one_could_not_be_made() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_a.sql", "create table items (i int)")]);
    let operator = tenants(&database, &files.load(), &["a", "b"]).await;
    let raw = Raw::on(&database).await;
    raw.run("insert into tenant_a.items values (1); insert into tenant_b.items values (1)").await;
    // With rows it works, in an empty schema it does not.
    files.tenant("002_b.sql", "alter table items add n int;\nselect 1 / count(*) from items");
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let error = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap_err();
    assert_eq!((error.code(), error.sqlstate().unwrap().code()), ("CGK0624", "22012"), "{error:?}");
    let Error::Migration(MigrationError::Rehearsal { source }) = &error else { panic!("{error:?}") };
    let Error::Migration(MigrationError::Failed(failure)) = &**source else { panic!("{source:?}") };
    assert!(failure.file.ends_with("002_b.sql") && failure.place.as_ref().unwrap().line == 2, "{failure:?}");
    let columns =
        "select count(*) from pg_attribute where attname = 'n' and attrelid::regclass::text like 'tenant%items'";
    assert_eq!(raw.one::<i64>(columns).await, 0);
    assert_eq!(leftovers(&raw).await, Vec::<String>::new());
    // The control: without the rehearsal both are migrated.
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().migrated(), 2);
    assert_eq!(raw.one::<i64>(columns).await, 2);
}

#[tokio::test]
async fn a_rehearsal_that_was_killed_is_cleaned_up_and_strange_schemas_stay() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let history = &HISTORIES[0];
    let migrations = released(history, history.files.len()).load();
    let operator = database.operator().await.unwrap();
    let raw = Raw::on(&database).await;
    // What a killed rehearsal leaves.
    raw.run(
        "create schema cgk_rehearsal; create table cgk_rehearsal.items (i int);
         comment on schema cgk_rehearsal is 'A rehearsal of cgk. It may be dropped at any time.'",
    )
    .await;
    assert!(migrate::rehearse(&operator, &migrations).await.unwrap().is_new);
    assert_eq!(leftovers(&raw).await, Vec::<String>::new());
    // One that says nothing of the kind is somebody's.
    raw.run("create schema cgk_rehearsal").await;
    let error = migrate::rehearse(&operator, &migrations).await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::SchemaNotOurs { .. })), "{error:?}");
    assert_eq!(leftovers(&raw).await, ["cgk_rehearsal"]);
}

/// Eight at once: one does it, the others find it done.
#[tokio::test]
async fn one_rehearsal_at_a_time() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let history = &HISTORIES[0];
    let migrations = released(history, history.files.len()).load();
    let mut operators = Vec::new();
    for _ in 0..8 {
        operators.push(database.operator().await.unwrap());
    }
    let all = operators.iter().map(|operator| migrate::rehearse(operator, &migrations));
    let done: Vec<_> = futures_util::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|rehearsal| rehearsal.is_new).count(), 1, "{done:?}");
    assert!(done.iter().all(|rehearsal| rehearsal.file_by_file), "{done:?}");
}

/// A default that the server computes when the table is made depends on the session. The record does not stay behind.
#[tokio::test]
async fn a_set_is_rehearsed_anew_under_other_settings() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    let migrations =
        Files::of_tenants(&[("001_a.sql", "create table a (at timestamptz default '2020-02-01 00:00')")]).load();
    tenants(&database, &migrations, &["acme"]).await;
    let zone = format!("alter database {}", database.name());
    for (change, has_drift) in [("set TimeZone = 'Asia/Tokyo'", true), ("reset TimeZone", false)] {
        raw.run(&format!("{zone} {change}")).await;
        let operator = database.operator().await.unwrap();
        assert!(migrate::rehearse(&operator, &migrations).await.unwrap().is_new, "{change}");
        assert!(!migrate::rehearse(&operator, &migrations).await.unwrap().is_new, "{change}");
        let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
        assert_eq!(report.has_drift(), has_drift, "{change}: {report:?}");
    }
}

/// File by file nothing can be rolled back, so what a file does outside is refused; in one transaction it is undone.
#[tokio::test]
async fn a_rehearsal_leaves_nothing_in_the_shared_schema() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let operator = database.operator().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run("create table public.marks (n int)").await;
    let files = Files::of_tenants(&[(
        "001_a.sql",
        "create table a (at timestamptz primary key); insert into public.marks values (1)",
    )]);
    assert!(!migrate::rehearse(&operator, &files.load()).await.unwrap().file_by_file);
    assert_eq!(raw.one::<i64>("select count(*) from marks").await, 0);
    files.tenant("002_b.sql", "insert into a values (now())").tenant("003_c.sql", "insert into a values (now())");
    let error = migrate::rehearse(&operator, &files.load()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::NotRehearsable { file }) if file.ends_with("001_a.sql")),
        "{error:?}"
    );
    assert_eq!(raw.one::<i64>("select count(*) from marks").await, 0);
    assert_eq!(leftovers(&raw).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_deferred_constraint_fails_in_its_own_file() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[(
        "001_a.sql",
        "create table kinds (id int primary key); create table items (kind int references kinds deferrable initially deferred)",
    )]);
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    files
        .tenant("002_b.sql", "create table fine (i int)")
        .tenant("003_bad.sql", "insert into items values (7)")
        .tenant("004_c.sql", "select 1");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Outcome::Failed { error: Error::Migration(MigrationError::Failed(failure)) } = &report.tenants[0].result else {
        panic!("{report:?}")
    };
    assert!(failure.file.ends_with("003_bad.sql") && failure.sqlstate.code() == "23503", "{failure:?}");
    let committed: Vec<String> = failure.committed.iter().map(ToString::to_string).collect();
    assert_eq!(committed, ["002_b"]);
}

/// Drift runs nothing: numbers that files drew or set stay as they are.
#[tokio::test]
async fn drift_and_verify_leave_sequences_alone_and_need_no_right_to_write() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run("create sequence public.numbers").await;
    let files =
        Files::of_tenants(&[("001_a.sql", "create table a (n bigint default 1); select setval('public.numbers', 5)")]);
    let migrations = files.load();
    let operator = tenants(&database, &migrations, &["acme"]).await;
    raw.run("drop sequence public.numbers; create sequence public.numbers; select setval('public.numbers', 100)").await;
    let (role, config) = crate::sandbox::login_role(&database, &raw, "bypassrls").await;
    raw.run(&format!("grant pg_read_all_data to {role}; alter role {role} set default_transaction_read_only = on"))
        .await;
    let reader = Operator::connect(&config).await.unwrap();
    for operator in [&operator, &reader] {
        let report = drift::verify(operator, &migrations, &Scope::Tenants).await.unwrap();
        assert!(!report.has_drift() && !report.lacks_reference(), "{report:?}");
    }
    assert_eq!(raw.one::<i64>("select last_value from numbers").await, 100);
    // The control: to run the file is what changes it, rolled back or not.
    raw.run("truncate cgk_rehearsals").await;
    assert!(migrate::rehearse(&operator, &migrations).await.unwrap().is_new);
    assert_eq!(raw.one::<i64>("select last_value from numbers").await, 5);
    // Without the record nothing is compared, and everything else is still said.
    raw.run("truncate cgk_references; alter table tenant_acme.a add x int").await;
    let report = drift::verify(&reader, &migrations, &Scope::Tenants).await.unwrap();
    assert!(report.lacks_reference() && report.tenants[0].not_compared.is_some(), "{report:?}");
}

/// The shared schema: what is there by hand stays a difference over later migrations, and what they make is none.
#[tokio::test]
async fn later_migrations_of_the_shared_schema_bless_nothing() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let operator = database.operator().await.unwrap();
    let raw = Raw::on(&database).await;
    let files = Files::of_tenants(&[("001_a.sql", "create table a ()")]);
    cgk::setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    raw.run("alter table users add column by_hand text; create table public.by_hand (i int)").await;
    files.public(
        "800_x.sql",
        "create schema billing_x; create table offers (id int); alter table users add column nick text",
    );
    cgk::setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    let report = drift::verify(&operator, &files.load(), &Scope::Public).await.unwrap();
    let found: Vec<String> = report.public.unwrap().differences.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|line| line.contains("by_hand")), "{found:?}");
    assert!(raw.one::<bool>("select to_regnamespace('billing_x') is not null").await);
}
