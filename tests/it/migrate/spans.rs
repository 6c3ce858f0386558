//! A run over the fleet in the log: a span for the run, for each of its steps, and for each attempt at a tenant.

use crate::{
    sandbox::{Files, Raw, tenants},
    support::log::Log,
};
use cgk::{
    Operator, TenantSlug,
    ident::SchemaName,
    lifecycle::{self, CreateManyOptions, NewTenant},
    lock,
    migrate::{self, Observer, RunOptions, Scope, Silent, Target},
    testing::TestServer,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;

/// Wakes a task when a tenant waits for a lock.
#[derive(Default)]
struct Waiting(Arc<Notify>);

impl Observer for Waiting {
    fn waiting(&mut self, _: &TenantSlug) {
        self.0.notify_one();
    }
}

/// Migrates the fleet; a lock that `holder` holds is released when a tenant waits for it.
async fn run(operator: &Operator, files: &Files, holder: &Raw) {
    let migrations = files.load();
    let planned = migrate::plan_fleet(operator, &migrations, &Scope::Everything, Target::Head).await.unwrap();
    let mut waiting = Waiting::default();
    let wake = Arc::clone(&waiting.0);
    let release = async {
        wake.notified().await;
        holder.run("rollback").await;
    };
    let options = RunOptions::default();
    let (report, ()) = tokio::join!(migrate::run_with(operator, &migrations, planned, &options, &mut waiting), release);
    report.unwrap();
}

#[tokio::test]
async fn a_run_says_operation_tenant_and_outcome() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", "create table m1 (id int)")]);
    let operator = tenants(&database, &files.load(), &["acme", "globex", "initech"]).await;
    let (raw, holder) = (Raw::on(&database).await, Raw::on(&database).await);
    files.tenant("002_second.sql", "create table m2 (n int)").public("100_shared.sql", "create table shared_thing ()");
    // One tenant fails, and another one is being migrated by another session.
    raw.run("create table tenant_globex.m2 ()").await;
    let key = lock::migration_key(&SchemaName::of_tenant(&"initech".parse().unwrap()));
    holder.run(&format!("begin; select pg_advisory_xact_lock({key})")).await;
    let log = Log::default();
    let guard = log.listen("cgk=debug");
    run(&operator, &files, &holder).await;
    drop(guard);
    let text = log.text();
    let run = "cgk{operation=\"migrate\" run=";
    for line in [
        "cgk{operation=\"migrate\" step=\"shared_schema\" outcome=\"done\"}: cgk::fleet: close",
        "cgk{operation=\"migrate\" step=\"rehearsal\" outcome=\"done\"}: cgk::fleet: close",
        "cgk{operation=\"migrate\" step=\"tenants\" outcome=\"done\"}: cgk::fleet: close",
        "cgk{operation=\"migrate\" tenant=\"acme\" attempt=1 outcome=\"done\"}: cgk::fleet: close",
        "cgk{operation=\"migrate\" tenant=\"globex\" attempt=1 outcome=\"failed\"}: cgk::fleet: close",
        "cgk{operation=\"migrate\" tenant=\"initech\" attempt=1 outcome=\"locked\"}: cgk::fleet: close",
        "cgk{operation=\"migrate\" tenant=\"initech\" attempt=1 outcome=\"done\"}: cgk::fleet: close",
    ] {
        let found = text.lines().find(|logged| logged.contains(line));
        let found = found.unwrap_or_else(|| panic!("{line} in\n{text}"));
        // Each is a part of the run.
        assert!(found.contains(run), "{found}");
    }
    let end = text.lines().find(|line| line.contains("outcome=\"incomplete\"}: cgk::fleet: close"));
    assert!(end.is_some_and(|line| line.contains(run)), "{text}");
    // Neither statements nor values are logged.
    assert!(!text.contains("create table"), "{text}");
}

#[tokio::test]
async fn an_attempt_that_is_repeated_says_so() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", "create table m1 (id int)")]);
    tenants(&database, &files.load(), &["acme"]).await;
    let mut session = database.config().session().clone();
    session.lock_timeout = Duration::from_millis(50);
    let operator = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&database).await;
    files.tenant("002_second.sql", "alter table m1 add column more int");
    holder.run("begin; lock table tenant_acme.m1").await;
    let log = Log::default();
    let guard = log.listen("cgk=debug");
    run(&operator, &files, &holder).await;
    drop(guard);
    let text = log.text();
    assert!(text.contains("tenant=\"acme\" attempt=1 outcome=\"retried\"}: cgk::fleet: close"), "{text}");
    assert!(text.contains("outcome=\"done\"}: cgk::fleet: close"), "{text}");
    // The event that says why is inside the span of its attempt.
    let event = text.lines().find(|line| line.contains("trying again"));
    assert!(event.is_some_and(|line| line.contains("tenant=\"acme\" attempt=1}")), "{text}");
}

#[tokio::test]
async fn created_tenants_have_spans_too() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", "create table m1 (id int)")]);
    let operator = tenants(&database, &files.load(), &[]).await;
    let db = database.db().await.unwrap();
    let wanted = ["acme", "globex"].map(|slug| NewTenant::from(slug.parse::<TenantSlug>().unwrap()));
    let log = Log::default();
    let guard = log.listen("cgk=debug");
    let migrations = files.load();
    let options = CreateManyOptions::default();
    lifecycle::create_many(&operator, &db, &migrations, &wanted, &options, &mut Silent).await.unwrap();
    drop(guard);
    let text = log.text();
    for slug in ["acme", "globex"] {
        let line =
            format!("cgk{{operation=\"create\" tenant=\"{slug}\" attempt=1 outcome=\"done\"}}: cgk::fleet: close");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}
