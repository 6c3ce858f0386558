//! Repair: a ledger is made to agree with the files again, for one version and with a reason; nothing is run.

use crate::{
    sandbox::{Files, Raw, migrate_all, picture, tenants},
    support::cgk::Shell,
};
use cgk::{
    Error, ErrorKind, MigrationError, Operator, TenantSlug, drift,
    migrate::{self, Migrations, Repair, RepairOutcome, SchemaState, Scope},
    testing::{TestDatabase, TestServer},
};

const FIRST: &[(&str, &str)] =
    &[("001_first.sql", "create table m1 (id int)"), ("002_second.sql", "create table m2 (id int)")];

async fn fleet(slugs: &[&str]) -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(FIRST);
    let operator = tenants(&database, &files.load(), slugs).await;
    let raw = Raw::on(&database).await;
    (database, files, operator, raw)
}

fn accept(version: i64) -> Repair {
    Repair::Accept { version: version.to_string().parse().unwrap(), reason: "it's a comment".into() }
}

fn forget(version: i64) -> Repair {
    Repair::Forget { version: version.to_string().parse().unwrap(), reason: "withdrawn".into() }
}

fn only(slug: &str) -> Scope {
    Scope::Only(vec![slug.parse::<TenantSlug>().unwrap()])
}

async fn outcomes_of(
    operator: &Operator,
    migrations: &Migrations,
    scope: &Scope,
    repair: &Repair,
) -> Vec<RepairOutcome> {
    migrate::repair(operator, migrations, scope, repair).await.unwrap().into_iter().map(|one| one.outcome).collect()
}

async fn note(raw: &Raw, schema: &str, version: i64) -> String {
    raw.one(&format!(
        "select concat_ws(' | ', repairs -> -1 ->> 'action', repairs -> -1 ->> 'reason', repairs -> -1 ->> 'detail', repairs -> -1 ->> 'by' = session_user)
         from {schema}.schema_migrations where version = {version}"
    ))
    .await
}

#[tokio::test]
async fn an_edited_file_is_accepted_and_the_reason_kept() {
    let (_database, files, operator, raw) = fleet(&["acme", "globex"]).await;
    let first = picture(&raw, "tenant_globex").await;
    files.without("001_first.sql").tenant("001_renamed.sql", "create table m1 (id int) -- the first");
    let migrations = files.load();
    // The control: it is drift for everybody.
    assert!(
        drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap().tenants.iter().all(|t| !t.is_clean())
    );
    let done = outcomes_of(&operator, &migrations, &only("acme"), &accept(1)).await;
    assert!(matches!(&done[..], [RepairOutcome::Repaired { what }] if what.len() == 1), "{done:?}");
    let kept = note(&raw, "tenant_acme", 1).await;
    assert!(kept.starts_with("accept | it's a comment | was 001_first sha256:") && kept.ends_with("| t"), "{kept}");
    migrate::rehearse(&operator, &migrations).await.unwrap();
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert!(report.tenants[0].is_clean() && !report.tenants[1].is_clean());
    assert_eq!(picture(&raw, "tenant_globex").await, first);
    // Again: nothing to do, and one more for the rest; then every look agrees.
    assert!(matches!(
        &outcomes_of(&operator, &migrations, &only("acme"), &accept(1)).await[..],
        [RepairOutcome::NothingToDo]
    ));
    let done = outcomes_of(&operator, &migrations, &Scope::Tenants, &accept(1)).await;
    assert!(matches!(&done[..], [RepairOutcome::NothingToDo, RepairOutcome::Repaired { .. }]), "{done:?}");
    let look = migrate::read_state(&operator, &migrations).await.unwrap();
    assert!(look.tenants.iter().all(|tenant| matches!(tenant.state, SchemaState::AtHead)));
    assert_eq!(
        raw.one::<i64>(
            "select jsonb_array_length(repairs)::bigint from tenant_acme.schema_migrations where version = 1"
        )
        .await,
        1
    );
}

