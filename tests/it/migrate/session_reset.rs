//! What one schema's migration leaves in its session, another schema's on the same connection does not find.

use crate::sandbox::{Files, Raw, migrate_all, tenants};
use cgk::{
    Operator,
    lifecycle::{self, CreateManyOptions, NewTenant},
    migrate::{self, Migrations, Repair, RunOptions, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use std::num::NonZeroUsize;

/// Every tenant's own row, and a sequence of its own.
const FIRST: &str = "create table notes (body text);\n\
     insert into notes values ('row of ' || current_schema());\n\
     create sequence ids;\n";

/// Something that a session keeps, and a file that puts it there unless it is there, and then writes what it finds into the
/// table `archive`.
struct Leftover {
    name: &'static str,
    sql: &'static str,
    /// Whether a rollback leaves it as well.
    outlives_rollback: bool,
    /// Whether `reset all` alone ends it, as every run did before.
    is_setting: bool,
}

const fn kept(name: &'static str, sql: &'static str) -> Leftover {
    Leftover { name, sql, outlives_rollback: false, is_setting: false }
}

const LEFTOVERS: [Leftover; 13] = [
    kept(
        "temporary table",
        "create temp table if not exists staging as select body from notes;
         create table archive as select body from staging;",
    ),
    kept(
        "temporary table made in a block",
        "do $$ begin if to_regclass('pg_temp.staging') is null then
            create temp table staging as select body from notes; end if; end $$;
         create table archive as select body from staging;",
    ),
    kept(
        "temporary table that grows",
        "create temp table if not exists staging (body text); insert into staging select body from notes;
         create table archive as select body from staging;",
    ),
    kept(
        "temporary view",
        "do $$ begin if to_regclass('pg_temp.seen') is null then
            execute format('create temp view seen as select body from %I.notes', current_schema()); end if; end $$;
         create table archive as select body from pg_temp.seen;",
    ),
    kept(
        "temporary function",
        "do $$ begin if to_regprocedure('pg_temp.f()') is null then
            execute format('create function pg_temp.f() returns setof text language sql as ''select body from %I.notes''',
                           current_schema()); end if; end $$;
         create table archive as select * from pg_temp.f() as found (body);",
    ),
    Leftover {
        outlives_rollback: true,
        ..kept(
            "prepared statement",
            "do $$ begin if not exists (select from pg_prepared_statements where name = 'p') then
                execute format('prepare p as select body from %I.notes', current_schema()); end if; end $$;
             create table archive as execute p;",
        )
    },
    kept(
        "cursor with hold",
        "do $$ begin if not exists (select from pg_cursors where name = 'c') then
            execute 'declare c scroll cursor with hold for select body from notes'; end if; end $$;
         create table archive (body text);
         do $$ declare c refcursor := 'c'; found text; begin
            fetch first from c into found; insert into archive values (found); end $$;",
    ),
    Leftover {
        outlives_rollback: true,
        ..kept(
            "value of a sequence",
            "do $$ begin perform lastval(); exception when others then
                perform setval('ids', 1000), nextval('ids'); end $$;
             create table archive as select pg_sequence_last_value(s.seqrelid)::text || ' of ' || c.relnamespace::regnamespace as body
                from pg_sequence s join pg_class c on c.oid = s.seqrelid
                where c.relname = 'ids' and c.relnamespace::regnamespace::text like 'tenant_%'
                  and c.relnamespace::regnamespace::text = current_schema() and pg_sequence_last_value(s.seqrelid) = lastval();",
        )
    },
    Leftover {
        is_setting: true,
        ..kept(
            "setting",
            "do $$ begin if coalesce(current_setting('app.seen', true), '') = '' then
                perform set_config('app.seen', (select body from notes), false); end if; end $$;
             create table archive as select current_setting('app.seen') as body;",
        )
    },
    kept(
        "channel listened to",
        "create table archive as select 'channel of ' || channel as body from pg_listening_channels() as found (channel);
         do $$ begin execute format('listen %I', current_schema()); end $$;",
    ),
    Leftover {
        outlives_rollback: true,
        ..kept(
            "seed of random()",
            "create table archive (body text);
             do $$ declare found float8 := random(); begin
                for code in ascii('a')..ascii('z') loop
                    perform setseed(code / 1000.0);
                    if random() = found then insert into archive values ('seed of tenant_' || chr(code)); end if;
                end loop;
                perform setseed(ascii(right(current_schema(), 1)) / 1000.0); end $$;",
        )
    },
    Leftover {
        outlives_rollback: true,
        ..kept(
            "session lock",
            "create table archive as select 'lock of tenant_' || chr(objid::int) as body from pg_locks
                where locktype = 'advisory' and classid = 4711 and pid = pg_backend_pid();
             select pg_advisory_lock(4711, ascii(right(current_schema(), 1)));",
        )
    },
    kept(
        "table made by a deferred trigger",
        "create table archive as select 'temporary table of ' || obj_description(c.oid) as body from pg_class c
            where c.oid = to_regclass('pg_temp.late');
         create function late() returns trigger language plpgsql as $$ begin
            if to_regclass('pg_temp.late') is null then
               create temp table late (); execute format('comment on table pg_temp.late is %L', TG_TABLE_SCHEMA); end if;
            return null; end $$;
         create constraint trigger late after insert on notes deferrable initially deferred
            for each row execute function late();
         insert into notes values ('row of ' || current_schema());",
    ),
];

/// What the archives of these tenants hold that is another tenant's.
async fn crossed(raw: &Raw, slugs: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for slug in slugs {
        let sql =
            format!("select body from tenant_{slug}.archive where body not in ('') and body not like '%tenant_{slug}'");
        found.extend(raw.all::<String>(&sql).await.into_iter().map(|body| format!("tenant_{slug}: {body}")));
    }
    found
}

/// The control: the same statements in one session without a reset, or with the one there was before.
async fn crosses_without_reset(database: &TestDatabase, leftover: &Leftover) -> bool {
    let raw = Raw::on(database).await;
    for slug in ["x", "y"] {
        let reset = if leftover.is_setting { "" } else { "reset all;" };
        raw.run(&format!("create schema tenant_{slug}; set search_path = tenant_{slug}, public, pg_temp; {FIRST}"))
            .await;
        raw.run(&format!("begin; {}; commit; {reset}", leftover.sql)).await;
    }
    let crossed = match leftover.name {
        // What `lastval` said was the other's, so none of one's own is equal to it.
        "value of a sequence" => raw.one::<i64>("select count(*) from tenant_y.archive").await == 0,
        _ => !crossed(&raw, &["x", "y"]).await.is_empty(),
    };
    raw.run("reset all; unlisten *; drop schema tenant_x cascade; drop schema tenant_y cascade").await;
    crossed
}

async fn fleet() -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", FIRST)]);
    let operator = tenants(&database, &files.load(), &["a", "b", "c"]).await;
    let raw = Raw::on(&database).await;
    (database, files, operator, raw)
}

async fn migrate(operator: &Operator, migrations: &Migrations, options: RunOptions) -> migrate::RunReport {
    let planned = migrate::plan_fleet(operator, migrations, &Scope::Everything, Target::Head).await.unwrap();
    migrate::run_with(operator, migrations, planned, &options, &mut Silent).await.unwrap()
}

fn one_worker() -> RunOptions {
    RunOptions::default().jobs(NonZeroUsize::MIN)
}

/// What the archives hold after all tenants were migrated: a row of the tenant's own where a file always writes one.
async fn check(raw: &Raw, leftover: &Leftover, how: &str) {
    let slugs = ["a", "b", "c"];
    let crossed = crossed(raw, &slugs).await;
    assert!(crossed.is_empty(), "{} by {how}: {crossed:?}", leftover.name);
    let finds_nothing = ["channel listened to", "seed of random()", "session lock", "table made by a deferred trigger"];
    if !finds_nothing.contains(&leftover.name) {
        for slug in slugs {
            let own: i64 = raw.one(&format!("select count(*) from tenant_{slug}.archive")).await;
            assert!(own > 0, "{} by {how}: tenant {slug} found nothing of its own", leftover.name);
        }
    }
}

#[tokio::test]
async fn no_leftover_reaches_the_next_tenant_of_a_run() {
    for leftover in &LEFTOVERS {
        let (database, files, operator, raw) = fleet().await;
        assert!(crosses_without_reset(&database, leftover).await, "{}: the control shows nothing", leftover.name);
        files.tenant("002_copy.sql", leftover.sql);
        let report = migrate(&operator, &files.load(), one_worker()).await;
        assert_eq!(report.migrated(), 3, "{}: {:?}", leftover.name, report.tenants);
        check(&raw, leftover, "a run").await;
    }
}

#[tokio::test]
async fn no_leftover_reaches_the_next_tenant_without_a_transaction() {
    for leftover in &LEFTOVERS {
        let (_database, files, operator, raw) = fleet().await;
        files.tenant("002_copy.sql", &format!("-- cgk:no-transaction\n{}", leftover.sql));
        let report = migrate(&operator, &files.load(), one_worker()).await;
        assert_eq!(report.migrated(), 3, "{}: {:?}", leftover.name, report.tenants);
        check(&raw, leftover, "a file without a transaction").await;
    }
}

#[tokio::test]
async fn no_leftover_reaches_the_next_tenant_of_one_transaction() {
    for leftover in &LEFTOVERS {
        let (_database, files, operator, raw) = fleet().await;
        files.tenant("002_copy.sql", leftover.sql);
        let report = migrate(&operator, &files.load(), RunOptions::default().all_or_nothing()).await;
        assert_eq!(report.migrated(), 3, "{}: {:?}", leftover.name, report.tenants);
        check(&raw, leftover, "one transaction").await;
    }
}

/// What a deferred trigger leaves at the COMMIT of one transaction for all: the next run on the same operator does not find it.
#[tokio::test]
async fn no_leftover_of_one_transaction_reaches_the_next_run() {
    let (database, files, operator, raw) = fleet().await;
    let leftover = LEFTOVERS.iter().find(|leftover| leftover.name == "table made by a deferred trigger").unwrap();
    assert!(crosses_without_reset(&database, leftover).await, "the control shows nothing");
    files.tenant("002_copy.sql", leftover.sql);
    let report = migrate(&operator, &files.load(), RunOptions::default().all_or_nothing()).await;
    assert_eq!(report.migrated(), 3, "{:?}", report.tenants);
    let look = "create table looked as select c.oid from pg_class c where c.oid = to_regclass('pg_temp.late');";
    files.tenant("003_look.sql", look);
    let report = migrate(&operator, &files.load(), one_worker()).await;
    assert_eq!(report.migrated(), 3, "{:?}", report.tenants);
    for slug in ["a", "b", "c"] {
        assert_eq!(raw.one::<i64>(&format!("select count(*) from tenant_{slug}.looked")).await, 0, "tenant {slug}");
    }
}

#[tokio::test]
async fn no_leftover_reaches_the_next_tenant_that_is_created() {
    for leftover in &LEFTOVERS {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (operator, db) = (database.operator().await.unwrap(), database.db().await.unwrap());
        let files = Files::of_tenants(&[("001_first.sql", FIRST), ("002_copy.sql", leftover.sql)]);
        let wanted: Vec<NewTenant> = ["a", "b", "c"].map(|slug| slug.parse::<cgk::TenantSlug>().unwrap().into()).into();
        let options = CreateManyOptions::default().jobs(NonZeroUsize::MIN);
        let report =
            lifecycle::create_many(&operator, &db, &files.load(), &wanted, &options, &mut Silent).await.unwrap();
        assert_eq!(report.failed(), 0, "{}: {:?}", leftover.name, report.tenants);
        check(&Raw::on(&database).await, leftover, "creation").await;
    }
}

/// A file finds nothing of the file before it in the same run, as it finds nothing when it is released later.
#[tokio::test]
async fn no_leftover_reaches_the_next_file_of_the_schema() {
    for leftover in LEFTOVERS.iter().filter(|leftover| !leftover.name.contains("deferred")) {
        let (_database, files, operator, raw) = fleet().await;
        let again = leftover.sql.replace("archive", "archive2");
        files.tenant("002_copy.sql", leftover.sql);
        // Another row, so that what is found tells when it was taken.
        files.tenant("003_later.sql", &format!("update notes set body = 'later ' || body; {again}"));
        let report = migrate(&operator, &files.load(), one_worker()).await;
        assert_eq!(report.migrated(), 3, "{}: {:?}", leftover.name, report.tenants);
        let sql = match leftover.name {
            "value of a sequence" => "select count(*) = 1 from tenant_a.archive2",
            "channel listened to" | "seed of random()" | "session lock" => "select count(*) = 0 from tenant_a.archive2",
            _ => "select bool_and(body like 'later %') from tenant_a.archive2",
        };
        assert!(raw.one::<bool>(sql).await, "{}: the second file found what the first left", leftover.name);
    }
}

/// What outlives a rollback: a file that fails in one tenant leaves it, and the next tenant comes on the same connection.
#[tokio::test]
async fn no_leftover_of_a_failed_tenant_reaches_the_next() {
    for leftover in LEFTOVERS.iter().filter(|leftover| leftover.outlives_rollback) {
        for marker in ["", "-- cgk:no-transaction\n"] {
            let (_database, files, operator, raw) = fleet().await;
            let fails = "do $$ begin if current_schema() = 'tenant_a' then raise 'not here'; end if; end $$;";
            files.tenant("002_copy.sql", &format!("{marker}{} {fails}", leftover.sql));
            let report = migrate(&operator, &files.load(), one_worker()).await;
            assert_eq!((report.migrated(), report.failed()), (2, 1), "{}: {:?}", leftover.name, report.tenants);
            let crossed = crossed(&raw, &["b", "c"]).await;
            assert!(crossed.is_empty(), "{} after a failure: {crossed:?}", leftover.name);
            if leftover.name == "prepared statement" {
                assert_eq!(raw.one::<i64>("select count(*) from tenant_b.archive").await, 1);
            }
        }
    }
}

/// The operator's session after a run that failed: its next work begins without what is left, a session lock for one.
#[tokio::test]
async fn a_repair_begins_without_what_a_failed_run_left() {
    let (database, files, operator, raw) = fleet().await;
    let held = "select count(*) from pg_locks where locktype = 'advisory' and classid = 4711 and database = (select oid from pg_database where datname = current_database())";
    files.tenant("002_lock.sql", "select pg_advisory_lock(4711, 1); select 1 / 0;");
    let report = migrate(&operator, &files.load(), one_worker().unrehearsed()).await;
    assert_eq!(report.failed(), 3);
    assert_eq!(raw.one::<i64>(held).await, 0, "a message that failed is followed by a reset");
    // The control: a rollback keeps session locks.
    let other = Raw::on(&database).await;
    assert!(other.try_run("select pg_advisory_lock(4711, 1); select 1 / 0;").await.is_err());
    assert_eq!(raw.one::<i64>(held).await, 1);
    other.run("select pg_advisory_unlock_all()").await;
    let repaired = migrate::repair(&operator, &files.load(), &Scope::Tenants, &Repair::Comment).await.unwrap();
    assert_eq!(repaired.len(), 3);
    raw.run("comment on table tenant_a.schema_migrations is null").await;
    migrate::repair(&operator, &files.load(), &Scope::Tenants, &Repair::Comment).await.unwrap();
    assert_eq!(raw.one::<i64>(held).await, 0);
}

/// A run that was dropped while a statement ran: the next one on the same operator begins with a reset.
#[tokio::test]
async fn a_run_after_one_that_was_dropped_finds_nothing_of_it() {
    let (_database, files, operator, raw) = fleet().await;
    let waits = "select case when current_schema() = 'tenant_a' then pg_advisory_xact_lock(4712) end;";
    let leftover = LEFTOVERS.iter().find(|leftover| leftover.name == "prepared statement").unwrap();
    files.tenant("002_copy.sql", &format!("{} {waits}", leftover.sql));
    let migrations = files.load();
    let holder = Raw::connect(&crate::sandbox::url(&_database, None)).await;
    holder.run("select pg_advisory_lock(4712)").await;
    {
        let run = migrate_all(&operator, &migrations);
        let blocked = raw.wait_until(
            "select exists (select from pg_locks where locktype = 'advisory' and objid = 4712 and not granted and database = (select oid from pg_database where datname = current_database()))",
        );
        tokio::select! {
            report = run => panic!("it did not wait: {report:?}"),
            () = blocked => {}
        }
    }
    // Tenant a is rolled back, and its statement stays prepared in the session.
    raw.run("select pg_cancel_backend(pid) from pg_locks where locktype = 'advisory' and objid = 4712 and not granted and database = (select oid from pg_database where datname = current_database())")
        .await;
    holder.run("select pg_advisory_unlock(4712)").await;
    // Another tenant is the next on that session: tenant a would find what is its own.
    let only = Scope::Only(vec!["b".parse().unwrap()]);
    let planned = migrate::plan_fleet(&operator, &migrations, &only, Target::Head).await.unwrap();
    let report = migrate::run_with(&operator, &migrations, planned, &one_worker(), &mut Silent).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (1, 0), "{:?}", report.tenants);
    let crossed = crossed(&raw, &["b"]).await;
    assert!(crossed.is_empty(), "{} after a dropped run: {crossed:?}", leftover.name);
    let report = migrate(&operator, &migrations, one_worker()).await;
    assert_eq!(report.failed(), 0, "{:?}", report.tenants);
    check(&raw, leftover, "a run after a dropped one").await;
}
