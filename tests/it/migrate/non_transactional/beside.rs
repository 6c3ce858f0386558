//! Several runs at once.

use super::*;
use cgk::{
    TenantSlug,
    migrate::{BlockingTransaction, Observer, RunOptions},
};
use tokio::sync::Notify;

/// What is before a file without a transaction is committed with it, and stays this run's work when another run turns out to
/// have done the rest. The file itself plays the other run, so that the order is certain.
#[tokio::test]
async fn what_was_done_before_another_run_came_first_is_reported() {
    let (_database, files, operator, raw) =
        with_files(&["acme"], &[("002_two.sql", "create table two ()"), ("004_four.sql", "create table four ()")])
            .await;
    let checksum = files.load().set(migrate::Set::Tenant).files().last().unwrap().checksum().as_str().to_owned();
    files.tenant(
        "003_three.sql",
        &format!(
            "-- cgk:no-transaction
            create table four ();
            do $do$ begin execute 'insert into schema_' || $$migrations (version, name, checksum, duration_ms, cgk_version)
                values (4, 'four', '{checksum}', 0, '')$$; end $do$"
        ),
    );
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let migrate::Outcome::Migrated { applied } = &report.tenants[0].result else { panic!("{report:?}") };
    let applied: Vec<_> = applied.iter().map(ToString::to_string).collect();
    assert_eq!(applied, ["002_two", "003_three"]);
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2, 3, 4]);
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().tenants.len(), 0, "the comment is true again");
}

/// Fault 5 of those found in other runners: CREATE INDEX CONCURRENTLY while a second runner waits.
#[tokio::test]
async fn a_second_runner_waits_without_a_snapshot_and_nobody_deadlocks() {
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let holder = Raw::on(&database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    let migrations = Arc::new(files.load());
    let start = |name: &'static str| {
        let (config, migrations) = (database.config().clone().with_application_name(name), Arc::clone(&migrations));
        tokio::spawn(async move {
            let operator = Operator::connect(&config).await.unwrap();
            migrate_all(&operator, &migrations).await.unwrap()
        })
    };
    let builder = start("builder");
    raw.wait_until("select exists (select from pg_stat_activity where datname = current_database() and application_name = 'builder' and query like 'create index%' and wait_event_type = 'Lock')").await;
    let waiter = start("waiter");
    let asks = "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'waiter' and query like '%pg_try_advisory_lock%')";
    raw.wait_until(asks).await;
    // It asks and waits by itself: no lock that it has not got.
    assert!(!raw.one::<bool>("select exists (select from pg_locks l join pg_stat_activity a using (pid) where a.datname = current_database() and a.application_name = 'waiter' and not l.granted)").await);
    holder.run("rollback").await;
    let (built, waited) = (builder.await.unwrap(), waiter.await.unwrap());
    assert_eq!((built.failed(), waited.failed()), (0, 0), "{built:?} {waited:?}");
    assert_eq!(faults(&raw, "acme").await, Vec::<String>::new());

    // The control: with a lock that is waited for, the two wait for each other.
    let (a, b) = (Raw::on(&database).await, Raw::on(&database).await);
    a.run("select pg_advisory_lock(1)").await;
    let b = tokio::spawn(async move { b.try_run("select pg_advisory_lock(1)").await });
    raw.wait_until("select exists (select from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database()))").await;
    let a_result = a
        .try_run("set lock_timeout = '10min'; ")
        .await
        .and(a.try_run("create index concurrently deadlocked on tenant_acme.one (note)").await);
    drop(a);
    let b_result = b.await.unwrap();
    let states: Vec<_> = [a_result, b_result].into_iter().filter_map(|result| result.err()?.code().cloned()).collect();
    assert_eq!(states.iter().map(|state| state.code()).collect::<Vec<_>>(), ["40P01"]);
}

/// A file with a transaction does not begin while one without is under way, and says who holds it up.
#[tokio::test]
async fn what_is_one_message_waits_for_the_steps_of_another_run() {
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_x.sql", "create table x ()")]).await;
    let mut session = database.config().session().clone();
    session.migration_wait = Duration::from_millis(200);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    let key = cgk::lock::steps_key(&SchemaName::of_tenant(&"acme".parse().unwrap()));
    holder.run(&format!("select pg_advisory_lock({key})")).await;
    for name in ["002_x.sql", "002_y.sql"] {
        let report = migrate_all(&operator, &files.load()).await.unwrap();
        assert!(matches!(failure(&report, "acme"), Error::Migration(MigrationError::Locked { .. })), "{report:?}");
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
        files.without(name).tenant("002_y.sql", "-- cgk:no-transaction\ncreate table y ()");
    }
    holder.run("select pg_advisory_unlock_all()").await;
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.migrated(), 1, "{report:?}");
}

