//! What stands on a table of cgk's own, a trigger or a rule for instance, can drop or change what is written to it. Then the
//! transaction fails, and nothing is said to be done.

use crate::sandbox::{Files, Raw, exists, failure, login_role, migrate_all, plan_all, tenants, versions};
use cgk::{
    Error, ErrorKind, LedgerProblem, MigrationError, Operator, TenantSlug,
    lifecycle::{self, BaselineOptions, CreateOptions},
    migrate::{self, Repair, RepairOutcome, RunOptions, Scope, Silent},
    testing::{TestDatabase, TestServer},
};

const FIRST: &[(&str, &str)] = &[("001_first.sql", "create table m1 (id int)")];

/// Trigger functions, and what a trigger or a rule is made from in a tenant.
const FUNCTIONS: &str = "
create function public.drop_row() returns trigger language plpgsql as 'begin return null; end';
create function public.change_row() returns trigger language plpgsql as 'begin new.checksum := ''sha256:00''; return new; end';
create function public.delete_row() returns trigger language plpgsql as
    'begin delete from tenant_acme.schema_migrations where version = new.version; return null; end';
create function public.refuse_row() returns trigger language plpgsql as 'begin raise exception ''not here''; end';
create function public.keep_row() returns trigger language plpgsql as 'begin return new; end';
create table public.elsewhere (version bigint, name text);
";

/// What drops, changes or refuses a row of the ledger, and what takes it away again.
const OBSTACLES: &[(&str, &str)] = &[
    ("create rule o as on insert to LEDGER do instead nothing", "drop rule o on LEDGER"),
    ("create rule o as on insert to LEDGER where new.version > 1 do instead nothing", "drop rule o on LEDGER"),
    (
        "create rule o as on insert to LEDGER do instead insert into public.elsewhere values (new.version, new.name)",
        "drop rule o on LEDGER",
    ),
    (
        "create rule o as on insert to LEDGER do also delete from LEDGER where version = new.version",
        "drop rule o on LEDGER",
    ),
    (
        "create trigger o before insert on LEDGER for each row execute function public.drop_row()",
        "drop trigger o on LEDGER",
    ),
    (
        "create trigger o before insert on LEDGER for each row execute function public.change_row()",
        "drop trigger o on LEDGER",
    ),
    (
        "create trigger o after insert on LEDGER for each row execute function public.delete_row()",
        "drop trigger o on LEDGER",
    ),
    (
        "create trigger o before insert on LEDGER for each row execute function public.refuse_row()",
        "drop trigger o on LEDGER",
    ),
    (
        "alter table LEDGER add column theirs text not null default 'x'; alter table LEDGER alter theirs drop default",
        "alter table LEDGER drop theirs",
    ),
    ("alter table LEDGER add constraint o check (version < 2) not valid", "alter table LEDGER drop constraint o"),
];

const LEDGER: &str = "tenant_acme.schema_migrations";

fn on_ledger(sql: &str) -> String {
    sql.replace("LEDGER", LEDGER)
}

async fn fleet() -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(FIRST);
    let operator = tenants(&database, &files.load(), &["acme", "globex"]).await;
    let raw = Raw::on(&database).await;
    raw.run(FUNCTIONS).await;
    (database, files, operator, raw)
}

fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

/// Asserts that an error names a table and what may stand on it.
fn is_named(error: &Error, named: &str) {
    let Error::Migration(MigrationError::RowNotWritten { table, .. }) = error else { panic!("{error:?}") };
    assert_eq!(table.replace('"', ""), named);
    assert!(error.to_string().contains("a trigger, a rule"), "{error}");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Conflict, false));
}

/// Makes the tenant `younger`.
async fn create(database: &TestDatabase, operator: &Operator, files: &Files) -> cgk::Result<()> {
    let db = database.db().await.unwrap();
    lifecycle::create(operator, &db, &files.load(), &slug("younger"), &CreateOptions::default()).await.map(drop)
}

async fn comment(raw: &Raw) -> String {
    raw.one("select obj_description('tenant_acme.schema_migrations'::regclass)").await
}

#[tokio::test]
async fn a_migration_whose_row_is_not_written_is_undone() {
    let (_database, files, operator, raw) = fleet().await;
    let mut version = 1;
    for (make, remove) in OBSTACLES {
        raw.run(&on_ledger(make)).await;
        let (head, said) = (versions(&raw, "tenant_acme").await, comment(&raw).await);
        for _ in 0..2 {
            version += 1;
            let sql = format!("create table t{version} (id int); insert into t{version} values (1)");
            files.tenant(&format!("{version:03}_next.sql"), &sql);
        }
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        is_named(failure(&report, "acme"), LEDGER);
        // The other tenant is done; this one is as it was.
        assert!(exists(&raw, &format!("tenant_globex.t{version}")).await, "{make}");
        assert!(!exists(&raw, &format!("tenant_acme.t{}", version - 1)).await, "{make}");
        assert_eq!((versions(&raw, "tenant_acme").await, comment(&raw).await), (head, said), "{make}");
        // Nothing stands in the way any more: each file is applied once.
        raw.run(&on_ledger(remove)).await;
        assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0, "{make}");
        assert_eq!(raw.one::<i64>(&format!("select count(*) from tenant_acme.t{version}")).await, 1, "{make}");
    }
}