#[tokio::test]
async fn a_row_without_a_file_is_forgotten() {
    let (_database, files, operator, raw) = fleet(&["acme"]).await;
    let error = migrate::repair(&operator, &files.load(), &Scope::Tenants, &forget(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "its file is there: {error}");
    files.without("002_second.sql");
    let migrations = files.load();
    let done = outcomes_of(&operator, &migrations, &Scope::Tenants, &forget(2)).await;
    assert!(matches!(&done[..], [RepairOutcome::Repaired { .. }]), "{done:?}");
    assert!(note(&raw, "tenant_acme", 1).await.starts_with("forget | withdrawn | was 002_second sha256:"));
    assert!(matches!(
        &outcomes_of(&operator, &migrations, &Scope::Tenants, &forget(2)).await[..],
        [RepairOutcome::NotApplied]
    ));
    // What it made is still there, and is said.
    let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
    assert_eq!(
        report.tenants[0].differences.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["table m2: not from any migration"]
    );
}

#[tokio::test]
async fn a_missing_or_false_comment_is_written_anew() {
    let (_database, files, operator, raw) = fleet(&["acme", "globex", "false", "whole"]).await;
    let migrations = files.load();
    let comment = "select obj_description('tenant_acme.schema_migrations'::regclass)";
    let right: String = raw.one(comment).await;
    raw.run(
        "comment on table tenant_acme.schema_migrations is null; comment on table tenant_globex.schema_migrations is 'x';
         delete from tenant_false.schema_migrations where version = 2",
    )
    .await;
    // What plain `migrate` believes: the comment says head.
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().at_head, 4);
    let done = outcomes_of(&operator, &migrations, &Scope::Tenants, &Repair::Comment).await;
    let mended: Vec<bool> = done.iter().map(|outcome| matches!(outcome, RepairOutcome::Repaired { .. })).collect();
    assert_eq!(mended, [true, true, true, false], "acme, false, globex, whole");
    assert_eq!(raw.one::<String>(comment).await, right);
    assert_eq!(raw.one::<String>("select obj_description('tenant_globex.schema_migrations'::regclass)").await, right);
    // Now the lie is seen by everybody.
    let look = migrate::read_state(&operator, &migrations).await.unwrap();
    assert!(matches!(look.tenants[1].state, SchemaState::Behind { pending: 1 }), "{:?}", look.tenants[1].state);
}

/// Ledgers of the first version had no column for repairs.
#[tokio::test]
async fn a_ledger_of_an_earlier_version_gets_the_column() {
    let (_database, files, operator, raw) = fleet(&["acme"]).await;
    raw.run("alter table tenant_acme.schema_migrations drop repairs").await;
    // It is no drift, and it can be migrated.
    files.tenant("003_third.sql", "create table m3 (id int)");
    assert_eq!(migrate_all(&operator, &files.load()).await.unwrap().migrated(), 1);
    assert!(!drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap().has_drift());
    files.tenant("001_first.sql", "create table m1 (id int);");
    let done = outcomes_of(&operator, &files.load(), &Scope::Tenants, &accept(1)).await;
    assert!(matches!(&done[..], [RepairOutcome::Repaired { .. }]), "{done:?}");
    assert!(note(&raw, "tenant_acme", 1).await.starts_with("accept"));
    assert!(!drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap().has_drift());
}

#[tokio::test]
async fn what_cannot_be_repaired_is_left_as_it_is() {
    let (database, files, operator, raw) = fleet(&["acme", "foreign"]).await;
    raw.run("drop table tenant_foreign.schema_migrations; create table tenant_foreign.schema_migrations (version bigint, dirty bool)").await;
    let migrations = files.load();
    let before = (picture(&raw, "tenant_acme").await, picture(&raw, "tenant_foreign").await);
    let error = migrate::repair(&operator, &migrations, &Scope::Tenants, &accept(7)).await.unwrap_err();
    assert!(matches!(error, Error::Migration(MigrationError::NoSuchVersion { .. })), "{error:?}");
    let unexplained = Repair::Accept { version: "1".parse().unwrap(), reason: " ".into() };
    let error = migrate::repair(&operator, &migrations, &Scope::Tenants, &unexplained).await.unwrap_err();
    assert!(matches!(error, Error::Migration(MigrationError::LedgerRefused { .. })), "{error:?}");
    files.tenant("001_first.sql", "create table m1 (id int);");
    let done = outcomes_of(&operator, &files.load(), &Scope::Tenants, &accept(1)).await;
    assert!(
        matches!(
            &done[..],
            [
                RepairOutcome::Repaired { .. },
                RepairOutcome::Failed { error: Error::Migration(MigrationError::LedgerRefused { .. }) }
            ]
        ),
        "{done:?}"
    );
    assert_eq!(picture(&raw, "tenant_foreign").await, before.1);
    assert_ne!(picture(&raw, "tenant_acme").await, before.0);
    // Somebody is migrating: waited for, then said.
    let key = migrate_key("acme");
    raw.run(&format!("begin; select pg_advisory_xact_lock({key})")).await;
    let mut session = database.config().session().clone();
    session.migration_wait = std::time::Duration::from_millis(50);
    let hasty = Operator::connect(&database.config().clone().with_session(session)).await.unwrap();
    let done = outcomes_of(&hasty, &migrations, &only("acme"), &accept(1)).await;
    assert!(
        matches!(&done[..], [RepairOutcome::Failed { error: Error::Migration(MigrationError::Locked { .. }) }]),
        "{done:?}"
    );
    raw.run("rollback").await;
    let done = outcomes_of(&hasty, &migrations, &only("acme"), &accept(1)).await;
    assert!(matches!(&done[..], [RepairOutcome::Repaired { .. }]), "{done:?}");
}

