//! Whom a run holds up and for how long: the traffic on the tables it changes, other runs, other tenants.

use crate::{
    sandbox::{Files, Raw, exists, failure, migrate_all, picture, tenants, url, versions},
    support::{
        cgk::Shell,
        patience::{HANG, must_end},
    },
};
use cgk::{
    Error, MigrationError, Operator,
    ident::SchemaName,
    lock,
    migrate::{self, Migrations, RunOptions, RunReport, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

const FIRST: &[(&str, &str)] = &[("001_first.sql", "create table m1 (id int); insert into m1 values (1)")];

async fn fleet(slugs: &[&str]) -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(FIRST);
    let operator = tenants(&database, &files.load(), slugs).await;
    let raw = Raw::on(&database).await;
    (database, files, operator, raw)
}

async fn patient(database: &TestDatabase, lock_timeout: Duration, migration_wait: Duration) -> Operator {
    let mut session = database.config().session().clone();
    (session.lock_timeout, session.migration_wait) = (lock_timeout, migration_wait);
    Operator::connect(&database.config().clone().with_session(session)).await.unwrap()
}

async fn migrate_one(operator: &Operator, migrations: &Migrations, slug: &str) -> RunReport {
    let only = Scope::Only(vec![slug.parse().unwrap()]);
    let planned = migrate::plan_fleet(operator, migrations, &only, Target::Head).await.unwrap();
    migrate::run(operator, migrations, planned, &mut Silent).await.unwrap()
}

/// Readers and writers of one table, two of each.
struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    done: Arc<AtomicUsize>,
}

/// Sessions of the traffic that wait for a lock.
const KEPT_WAITING: &str = "select count(*) from pg_stat_activity where datname = current_database()
    and application_name = 'traffic' and wait_event_type = 'Lock'";