#[tokio::test]
async fn what_lets_the_row_be_is_in_nobodys_way() {
    let (_database, files, operator, raw) = fleet().await;
    for make in [
        "create trigger k before insert on LEDGER for each row execute function public.keep_row()",
        "create trigger l after insert on LEDGER for each row execute function public.drop_row()",
        "create rule k as on insert to LEDGER do also insert into public.elsewhere values (new.version, new.name)",
        "alter table LEDGER add column ours text not null default 'x'",
    ] {
        raw.run(&on_ledger(make)).await;
    }
    files.tenant("002_next.sql", "create table t2 (id int)");
    files.tenant("003_next.sql", "-- cgk:no-transaction\ncreate index concurrently t2_id on t2 (id);");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3]);
    assert_eq!(raw.one::<i64>("select count(*) from public.elsewhere").await, 2);
}

#[tokio::test]
async fn a_file_without_a_transaction_stays_half_done_and_runs_no_statement_twice() {
    for (make, remove) in OBSTACLES {
        let (_database, files, operator, raw) = fleet().await;
        raw.run(&on_ledger(make)).await;
        let sql = "-- cgk:no-transaction\ncreate table t2 (id int);\ninsert into t2 values (1);\n\
                   create index concurrently t2_id on t2 (id);\n";
        files.tenant("002_next.sql", sql);
        for _ in 0..2 {
            let report = migrate_all(&operator, &files.load()).await.unwrap();
            is_named(failure(&report, "acme"), LEDGER);
            assert_eq!(versions(&raw, "tenant_acme").await, [1], "{make}");
            assert!(exists(&raw, "tenant_acme.schema_migration_steps").await, "{make}");
        }
        raw.run(&on_ledger(remove)).await;
        assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0, "{make}");
        assert_eq!(versions(&raw, "tenant_acme").await, [1, 2], "{make}");
        assert_eq!(raw.one::<i64>("select count(*) from tenant_acme.t2").await, 1, "{make}");
    }
}

#[tokio::test]
async fn the_record_of_the_steps_is_written_or_the_statement_is_undone() {
    let (_database, files, operator, raw) = fleet().await;
    let sql = "-- cgk:no-transaction\ncreate table t2 (id int);\ninsert into t2 values (1);\n\
               insert into t2 select 1 / count(*) from m1;\ninsert into t2 values (3);\n";
    files.tenant("002_next.sql", sql);
    raw.run("insert into tenant_globex.m1 values (1)").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(matches!(failure(&report, "acme"), Error::Migration(MigrationError::Failed(_))));
    raw.run(
        "insert into tenant_acme.m1 values (1);
         create trigger o before update on tenant_acme.schema_migration_steps for each row execute function public.drop_row()",
    )
    .await;
    let rows = "select count(*) from tenant_acme.t2";
    for _ in 0..2 {
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        is_named(failure(&report, "acme"), "tenant_acme.schema_migration_steps");
        assert_eq!(raw.one::<i64>(rows).await, 1);
    }
    raw.run("drop trigger o on tenant_acme.schema_migration_steps").await;
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    assert_eq!(raw.one::<i64>(rows).await, 3);
}

#[tokio::test]
async fn all_or_nothing_is_nothing() {
    let (_database, files, operator, raw) = fleet().await;
    raw.run(&on_ledger(OBSTACLES[0].0)).await;
    files.tenant("002_next.sql", "create table t2 (id int)");
    let (options, migrations) = (RunOptions::default().unrehearsed().all_or_nothing(), files.load());
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let report = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    is_named(failure(&report, "acme"), LEDGER);
    assert!(!exists(&raw, "tenant_acme.t2").await && !exists(&raw, "tenant_globex.t2").await);
}

