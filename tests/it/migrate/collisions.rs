//! Migrations of many tenants that change the same rows: of the catalogue, and of shared tables.

use crate::{
    sandbox::{Files, Raw, failure, meeting, meeting_place, tenants, url},
    support::patience::must_end,
};
use cgk::{
    Operator,
    migrate::{self, Migrations, RunOptions, RunReport, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use std::num::NonZeroUsize;

const TENANTS: usize = 12;

/// What tenants' migrations do at the same time. Each waits a little inside its transaction, so that they do collide.
const COLLISIONS: [(&str, &str, &str); 7] = [
    (
        "tuple concurrently updated: a grant",
        "create table public.lookup (id int)",
        "grant select on public.lookup to public;",
    ),
    (
        "tuple concurrently updated: a function",
        "create function public.helper() returns int language sql as 'select 1'",
        "create or replace function public.helper() returns int language sql as 'select 2';",
    ),
    (
        "unique violation of the catalogue: a function that is new",
        "",
        "create or replace function public.fresh() returns int language sql as 'select 2';",
    ),
    ("unique violation of the catalogue: a schema", "", "create schema if not exists \"Shared\";"),
    (
        "unique violation of the catalogue: a setting of the database",
        "",
        "do $$ begin execute format('alter database %I set cgk.test = %L', current_database(), current_schema()); end $$;",
    ),
    (
        "unique violation of the catalogue: default privileges",
        "",
        "alter default privileges in schema public grant select on tables to public;",
    ),
    (
        "unique violation of a shared table",
        "create table public.lookup (id int primary key)",
        "insert into public.lookup select 1 where not exists (select from public.lookup);",
    ),
];

async fn fleet(prepared: &str) -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", "create table m1 (id int primary key)")]);
    let slugs: Vec<String> = (0..TENANTS).map(|number| format!("t{number:02}")).collect();
    let slugs: Vec<&str> = slugs.iter().map(String::as_str).collect();
    let operator = tenants(&database, &files.load(), &slugs).await;
    let raw = Raw::on(&database).await;
    raw.run(prepared).await;
    (database, files, operator, raw)
}

async fn migrate(operator: &Operator, migrations: &Migrations, jobs: usize) -> RunReport {
    let planned = migrate::plan_fleet(operator, migrations, &Scope::Everything, Target::Head).await.unwrap();
    let options = RunOptions::default().jobs(NonZeroUsize::new(jobs).unwrap()).unrehearsed();
    migrate::run_with(operator, migrations, planned, &options, &mut Silent).await.unwrap()
}

/// The control: two sessions that do the same meet in an error.
async fn collide(database: &TestDatabase, sql: &str) -> Option<String> {
    let (one, other, watch) = (Raw::on(database).await, Raw::on(database).await, Raw::on(database).await);
    one.run(&format!("begin; {sql}")).await;
    let pid: i32 = other.one("select pg_backend_pid()").await;
    let sql = format!("begin; {sql}");
    let (result, ()) = tokio::join!(other.try_run(&sql), async {
        watch.wait_until_blocked(&pid.to_string()).await;
        one.run("commit").await;
    });
    other.run("rollback").await;
    result
        .err()
        .and_then(|error| error.as_db_error().map(|error| format!("{} {}", error.code().code(), error.message())))
}

#[tokio::test]
async fn tenants_that_change_the_same_catalogue_row_are_all_migrated() {
    for (name, prepared, sql) in COLLISIONS {
        let (control, ..) = fleet(prepared).await;
        let said = collide(&control, sql).await;
        assert!(said.is_some(), "{name}: two sessions do not collide, so this shows nothing");
        let (_database, files, operator, _raw) = fleet(prepared).await;
        files.tenant("002_shared.sql", &format!("{sql} select pg_sleep(0.005);"));
        let report = migrate(&operator, &files.load(), 6).await;
        assert_eq!(report.migrated(), TENANTS, "{name} ({said:?}): {:?}", report.tenants);
        let again: u32 = report.tenants.iter().map(|tenant| tenant.attempts - 1).sum();
        crate::sandbox::say(&format!("{name}: {said:?}, tried again {again} times"));
    }
}

/// Every second tenant takes two locks the other way round.
#[tokio::test]
async fn tenants_whose_locks_cross_are_all_migrated() {
    let (database, files, operator, raw) = fleet("create table public.one (); create table public.two ()").await;
    let lock = |even: &str, odd: &str| {
        format!(
            "do $$ begin if right(current_schema(), 1)::int % 2 = 0 then lock table public.{even};
             else lock table public.{odd}; end if; end $$;"
        )
    };
    // The first two have a lock each before either asks for the other's.
    meeting_place(&raw).await;
    files.tenant("002_cross.sql", &format!("{} {} {}", lock("one", "two"), meeting(2), lock("two", "one")));
    // Of this database alone: other tests share the server.
    raw.run(&format!("alter database {} set deadlock_timeout = '20ms'", database.name())).await;
    let operator = Operator::connect(operator.config()).await.unwrap();
    let report = must_end("the run", migrate(&operator, &files.load(), 6)).await;
    assert_eq!(report.migrated(), TENANTS, "{:?}", report.tenants);
    assert!(report.tenants.iter().any(|tenant| tenant.attempts > 1), "none collided, so this shows nothing");
}

/// A key that is twice in a tenant's own table is the tenant's rows, and trying again would not help.
#[tokio::test]
async fn a_duplicate_key_of_a_tenants_own_table_is_tried_once() {
    let (database, files, operator, _raw) = fleet("").await;
    files.tenant("002_twice.sql", "insert into m1 values (1); insert into m1 values (1);");
    let report = migrate(&operator, &files.load(), 4).await;
    assert_eq!((report.failed(), report.migrated()), (TENANTS, 0));
    assert!(report.tenants.iter().all(|tenant| tenant.attempts == 1), "{:?}", report.tenants);
    assert_eq!(failure(&report, "t00").sqlstate().unwrap().code(), "23505");
    // In a shared table it may be another tenant's doing: once more, alone, and no more.
    files.tenant("002_twice.sql", "insert into public.lookup values (1); insert into public.lookup values (1);");
    Raw::connect(&url(&database, None)).await.run("create table public.lookup (id int primary key)").await;
    let report = migrate(&operator, &files.load(), 4).await;
    assert_eq!(report.failed(), TENANTS);
    assert!(report.tenants.iter().all(|tenant| tenant.attempts == 2), "{:?}", report.tenants);
}

/// What a file selects is for nobody: it does not fill the memory of the program that runs it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_migration_selects_is_not_kept() {
    for marker in ["", "-- cgk:no-transaction\n"] {
        let (database, files, ..) = fleet("").await;
        let rows = 600_000;
        files.tenant("002_rows.sql", &format!("{marker}select repeat('x', 200), n from generate_series(1, {rows}) n;"));
        let shell =
            crate::support::cgk::Shell::on(&database).set("CGK_MIGRATIONS", &files.path().display().to_string());
        let mut child = shell.start(&["migrate", "--tenant", "t00", "-q"]);
        let status = format!("/proc/{}/status", child.id());
        let mut peak_kb = 0;
        while child.try_wait().unwrap().is_none() {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let found =
                text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
            peak_kb = peak_kb.max(found.unwrap_or(0_usize));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert!(child.wait().unwrap().success());
        let sent_kb = rows * 200 / 1024;
        crate::sandbox::say(&format!("{marker:?}: {sent_kb} kB of rows, {peak_kb} kB at most"));
        assert!(peak_kb > 1_000 && peak_kb < sent_kb / 2, "{peak_kb} kB for {sent_kb} kB of rows");
    }
}