/// Notes what blocks a schema.
struct Blocked(Arc<Notify>, Vec<(String, BlockingTransaction)>);

impl Observer for Blocked {
    fn blocked(&mut self, schema: &SchemaName, by: &BlockingTransaction) {
        self.1.push((schema.as_str().to_owned(), by.clone()));
        self.0.notify_one();
    }
}

/// Whoever builds an index without blocking others waits for every older transaction, and says for which.
#[tokio::test]
async fn a_build_that_waits_names_the_transaction() {
    let (database, files, _operator, raw) = with_files(&["acme"], &[("002_steps.sql", STEPS)]).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_secs(600);
    session.migration_wait = Duration::from_secs(600);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    let pid: i32 = holder.one("select pg_backend_pid()").await;
    holder.run("set application_name = 'forgotten'; begin isolation level repeatable read; select 1").await;
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let told = Arc::new(Notify::new());
    let mut observer = Blocked(Arc::clone(&told), Vec::new());
    let options = RunOptions::default().unrehearsed();
    let run = migrate::run_with(&operator, &migrations, planned, &options, &mut observer);
    let release = async {
        told.notified().await;
        // The control: it waits.
        assert!(
            raw.one::<bool>("select exists (select from pg_locks where locktype = 'virtualxid' and not granted)").await
        );
        holder.run("rollback").await;
    };
    let (report, ()) = tokio::join!(run, release);
    assert_eq!(report.unwrap().failed(), 0);
    let (schema, by) = &observer.1[0];
    assert_eq!(
        (schema.as_str(), by.pid, by.application.as_str(), by.state.as_str()),
        ("tenant_acme", Some(pid), "forgotten", "idle in transaction")
    );
    assert!(by.age.is_some() && !by.role.is_empty(), "{by:?}");
}

/// Notes that a tenant is waited for.
struct Told(Arc<Notify>);

impl Observer for Told {
    fn waiting(&mut self, _: &TenantSlug) {
        self.0.notify_one();
    }
}

/// It asks again and again, and goes on when the steps end.
#[tokio::test]
async fn what_is_one_message_goes_on_when_the_steps_of_another_run_end() {
    let (database, files, operator, raw) = with_files(&["acme"], &[("002_x.sql", "create table x ()")]).await;
    let holder = Raw::on(&database).await;
    let key = cgk::lock::steps_key(&SchemaName::of_tenant(&"acme".parse().unwrap()));
    holder.run(&format!("select pg_advisory_lock({key})")).await;
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let told = Arc::new(Notify::new());
    let (mut observer, options) = (Told(Arc::clone(&told)), RunOptions::default().unrehearsed());
    let run = migrate::run_with(&operator, &migrations, planned, &options, &mut observer);
    let release = async {
        told.notified().await;
        let now: String = raw.one("select clock_timestamp()::text").await;
        raw.wait_until(&format!(
            "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'cgk'
                            and state like 'idle%' and query like '%pg_try_advisory_xact_lock_shared%' and query_start > '{now}')"
        ))
        .await;
        assert_eq!(versions(&raw, "tenant_acme").await, [1]);
        holder.run("select pg_advisory_unlock_all()").await;
    };
    let (report, ()) = tokio::join!(run, release);
    let report = report.unwrap();
    assert_eq!((report.migrated(), report.failed()), (1, 0), "{report:?}");
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
}

#[tokio::test]
async fn two_runs_at_once_do_nothing_twice() {
    let slugs = ["a", "b", "c"];
    let (database, files, _operator, raw) = with_files(&slugs, &[("002_steps.sql", STEPS)]).await;
    let migrations = Arc::new(files.load());
    let mut runs = Vec::new();
    for _ in 0..3 {
        let (operator, migrations) =
            (crate::support::patience::patient_operator(&database).await, Arc::clone(&migrations));
        runs.push(tokio::spawn(async move { migrate_all(&operator, &migrations).await.unwrap() }));
    }
    let mut applied = 0;
    for run in runs {
        let report = run.await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        applied += report
            .tenants
            .iter()
            .map(|tenant| match &tenant.result {
                migrate::Outcome::Migrated { applied } => applied.len(),
                other => panic!("{other:?}"),
            })
            .sum::<usize>();
    }
    assert_eq!(applied, slugs.len());
    for slug in slugs {
        assert_eq!(faults(&raw, slug).await, Vec::<String>::new());
    }
}