impl Traffic {
    async fn on(database: &TestDatabase, table: &str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for number in 0..4 {
            let sql = match number % 2 {
                0 => format!("select count(id) from {table}"),
                _ => format!("update {table} set id = id + 1 where id = {number}; insert into {table} (id) values (9)"),
            };
            let (client, stop, done) = (Raw::on(database).await, Arc::clone(&stop), Arc::clone(&done));
            client.run("set application_name = 'traffic'").await;
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.run(&sql).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        Self { stop, tasks, done }
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until each of the four had time for another statement.
    async fn goes_on(&self) {
        let before = self.done();
        let began = Instant::now();
        while self.done() < before + 2 * self.tasks.len() {
            assert!(began.elapsed() < HANG, "the traffic stands still");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the statements that are under way are done.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            must_end("the traffic", task).await.unwrap();
        }
    }
}

/// A migration that waits for its lock stands in the queue before everybody who comes after it, until the lock timeout; then they
/// go on, though what it waits for is still there.
#[tokio::test]
async fn live_traffic_waits_for_a_migration_no_longer_than_the_lock_timeout() {
    let (database, files, _operator, raw) = fleet(&["a"]).await;
    let lock_timeout = Duration::from_millis(400);
    let operator = patient(&database, lock_timeout, HANG).await;
    files.tenant("002_second.sql", "alter table m1 add column note text");
    let migrations = files.load();

    // A report that somebody has left open, until the end.
    let holder = Raw::on(&database).await;
    holder.run("begin; select * from tenant_a.m1").await;
    let traffic = Traffic::on(&database, "tenant_a.m1").await;
    let stands_in_the_way = format!("select ({KEPT_WAITING}) > 0");
    let seen = AtomicBool::new(false);
    let watch = async {
        raw.wait_until(&stands_in_the_way).await;
        traffic.goes_on().await;
        seen.store(true, Ordering::Relaxed);
    };
    let runs = async {
        // Mostly one: it has several tries.
        while !seen.load(Ordering::Relaxed) {
            let report = migrate_all(&operator, &migrations).await.unwrap();
            assert_eq!(failure(&report, "a").sqlstate().unwrap().code(), "55P03");
            assert!(report.tenants[0].attempts > 1, "{report:?}");
        }
    };
    tokio::join!(runs, watch);
    traffic.goes_on().await;
    traffic.end().await;

    // The control: the same statement without a timeout keeps them all waiting, for as long as the report is open.
    let careless = Raw::on(&database).await;
    let traffic = Traffic::on(&database, "tenant_a.m1").await;
    let waits = tokio::spawn(async move { careless.run("alter table tenant_a.m1 add column other text").await });
    raw.wait_until(&format!("select ({KEPT_WAITING}) = 4")).await;
    let done = traffic.done();
    tokio::time::sleep(lock_timeout * 2).await;
    assert_eq!((raw.one::<i64>(KEPT_WAITING).await, traffic.done()), (4, done), "this test proves nothing");
    holder.run("rollback").await;
    waits.await.unwrap();
    traffic.end().await;
    raw.run("alter table tenant_a.m1 drop column other").await;

    // With the report gone, the migration comes through in the midst of the traffic.
    let traffic = Traffic::on(&database, "tenant_a.m1").await;
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().migrated(), 1);
    traffic.goes_on().await;
    traffic.end().await;
}

/// A run that hangs holds what it has locked; nobody else, and not for longer than its transaction lives.
#[tokio::test]
async fn a_stuck_run_is_in_nobodys_way_but_its_tenants_and_a_killed_one_soon_in_nobodys() {
    let (database, files, operator, raw) = fleet(&["a", "b", "c"]).await;
    let stuck = "alter table m1 add column note text; do $$ begin if current_schema() = 'tenant_a' and to_regclass('public.stuck') is not null then perform pg_sleep(3600); end if; end $$";
    raw.run("create table public.stuck ()").await;
    files.tenant("002_second.sql", stuck);
    let shell = Shell::on(&database).set("CGK_MIGRATIONS", &files.path().display().to_string());
    let mut child = shell.start(&["migrate", "--tenant", "a", "-q"]);
    raw.wait_until(
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')",
    )
    .await;

    // The others are migrated meanwhile, and their traffic waits for nothing.
    let others = Traffic::on(&database, "tenant_c.m1").await;
    let patient = patient(&database, HANG, Duration::from_millis(50)).await;
    let report = migrate_all(&patient, &files.load()).await.unwrap();
    assert!(matches!(failure(&report, "a"), Error::Migration(MigrationError::Locked { .. })), "{report:?}");
    assert_eq!((report.migrated(), report.failed()), (2, 1));
    others.goes_on().await;
    others.end().await;
    let stuck =
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep')";
    assert!(raw.one::<bool>(stuck).await, "the others waited for the run that hangs");

    // The control: whoever wants what it has locked does wait.
    let reader = Raw::on(&database).await;
    let waits = tokio::spawn(async move { reader.one::<i64>("select count(*) from tenant_a.m1").await });
    raw.wait_until("select exists (select from pg_locks where relation = 'tenant_a.m1'::regclass and not granted and database = (select oid from pg_database where datname = current_database()))")
        .await;
    // SIGKILL: nothing says goodbye to the server.
    child.kill().unwrap();
    child.wait().unwrap();
    if !operator.facts().notices_lost_clients {
        raw.all::<bool>("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'").await;
    }
    // Its statement would have run for an hour.
    assert_eq!(must_end("the reader", waits).await.unwrap(), 1);
    assert_eq!(versions(&raw, "tenant_a").await, [1]);
    raw.run("drop table public.stuck").await;
    let report = migrate_one(&operator, &files.load(), "a").await;
    assert_eq!((report.migrated(), report.failed()), (1, 0), "{report:?}");
}

/// Found by the fault runs: the plan begins with a file that a killed run has finished since, and the record of the next one,
/// in whose middle it was killed, was taken for one that nobody can go on with.
#[tokio::test]
async fn a_run_goes_on_where_a_quicker_one_was_cut_off_in_a_later_file() {
    let (_database, files, operator, raw) = fleet(&["a"]).await;
    let steps = |n: i64| {
        format!(
            "-- cgk:no-transaction\ninsert into m1 values ({n}0);\ncreate unique index concurrently i{n} on m1 (id);\ninsert into m1 values ({n}1);"
        )
    };
    files.tenant("002_second.sql", &steps(2).replace("unique ", "")).tenant("003_third.sql", &steps(3));
    let migrations = files.load();
    let stale = migrate::plan_fleet(&operator, &migrations, &Scope::Everything, Target::Head).await.unwrap();

    raw.run("insert into tenant_a.m1 values (7), (7)").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!(failure(&report, "a").sqlstate().unwrap().code(), "23505");
    assert!(versions(&raw, "tenant_a").await == [1, 2] && exists(&raw, "tenant_a.schema_migration_steps").await);
    raw.run("delete from tenant_a.m1 where id = 7").await;

    let report = migrate::run(&operator, &migrations, stale, &mut Silent).await.unwrap();
    assert_eq!((report.migrated(), report.failed()), (1, 0), "{report:?}");
    assert_eq!(versions(&raw, "tenant_a").await, [1, 2, 3]);
    assert_eq!(raw.all::<i32>("select id from tenant_a.m1 order by id").await, [1, 20, 21, 30, 31]);
}

/// Fault 15 of those found in other runners: on one connection, what failed for one tenant fails for all behind it.
#[tokio::test]
async fn a_tenant_that_fails_between_two_on_one_connection_harms_neither() {
    let (_database, files, operator, raw) = fleet(&["a", "b", "c"]).await;
    raw.run("insert into tenant_b.m1 values (null)").await;
    files.tenant(
        "002_second.sql",
        "create table m2 as select pg_backend_pid() as pid, current_setting('cgk.left', true) as seen;
         select set_config('cgk.left', current_schema(), false); create temporary table scratch ();
         alter table m1 alter id set not null; drop table scratch",
    );
    let migrations = files.load();
    let before = picture(&raw, "tenant_b").await;
    let planned = migrate::plan_fleet(&operator, &migrations, &Scope::Everything, Target::Head).await.unwrap();
    let options = RunOptions::default().jobs(NonZeroUsize::MIN);
    let report = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    let order: Vec<_> = report.tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
    assert_eq!(order, ["tenant_a", "tenant_b", "tenant_c"]);
    assert_eq!(failure(&report, "b").sqlstate().unwrap().code(), "23502");
    assert_eq!((report.migrated(), picture(&raw, "tenant_b").await), (2, before));
    assert_eq!(versions(&raw, "tenant_c").await, [1, 2]);
    // One connection, and nothing of the failed one in it.
    assert!(raw.one::<bool>("select (select pid from tenant_a.m2) = (select pid from tenant_c.m2)").await);
    assert!(!raw.one::<bool>("select (select seen from tenant_c.m2) like 'tenant%'").await);
}

/// Fault 20 of those found in other runners: one lock for the whole database, or for the whole server.
#[tokio::test]
async fn runs_over_other_tenants_and_in_other_databases_wait_for_nothing() {
    let (database, files, _operator, raw) = fleet(&["a", "b"]).await;
    let (elsewhere, _, _, raw_elsewhere) = fleet(&["a"]).await;
    let moment = Duration::from_millis(20);
    let holder = Raw::connect(&url(&database, None)).await;
    for (key, version) in [(lock::migration_key as fn(&SchemaName) -> i64, 2), (lock::steps_key, 3)] {
        files.tenant(&format!("00{version}_next.sql"), &format!("create table m{version} ()"));
        let migrations = files.load();
        let key = key(&SchemaName::of_tenant(&"a".parse().unwrap()));
        holder.run(&format!("begin; select pg_advisory_xact_lock({key})")).await;
        // The control: who wants the same tenant does not get it.
        let operator = patient(&database, moment, moment).await;
        let report = migrate_one(&operator, &migrations, "a").await;
        assert!(matches!(failure(&report, "a"), Error::Migration(MigrationError::Locked { .. })), "{report:?}");
        assert_eq!(migrate_one(&operator, &migrations, "b").await.migrated(), 1);
        let operator = patient(&elsewhere, moment, moment).await;
        assert_eq!(migrate_one(&operator, &migrations, "a").await.migrated(), 1);
        holder.run("rollback").await;
    }
    assert!(exists(&raw, "tenant_b.m3").await && exists(&raw_elsewhere, "tenant_a.m3").await);
    assert!(!exists(&raw, "tenant_a.m2").await);
}