/// A policy holds for the owner of the table where it is forced, and for no superuser.
#[tokio::test]
async fn a_policy_that_refuses_the_row_is_named() {
    let (database, files, operator, raw) = fleet().await;
    let (role, _) = login_role(&database, &raw, "").await;
    raw.run(&format!(
        "alter schema tenant_acme owner to {role}; alter table tenant_acme.m1 owner to {role}; alter table {LEDGER} owner to {role};
         alter table {LEDGER} enable row level security, force row level security;
         create policy r on {LEDGER} for select using (true); create policy w on {LEDGER} for insert with check (version < 2)"
    ))
    .await;
    files.tenant("002_next.sql", "create table t2 (id int)");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    is_named(failure(&report, "acme"), LEDGER);
    raw.run(&format!("drop policy w on {LEDGER}; create policy w on {LEDGER} for insert with check (true)")).await;
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
}

/// Makes what an event trigger finds in a new ledger's way.
const ON_EVERY_LEDGER: &str = "
create function public.on_ledger() returns event_trigger language plpgsql as $$
declare made text; begin
    for made in select object_identity from pg_event_trigger_ddl_commands()
                where object_type = 'table' and object_identity like 'tenant_younger.schema_migrations' loop
        execute format('create trigger o before insert on %s for each row execute function public.drop_row()', made);
    end loop;
end $$;
create event trigger on_ledger on ddl_command_end when tag in ('CREATE TABLE') execute function public.on_ledger();
";

#[tokio::test]
async fn a_tenant_is_not_made_with_a_ledger_that_takes_no_row() {
    // The second set cannot be applied in one transaction.
    let by_file: &[(&str, &str)] = &[
        (
            "001_first.sql",
            "create table m1 (id int primary key, up int references m1 deferrable initially deferred); insert into m1 values (1, 1)",
        ),
        ("002_second.sql", "alter table m1 add column more int"),
    ];
    for set in [FIRST, by_file] {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let files = Files::of_tenants(set);
        let operator = tenants(&database, &files.load(), &["acme"]).await;
        let raw = Raw::on(&database).await;
        raw.run(FUNCTIONS).await;
        raw.run(ON_EVERY_LEDGER).await;
        let made = create(&database, &operator, &files).await.unwrap_err();
        is_named(&made, "tenant_younger.schema_migrations");
        assert!(!exists(&raw, "tenant_younger.m1").await);
        raw.run("drop event trigger on_ledger; drop trigger if exists o on tenant_younger.schema_migrations").await;
        create(&database, &operator, &files).await.unwrap();
        assert_eq!(versions(&raw, "tenant_younger").await.len(), set.len());
    }
}

#[tokio::test]
async fn a_tenant_is_not_made_without_its_row_in_the_registry() {
    let (database, files, operator, raw) = fleet().await;
    for (make, remove) in [
        ("create rule o as on insert to organizations do instead nothing", "drop rule o on organizations"),
        (
            "create trigger o before insert on organizations for each row execute function drop_row()",
            "drop trigger o on organizations",
        ),
    ] {
        raw.run(make).await;
        let error = create(&database, &operator, &files).await.unwrap_err();
        is_named(&error, "public.organizations");
        assert!(!exists(&raw, "tenant_younger.schema_migrations").await, "{make}");
        raw.run(remove).await;
    }
    // The control: a trigger of the application's may change what is its own.
    raw.run(
        "create function upper_name() returns trigger language plpgsql as 'begin new.name := upper(new.name); return new; end';
         create trigger u before insert on organizations for each row execute function upper_name()",
    )
    .await;
    create(&database, &operator, &files).await.unwrap();
    assert_eq!(raw.one::<String>("select name from organizations where slug = 'younger'").await, "YOUNGER");
}

#[tokio::test]
async fn a_rehearsal_finds_a_file_that_hides_a_trigger_on_the_ledger() {
    let (_database, files, operator, raw) = fleet().await;
    let hidden = "do $$ begin execute 'create trigger o before insert on schema' || '_migrations for each row execute function public.drop_row()'; end $$";
    files.tenant("002_next.sql", hidden);
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let error = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap_err();
    let Error::Migration(MigrationError::Rehearsal { source }) = &error else { panic!("{error:?}") };
    let Error::Migration(MigrationError::RowNotWritten { table, .. }) = &**source else { panic!("{source:?}") };
    assert!(table.contains("schema_migrations"), "{table}");
    assert_eq!(versions(&raw, "tenant_acme").await, [1]);
}

/// A tenant's schema that was made by hand, with a ledger that has no rows.
const UNRECORDED: &str = "create schema tenant_acme; create table tenant_acme.m1 (id int);
    create table tenant_acme.schema_migrations (version bigint primary key, name text not null, checksum text not null,
        applied_at timestamptz not null default clock_timestamp(), applied_by text not null default session_user,
        duration_ms bigint not null, cgk_version text not null, repairs jsonb);";

