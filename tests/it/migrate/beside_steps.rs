//! Beside a migration without a transaction that is held in the middle: whoever changes or compares its schema waits, and says
//! so when that takes too long.

use crate::sandbox::{Files, Proxy, Raw, exists, migrate_all, plan_all, tenants, versions};
use cgk::{
    Error, MigrationError, Operator,
    drift::{self, NotCompared},
    ident::SchemaName,
    lifecycle,
    migrate::{self, Migrations, Repair, RepairOutcome, RunOptions, RunReport, Scope, Silent},
    testing::{TestDatabase, TestServer},
};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;

const FIRST: &str = "create table one (id int, note text)";
const STEPS: &str = "-- cgk:no-transaction\ncreate table two (id int);\ncreate index concurrently one_note on one (note);\ncreate table three (id int);\n";

fn steps_key(slug: &str) -> i64 {
    cgk::lock::steps_key(&SchemaName::of_tenant(&slug.parse().unwrap()))
}

/// An operator that does not wait for long.
async fn impatient(database: &TestDatabase) -> Operator {
    let mut session = database.config().session().clone();
    session.migration_wait = Duration::from_millis(200);
    session.lock_timeout = Duration::from_millis(100);
    Operator::connect(&database.config().clone().with_session(session)).await.unwrap()
}

/// A run that stands at `create index concurrently` for as long as the holder's transaction is open.
async fn held(database: &TestDatabase, files: &Files, raw: &Raw) -> (Raw, JoinHandle<RunReport>) {
    let holder = Raw::on(database).await;
    holder.run("begin; insert into tenant_acme.one (note) values ('held')").await;
    files.tenant("002_steps.sql", STEPS);
    let (config, migrations) = (database.config().clone().with_application_name("stepper"), files.load());
    let stepper = tokio::spawn(async move {
        let operator = Operator::connect(&config).await.unwrap();
        migrate_all(&operator, &migrations).await.unwrap()
    });
    raw.wait_until(
        "select exists (select from pg_stat_activity where datname = current_database() and application_name = 'stepper'
                        and query like 'create index%' and wait_event_type = 'Lock')",
    )
    .await;
    (holder, stepper)
}

async fn not_compared(operator: &Operator, migrations: &Migrations) -> Option<NotCompared> {
    let only = Scope::Only(vec!["acme".parse().unwrap()]);
    drift::verify(operator, migrations, &only).await.unwrap().tenants.remove(0).not_compared
}

async fn repaired(operator: &Operator, migrations: &Migrations) -> RepairOutcome {
    let only = Scope::Only(vec!["acme".parse().unwrap()]);
    migrate::repair(operator, migrations, &only, &Repair::Comment).await.unwrap().remove(0).outcome
}

#[tokio::test]
async fn who_changes_or_compares_a_schema_waits_for_its_steps() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", FIRST)]);
    tenants(&database, &files.load(), &["acme"]).await;
    let raw = Raw::on(&database).await;
    let (holder, stepper) = held(&database, &files, &raw).await;
    let (operator, migrations) = (impatient(&database).await, files.load());
    raw.run("comment on table tenant_acme.schema_migrations is null").await;
    let role: String = raw.one("select rolname::text from pg_roles where rolname ~ '^cgk_acme_' and has_schema_privilege(oid, 'tenant_acme', 'usage')").await;
    raw.run(&format!("revoke usage on schema tenant_acme from {role}")).await;

    assert_eq!(not_compared(&operator, &migrations).await, Some(NotCompared::Busy));
    let repaired_beside = repaired(&operator, &migrations).await;
    assert!(
        matches!(repaired_beside, RepairOutcome::Failed { error: Error::Migration(MigrationError::Locked { .. }) }),
        "{repaired_beside:?}"
    );
    let isolated = lifecycle::isolate(&operator).await.unwrap();
    assert!(
        matches!(isolated.failed.as_slice(), [(_, Error::Migration(MigrationError::Locked { .. }))]),
        "{isolated:?}"
    );
    // The precondition: the file is half done, and nothing of the above was.
    assert!(exists(&raw, "tenant_acme.two").await && !exists(&raw, "tenant_acme.three").await);
    assert!(raw.one::<bool>("select obj_description('tenant_acme.schema_migrations'::regclass) is null").await);
    assert!(!raw.one::<bool>(&format!("select has_schema_privilege('{role}', 'tenant_acme', 'usage')")).await);

    holder.run("rollback").await;
    assert_eq!(stepper.await.unwrap().failed(), 0);
    // The control: it was the steps that they waited for.
    raw.run("comment on table tenant_acme.schema_migrations is null").await;
    let repaired_after = repaired(&operator, &migrations).await;
    assert!(matches!(repaired_after, RepairOutcome::Repaired { .. }), "{repaired_after:?}");
    assert_eq!(lifecycle::isolate(&operator).await.unwrap().finished.len(), 1);
    assert_eq!(not_compared(&operator, &migrations).await, None);
}

