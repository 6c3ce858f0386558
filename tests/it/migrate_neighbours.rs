//! Whom a run holds up and for how long: the traffic on the tables it changes, other runs, other tenants.

use crate::{
    sandbox::{Files, Raw, exists, failure, migrate_all, picture, say, tenants, url, versions},
    support::cgk::Shell,
};
use cgk::{
    Error, Operator,
    ident::SchemaName,
    lock,
    migrate::{self, Migrations, RunOptions, RunReport, Scope, Silent, Target},
    testing::{TestDatabase, TestServer},
};
use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
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

/// Readers and writers of one table, two of each, who note how long they were kept waiting.
struct Traffic {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Traffic {
    async fn on(database: &TestDatabase, table: &str) -> Self {
        let (stop, waits) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut tasks = Vec::new();
        for number in 0..4 {
            let sql = match number % 2 {
                0 => format!("select count(id) from {table}"),
                _ => format!("update {table} set id = id + 1 where id = {number}; insert into {table} (id) values (9)"),
            };
            let (client, stop, waits) = (Raw::on(database).await, Arc::clone(&stop), Arc::clone(&waits));
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    client.run(&sql).await;
                    waits.lock().unwrap().push(began.elapsed());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }));
        }
        Self { stop, tasks, waits }
    }

    /// The longest that one of them waited, and how many statements there were.
    async fn end(self) -> (Duration, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let waits = self.waits.lock().unwrap();
        (waits.iter().max().copied().unwrap_or_default(), waits.len())
    }
}

/// A migration that waits for its lock stands in the queue before everybody who comes after it.
#[tokio::test]
async fn live_traffic_waits_for_a_migration_no_longer_than_the_lock_timeout() {
    let (database, files, _operator, raw) = fleet(&["a"]).await;
    let lock_timeout = Duration::from_millis(400);
    // A machine that is busy with other tests answers late.
    let slack = Duration::from_millis(600);
    let operator = patient(&database, lock_timeout, Duration::from_secs(60)).await;
    files.tenant("002_second.sql", "alter table m1 add column note text");
    let migrations = files.load();

    // A report that somebody has left open.
    let holder = Raw::on(&database).await;
    holder.run("begin; select * from tenant_a.m1").await;
    let traffic = Traffic::on(&database, "tenant_a.m1").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    let (longest, statements) = traffic.end().await;
    assert_eq!(failure(&report, "a").sqlstate().unwrap().code(), "55P03");
    let tries = report.tenants[0].attempts;
    say(&format!("{tries} tries of {lock_timeout:?}: {statements} statements, the longest took {longest:?}"));
    assert!(longest < lock_timeout + slack, "{longest:?}");
    // It did stand in their way, and between its tries they went on.
    assert!(longest > lock_timeout / 2 && tries > 1, "{longest:?} in {tries} tries: this test proved nothing");
    assert!(statements > 4 * 2 * tries as usize, "{statements} statements in {tries} tries");

    // The control: the same statement without a timeout keeps them waiting for as long as the report is open.
    let careless = Raw::on(&database).await;
    let traffic = Traffic::on(&database, "tenant_a.m1").await;
    let waits = tokio::spawn(async move { careless.run("alter table tenant_a.m1 add column other text").await });
    raw.wait_until("select exists (select from pg_locks where relation = 'tenant_a.m1'::regclass and mode = 'AccessExclusiveLock' and not granted)").await;
    tokio::time::sleep(lock_timeout + slack + Duration::from_millis(300)).await;
    holder.run("rollback").await;
    waits.await.unwrap();
    let (longest, _) = traffic.end().await;
    assert!(longest > lock_timeout + slack, "{longest:?}");
    raw.run("alter table tenant_a.m1 drop column other").await;

    // With the report gone, the migration comes through in the midst of the traffic.
    let traffic = Traffic::on(&database, "tenant_a.m1").await;
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().migrated(), 1);
    let (longest, _) = traffic.end().await;
    assert!(longest < lock_timeout + slack, "{longest:?}");
}

/// A run that hangs holds what it has locked; nobody else, and not for longer than its transaction lives.
#[tokio::test]
async fn a_stuck_run_is_in_nobodys_way_but_its_tenants_and_a_killed_one_soon_in_nobodys() {
    let (database, files, operator, raw) = fleet(&["a", "b", "c"]).await;
    let stuck = "alter table m1 add column note text; do $$ begin if current_schema() = 'tenant_a' and to_regclass('public.stuck') is not null then perform pg_sleep(600); end if; end $$";
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
    let patient = patient(&database, Duration::from_secs(3), Duration::from_millis(50)).await;
    let report = migrate_all(&patient, &files.load()).await.unwrap();
    assert!(matches!(failure(&report, "a"), Error::Locked { .. }), "{report:?}");
    assert_eq!((report.migrated(), report.failed()), (2, 1));
    let (longest, statements) = others.end().await;
    assert!(longest < Duration::from_secs(1) && statements > 0, "{longest:?}");

    // The control: whoever wants what it has locked does wait.
    let reader = Raw::on(&database).await;
    let waits = tokio::spawn(async move { reader.one::<i64>("select count(*) from tenant_a.m1").await });
    raw.wait_until("select exists (select from pg_locks where relation = 'tenant_a.m1'::regclass and not granted)")
        .await;
    // SIGKILL: nothing says goodbye to the server.
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    if !operator.facts().notices_lost_clients {
        raw.all::<bool>("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'").await;
    }
    assert_eq!(waits.await.unwrap(), 1);
    let waited = killed.elapsed();
    say(&format!("the lock of a killed run was free after {waited:?}"));
    assert!(waited < Duration::from_secs(5), "{waited:?} after the kill");
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
        assert!(matches!(failure(&report, "a"), Error::Locked { .. }), "{report:?}");
        assert_eq!(migrate_one(&operator, &migrations, "b").await.migrated(), 1);
        let operator = patient(&elsewhere, moment, moment).await;
        assert_eq!(migrate_one(&operator, &migrations, "a").await.migrated(), 1);
        holder.run("rollback").await;
    }
    assert!(exists(&raw, "tenant_b.m3").await && exists(&raw_elsewhere, "tenant_a.m3").await);
    assert!(!exists(&raw, "tenant_a.m2").await);
}
