//! A run over the fleet beside other runs, and beside sessions that hold locks.

use super::fleet::fleet;
use crate::sandbox::{Raw, failure, migrate_all, versions};
use cgk::{
    Error, ErrorKind, MigrationError, Operator,
    migrate::{Migrations, Outcome, Set, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn eight_runs_at_once_from_an_empty_database() {
    let database = Arc::new(TestServer::shared().database().await.unwrap());
    let all = Migrations::bundled().set(Set::Public).files().len();
    let applied = at_once(8, &database, |operator| async move {
        let report = setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
        report.applied.len()
    })
    .await;
    assert_eq!(applied.iter().filter(|applied| **applied == all).count(), 1, "{applied:?}");
    assert_eq!(applied.iter().sum::<usize>(), all, "{applied:?}");
    assert_eq!(versions(&Raw::on(&database).await, "public").await.len(), all);
}

/// Also where the database's own isolation level would show a run what was there before it waited.
#[tokio::test]
async fn runs_at_once_apply_nothing_twice() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let (database, files, _operator, raw) = fleet(&["a", "b", "c", "d", "e", "f"]).await;
        raw.run(&format!("alter database {} set default_transaction_isolation = '{level}'", database.name())).await;
        files
            .tenant("002_second.sql", "create table m2 (); select pg_sleep(0.005)")
            .tenant("003_third.sql", "create table m3 ()");
        let (database, migrations) = (Arc::new(database), Arc::new(files.load()));
        let applied = at_once(3, &database, |operator| {
            let migrations = Arc::clone(&migrations);
            async move {
                let report = migrate_all(&operator, &migrations).await.unwrap();
                assert_eq!(report.failed(), 0, "{level}: {report:#?}");
                let counts = report.tenants.iter().map(|tenant| match &tenant.result {
                    Outcome::Migrated { applied } => applied.len(),
                    other => panic!("{other:?}"),
                });
                counts.sum::<usize>()
            }
        })
        .await;
        assert_eq!(applied.iter().sum::<usize>(), 12, "{level}: {applied:?}");
        for slug in ["a", "f"] {
            assert_eq!(versions(&raw, &format!("tenant_{slug}")).await, [1, 2, 3]);
        }
    }
}

/// Runs the same work on several connections, all of them ready before the first begins.
async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    number: usize,
    database: &Arc<TestDatabase>,
    work: impl Fn(Operator) -> F,
) -> Vec<T> {
    let mut operators = Vec::new();
    for _ in 0..number {
        operators.push(crate::support::patience::patient_operator(database).await);
    }
    let tasks: Vec<_> = operators.into_iter().map(|operator| tokio::spawn(work(operator))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

#[tokio::test]
async fn a_run_waits_for_its_turn() {
    let (database, files, operator, raw) = fleet(&["a"]).await;
    // A timeout of the role's own must not end the wait.
    let holder = Raw::on(&database).await;
    raw.run(&format!("alter database {} set statement_timeout = '150ms'", database.name())).await;
    drop(operator);
    let operator = database.operator().await.unwrap();
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&"a".parse().unwrap()));
    holder.run(&format!("begin; select pg_advisory_xact_lock({key})")).await;
    files.tenant("002_second.sql", "create table m2 ()");
    let migrations = files.load();
    let run = tokio::spawn(async move { migrate_all(&operator, &migrations).await.unwrap() });
    raw.wait_until_blocked(OPERATORS).await;
    raw.run("reset statement_timeout; set statement_timeout = 0; select pg_sleep(0.3)").await;
    assert!(!run.is_finished());
    assert_eq!(versions(&raw, "tenant_a").await, [1]);
    holder.run("rollback").await;
    let report = run.await.unwrap();
    assert_eq!(report.migrated(), 1, "{report:?}");
}

#[tokio::test]
async fn a_turn_that_never_comes_is_one_tenants_failure() {
    let (database, files, _operator, raw) = fleet(&["a", "b"]).await;
    let mut session = database.config().session().clone();
    session.migration_wait = Duration::from_millis(150);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&"a".parse().unwrap()));
    holder.run(&format!("begin; select pg_advisory_xact_lock({key})")).await;
    files.tenant("002_second.sql", "create table m2 ()");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let error = failure(&report, "a");
    assert!(
        matches!(error, Error::Migration(MigrationError::Locked { waited, .. }) if waited.as_millis() == 150),
        "{error:?}"
    );
    assert_eq!((error.kind(), report.migrated()), (ErrorKind::Locked, 1));
    assert_eq!(versions(&raw, "tenant_a").await, [1]);
}

/// Sessions of the library in this database.
const OPERATORS: &str =
    "select pid from pg_stat_activity where datname = current_database() and application_name = 'cgk'";

#[tokio::test]
async fn a_lock_timeout_is_tried_again_with_the_timeout_set_again() {
    let (database, files, _operator, raw) = fleet(&["a", "b"]).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_secs(1);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let (proxy_pid, blocker) = (operator_pid(&raw).await, Raw::on(&database).await);
    blocker.run("begin; select * from tenant_a.m1; lock table tenant_a.m1 in access exclusive mode").await;
    files.tenant("002_second.sql", "create table m2 (); alter table m1 add column note text");
    let migrations = files.load();
    let run = tokio::spawn(async move { migrate_all(&operator, &migrations).await.unwrap() });
    // It blocks, is undone, and blocks again: a different wait each time, by the time its message began.
    let began = format!("select coalesce(max(query_start)::text, '') from pg_stat_activity where pid = {proxy_pid}");
    raw.wait_until_blocked(&proxy_pid.to_string()).await;
    let first: String = raw.one(&began).await;
    raw.wait_until(&format!("select ({began}) > '{first}'")).await;
    raw.wait_until_blocked(&proxy_pid.to_string()).await;
    blocker.run("rollback").await;
    let report = run.await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 2), "{report:#?}");
    assert_eq!(versions(&raw, "tenant_a").await, [1, 2]);
}

#[tokio::test]
async fn a_lock_that_stays_is_one_tenants_failure() {
    let (database, files, _operator, raw) = fleet(&["a", "b"]).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(10);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let blocker = Raw::on(&database).await;
    blocker.run("begin; lock table tenant_a.m1").await;
    files.tenant("002_second.sql", "alter table m1 add column note text");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let error = failure(&report, "a");
    assert_eq!((error.sqlstate().unwrap().code(), error.is_retryable(), report.migrated()), ("55P03", true, 1));
    assert!(matches!(error, Error::Migration(MigrationError::Failed(failure)) if failure.place.is_some()), "{error:?}");
    blocker.run("rollback").await;
    assert_eq!(versions(&raw, "tenant_a").await, [1]);
}

async fn operator_pid(raw: &Raw) -> i32 {
    raw.one(&format!("{OPERATORS} order by backend_start desc limit 1")).await
}