#[tokio::test]
async fn a_schema_is_not_adopted_while_steps_run_in_it() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", FIRST)]);
    let migrations = files.load();
    cgk::setup::setup(&database.operator().await.unwrap(), &migrations, &mut Silent).await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!("create schema tenant_old; set search_path = tenant_old; {FIRST}; reset search_path")).await;
    let stepper = Raw::on(&database).await;
    stepper.run(&format!("select pg_advisory_lock({})", steps_key("old"))).await;
    let (operator, slug) = (impatient(&database).await, "old".parse().unwrap());
    let error = lifecycle::baseline(&operator, &migrations, &slug, &Default::default()).await.unwrap_err();
    assert!(matches!(error, Error::Migration(MigrationError::Locked { .. })), "{error:?}");
    assert!(!exists(&raw, "tenant_old.schema_migrations").await);
    stepper.run("select pg_advisory_unlock_all()").await;
    lifecycle::baseline(&operator, &migrations, &slug, &Default::default()).await.unwrap();
    assert_eq!(versions(&raw, "tenant_old").await, [1]);
}

/// One transaction for all would hold the locks of the tenants before while it waits; so it is rolled back in between.
#[tokio::test]
async fn all_or_nothing_waits_for_steps_and_holds_nothing_meanwhile() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_first.sql", FIRST)]);
    tenants(&database, &files.load(), &["acme", "globex"]).await;
    files.tenant("002_second.sql", "alter table one add column c int");
    let (raw, migrations) = (Raw::on(&database).await, Arc::new(files.load()));
    let stepper = Raw::on(&database).await;
    // The last of the two: the first is migrated by then, in the same transaction.
    stepper.run(&format!("select pg_advisory_lock({})", steps_key("globex"))).await;
    let proxy = Proxy::to(&database).await;
    let (config, of_run) = (proxy.config().clone(), Arc::clone(&migrations));
    let run = tokio::spawn(async move {
        let operator = Operator::connect(&config).await.unwrap();
        let planned = plan_all(&operator, &of_run).await.unwrap();
        let options = RunOptions::default().all_or_nothing();
        migrate::run_with(&operator, &of_run, planned, &options, &mut Silent).await.unwrap()
    });
    let mut tried = 0;
    while tried < 2 {
        // Rolled back, and the session as new again.
        let reset = |text: &str| text.starts_with("discard all");
        let seen = proxy.take();
        tried += seen.iter().filter(|message| message.kind == b'Q' && reset(&message.text)).count();
        raw.run("select 1").await;
        assert!(!run.is_finished(), "it did not wait");
    }
    // A reader and a writer of the tenant that was done first.
    raw.run("set lock_timeout = '10s'; insert into tenant_acme.one (id) values (1)").await;
    assert_eq!((versions(&raw, "tenant_acme").await, versions(&raw, "tenant_globex").await), (vec![1], vec![1]));
    stepper.run("select pg_advisory_unlock_all()").await;
    let report = run.await.unwrap();
    assert_eq!((report.migrated(), report.stopped), (2, None));
    assert_eq!((versions(&raw, "tenant_acme").await, versions(&raw, "tenant_globex").await), (vec![1, 2], vec![1, 2]));

    // It does not wait for ever.
    files.tenant("003_third.sql", "alter table one add column d int");
    stepper.run(&format!("select pg_advisory_lock({})", steps_key("globex"))).await;
    let (operator, migrations) = (impatient(&database).await, files.load());
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let options = RunOptions::default().all_or_nothing();
    let report = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    let globex =
        report.tenants.iter().find(|tenant| tenant.slug.as_ref().is_some_and(|slug| slug.as_str() == "globex"));
    let migrate::Outcome::Failed { error } = &globex.unwrap().result else { panic!("{report:?}") };
    assert!(matches!(error, Error::Migration(MigrationError::Locked { .. })), "{error:?}");
    assert_eq!(versions(&raw, "tenant_acme").await, [1, 2]);
}