#[tokio::test]
async fn a_baseline_whose_rows_are_not_written_is_undone() {
    for (make, remove) in [OBSTACLES[0], OBSTACLES[4], OBSTACLES[5], OBSTACLES[8]] {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (files, raw) = (Files::of_tenants(FIRST), Raw::on(&database).await);
        let operator = database.operator().await.unwrap();
        raw.run(FUNCTIONS).await;
        raw.run(UNRECORDED).await;
        raw.run(&on_ledger(make)).await;
        let adopted = lifecycle::baseline(&operator, &files.load(), &slug("acme"), &BaselineOptions::default()).await;
        match adopted.unwrap_err() {
            // A column that takes no row is seen before anything is written.
            Error::Migration(MigrationError::LedgerRefused { why, .. }) => {
                assert!(make.contains("theirs"), "{make}");
                assert_eq!(why, LedgerProblem::UnfilledColumn { column: "theirs".into() });
            }
            error => is_named(&error, LEDGER),
        }
        let registered = "select exists (select from organizations where slug = 'acme')";
        assert!(!raw.one::<bool>(registered).await, "{make}");
        raw.run(&on_ledger(remove)).await;
        lifecycle::baseline(&operator, &files.load(), &slug("acme"), &BaselineOptions::default()).await.unwrap();
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
    }
}

/// Only a constraint of the ledger says that a row of the ledger was not written.
#[tokio::test]
async fn a_baseline_that_a_constraint_of_another_table_refuses_does_not_name_the_ledger() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (files, raw) = (Files::of_tenants(FIRST), Raw::on(&database).await);
    let operator = database.operator().await.unwrap();
    raw.run(UNRECORDED).await;
    let adopt = async || {
        lifecycle::baseline(&operator, &files.load(), &slug("acme"), &BaselineOptions::default()).await.map(drop)
    };
    for (table, is_ledger) in [(LEDGER, true), ("public.organizations", false)] {
        raw.run(&format!("alter table {table} add constraint refused check (false) not valid")).await;
        let error = adopt().await.unwrap_err();
        let named = matches!(error, Error::Migration(MigrationError::RowNotWritten { .. }));
        assert_eq!(named, is_ledger, "{table}: {error:?}");
        assert!(format!("{error:?}").contains("23514"), "{table}: {error:?}");
        raw.run(&format!("alter table {table} drop constraint refused")).await;
    }
    // The control: nothing else was wrong.
    adopt().await.unwrap();
}

#[tokio::test]
async fn a_repair_that_does_not_reach_the_rows_is_undone() {
    let (_database, files, operator, raw) = fleet().await;
    raw.run(
        "create function public.keep_notes() returns trigger language plpgsql as 'begin new.repairs := old.repairs; return new; end';
         create function public.drop_change() returns trigger language plpgsql as 'begin return null; end'",
    )
    .await;
    files.tenant("002_second.sql", "create table m2 (id int)");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().failed(), 0);
    files.tenant("001_first.sql", "create table m1 (id int) -- edited");
    let only = Scope::Only(vec![slug("acme")]);
    let accept = Repair::Accept { version: "1".parse().unwrap(), reason: "a comment".into() };
    let rows = "select checksum || coalesce(repairs::text, '') from tenant_acme.schema_migrations where version = 1";
    let before: String = raw.one(rows).await;
    for make in [
        "create trigger o before update on LEDGER for each row execute function public.drop_change()",
        "create trigger o before update on LEDGER for each row execute function public.keep_notes()",
        "create rule o as on update to LEDGER do instead nothing",
    ] {
        raw.run(&on_ledger(make)).await;
        let done = migrate::repair(&operator, &files.load(), &only, &accept).await.unwrap();
        let RepairOutcome::Failed { error } = &done[0].outcome else { panic!("{make}: {done:?}") };
        is_named(error, LEDGER);
        assert_eq!(raw.one::<String>(rows).await, before, "{make}");
        let kind = make.split(' ').nth(1).unwrap();
        raw.run(&on_ledger(&format!("drop {kind} o on LEDGER"))).await;
    }
    files.without("001_first.sql");
    raw.run(&on_ledger("create trigger o before delete on LEDGER for each row execute function public.drop_change()"))
        .await;
    let forget = Repair::Forget { version: "1".parse().unwrap(), reason: "withdrawn".into() };
    let done = migrate::repair(&operator, &files.load(), &only, &forget).await.unwrap();
    let RepairOutcome::Failed { error } = &done[0].outcome else { panic!("{done:?}") };
    is_named(error, LEDGER);
    raw.run(&on_ledger("drop trigger o on LEDGER")).await;
    let done = migrate::repair(&operator, &files.load(), &only, &forget).await.unwrap();
    assert!(matches!(done[0].outcome, RepairOutcome::Repaired { .. }), "{done:?}");
    assert_eq!(versions(&raw, "tenant_acme").await, [2]);
}