#[tokio::test]
async fn the_shared_schema_is_repaired_against_its_own_set() {
    let (_database, files, operator, raw) = fleet(&[]).await;
    files.public("100_more.sql", "create table shared_thing (id int)");
    migrate_all(&operator, &files.load()).await.unwrap();
    files.public("100_more.sql", "create table public.shared_thing (id int)");
    let migrations = files.load();
    assert!(drift::verify(&operator, &migrations, &Scope::Public).await.unwrap().has_drift());
    let done = outcomes_of(&operator, &migrations, &Scope::Public, &accept(100)).await;
    assert!(matches!(&done[..], [RepairOutcome::Repaired { .. }]), "{done:?}");
    assert!(note(&raw, "public", 100).await.starts_with("accept"));
    assert!(!drift::verify(&operator, &migrations, &Scope::Everything).await.unwrap().has_drift());
}

/// Eight at once: one mends, the others find nothing to do, and the reason stands there once.
#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_repair_once() {
    let (database, files, _operator, raw) = fleet(&["acme"]).await;
    files.tenant("001_first.sql", "create table m1 (id int);");
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (operator, migrations) = (crate::support::patience::patient_operator(&database).await, files.load());
        runs.spawn(
            async move { outcomes_of(&operator, &migrations, &Scope::Tenants, &accept(1)).await.pop().unwrap() },
        );
    }
    let done = runs.join_all().await;
    let count = |wanted: fn(&RepairOutcome) -> bool| done.iter().filter(|outcome| wanted(outcome)).count();
    assert_eq!(count(|outcome| matches!(outcome, RepairOutcome::Repaired { .. })), 1, "{done:?}");
    assert_eq!(count(|outcome| matches!(outcome, RepairOutcome::NothingToDo)), 7, "{done:?}");
    assert_eq!(
        raw.one::<i64>(
            "select jsonb_array_length(repairs)::bigint from tenant_acme.schema_migrations where version = 1"
        )
        .await,
        1
    );
}

fn migrate_key(slug: &str) -> i64 {
    cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&slug.parse().unwrap()))
}

/// The two ways of docs/operations/releases.md to bring back a row that was deleted by hand.
#[tokio::test]
async fn a_row_that_was_deleted_is_copied_or_adopted() {
    let (database, files, operator, raw) = fleet(&["acme", "globex"]).await;
    let (migrations, page) = (files.load(), include_str!("../../../docs/operations/releases.md"));
    let copy = page.lines().find(|line| line.starts_with("insert into tenant_acme.schema_migrations ")).unwrap();
    let copy = copy.replace("version = 8", "version = 2");
    let is_clean = async || {
        let report = drift::verify(&operator, &migrations, &Scope::Tenants).await.unwrap();
        report.tenants.iter().all(drift::SchemaDrift::is_clean)
    };
    for comment_is_rewritten in [false, true] {
        assert!(is_clean().await, "the precondition");
        raw.run("delete from tenant_acme.schema_migrations where version = 2").await;
        assert!(!is_clean().await, "the control");
        if comment_is_rewritten {
            outcomes_of(&operator, &migrations, &only("acme"), &Repair::Comment).await;
        }
        raw.run(&copy).await;
        if comment_is_rewritten {
            assert!(!is_clean().await, "the comment is that of the shorter ledger");
            outcomes_of(&operator, &migrations, &only("acme"), &Repair::Comment).await;
        }
    }
    assert!(is_clean().await);
    raw.run("delete from tenant_acme.schema_migrations where version = 2; drop table tenant_acme.schema_migrations")
        .await;
    let shell = Shell::on(&database).set("CGK_MIGRATIONS", files.path().to_str().unwrap());
    let answer = shell.run(&["migrate:baseline", "acme", "--version", "2"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(is_clean().await);
}

/// With another set of files, `cgk drift` names the folder as the cause, and no repair of a ledger.
#[tokio::test]
async fn drift_with_another_set_of_files_proposes_no_repair() {
    let (database, files, _, _) = fleet(&["acme"]).await;
    let (older, edited) =
        (Files::of_tenants(&FIRST[..1]), Files::of_tenants(&[FIRST[0], ("002_second.sql", "select 1")]));
    for (files, code, is_other_set) in [(&files, 0, false), (&older, 7, true), (&edited, 7, false)] {
        let shell = Shell::on(&database).set("CGK_MIGRATIONS", files.path().to_str().unwrap());
        let answer = shell.run(&["drift"]);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(answer.code, code, "{said}");
        assert_eq!(said.contains("these files are another set, or an older one"), is_other_set, "{said}");
        assert_eq!(said.contains("To repair a ledger"), code == 7 && !is_other_set, "{said}");
    }
}
