//! A set of files that is not the fleet's is refused before anything is touched.

use crate::sandbox::{Files, Raw, failure, migrate_all, picture, plan_all, tenants};
use cgk::{
    Error, MigrationError, Operator,
    lifecycle::{self, BaselineOptions, CreateManyOptions, CreateOptions, NewTenant},
    migrate::{self, Migrations, Mismatch, Repair, RepairOutcome, Scope, Silent},
    testing::{TestDatabase, TestServer},
};

const A: (&str, &str) = ("001_a.sql", "create table a (id int)");
const B: (&str, &str) = ("002_b.sql", "create table b (id int)");
const D: (&str, &str) = ("004_d.sql", "create table d (id int)");

/// Three tenants that have 001, 002 and 004.
async fn clinic() -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[A, B, D]);
    let operator = tenants(&database, &files.load(), &["a", "b", "c"]).await;
    let raw = Raw::on(&database).await;
    (database, files, operator, raw)
}

/// A set by its name, and the files in which it is not the clinic's.
type Other = (&'static str, Migrations, Vec<(String, Mismatch)>);

/// The sets that are not the clinic's.
fn others() -> Vec<Other> {
    let of = |id: &str, mismatch| (id.to_owned(), mismatch);
    let bundled = Migrations::bundled();
    let shop = ["001_a", "002_b", "004_d"].map(|id| of(id, Mismatch::Edited)).into();
    vec![
        ("older", Files::of_tenants(&[A, B]).load(), vec![of("004_d", Mismatch::Missing)]),
        ("with a hole", Files::of_tenants(&[A, D]).load(), vec![of("002_b", Mismatch::Missing)]),
        (
            "edited",
            Files::of_tenants(&[A, (B.0, "create table bb (id int)"), D]).load(),
            vec![of("002_b", Mismatch::Edited)],
        ),
        ("renamed", Files::of_tenants(&[A, ("002_renamed.sql", B.1), D]).load(), vec![of("002_b", Mismatch::Renamed)]),
        (
            "with a file too late",
            Files::of_tenants(&[A, B, ("003_c.sql", "create table c (id int)"), D]).load(),
            vec![of("003_c", Mismatch::OutOfOrder)],
        ),
        ("the bundled shop's", bundled, shop),
    ]
}

fn refused(name: &str, what: &str, error: &Error, wanted: &[(String, Mismatch)]) {
    let Error::Migration(MigrationError::WrongFiles { mismatches, .. }) = error else {
        panic!("{name}, {what}: {error:?}")
    };
    for (id, mismatch) in wanted {
        let found = mismatches.iter().find(|found| found.id.to_string() == *id && found.mismatch == *mismatch);
        let found = found.unwrap_or_else(|| panic!("{name}, {what}: {id} is not named in {mismatches:?}"));
        assert_eq!(found.schemas, 3, "{name}, {what}: {found:?}");
    }
    assert_eq!(error.kind(), cgk::ErrorKind::Drift);
}

async fn every_command_refuses(database: &TestDatabase, operator: &Operator, raw: &Raw) {
    let db = database.db().await.unwrap();
    let whole = async || {
        let mut all = Vec::new();
        for schema in ["public", "tenant_a", "tenant_b", "tenant_c", "tenant_old"] {
            all.push(picture(raw, schema).await);
        }
        all
    };
    let before = whole().await;
    for (name, migrations, wanted) in others() {
        let slug: cgk::TenantSlug = "fresh".parse().unwrap();
        let error = lifecycle::create(operator, &db, &migrations, &slug, &CreateOptions::default()).await.unwrap_err();
        refused(name, "create", &error, &wanted);
        let new: [NewTenant; 1] = [slug.clone().into()];
        let options = CreateManyOptions::default();
        let error = lifecycle::create_many(operator, &db, &migrations, &new, &options, &mut Silent).await.unwrap_err();
        refused(name, "create_many", &error, &wanted);
        refused(name, "plan", &plan_all(operator, &migrations).await.unwrap_err(), &wanted);
        let other = Repair::Forget { version: "99".parse().unwrap(), reason: "x".into() };
        let error = migrate::repair(operator, &migrations, &Scope::Tenants, &other).await.unwrap_err();
        refused(name, "repair", &error, &wanted);
        let old: cgk::TenantSlug = "old".parse().unwrap();
        let error = lifecycle::baseline(operator, &migrations, &old, &BaselineOptions::default()).await.unwrap_err();
        refused(name, "baseline", &error, &wanted);
    }
    assert_eq!(whole().await, before);
    assert!(!raw.one::<bool>("select exists (select from organizations where slug in ('fresh', 'old'))").await);
}

#[tokio::test]
async fn another_set_of_files_is_refused_by_every_command() {
    let (database, files, operator, raw) = clinic().await;
    raw.run("create schema tenant_old; create table tenant_old.a (id int)").await;
    every_command_refuses(&database, &operator, &raw).await;
    // The control: the fleet's own set, and one with a newer file, are taken.
    files.tenant("005_e.sql", "create table e (id int)");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!(report.migrated(), 3);
    tenants(&database, &files.load(), &["d"]).await;
}

/// A fleet that was made before there was a record, or by a dump without it: its ledgers are counted.
#[tokio::test]
async fn a_fleet_without_the_record_is_known_by_its_ledgers() {
    let (database, files, operator, raw) = clinic().await;
    raw.run("create schema tenant_old; create table tenant_old.a (id int)").await;
    raw.run("drop table cgk_migration_files").await;
    every_command_refuses(&database, &operator, &raw).await;
    assert!(!raw.one::<bool>("select to_regclass('public.cgk_migration_files') is not null").await, "looking wrote");
    // The first run writes it down, even where it has nothing else to do.
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.migrated(), report.at_head), (0, 3));
    let recorded =
        "select string_agg(version::text, ' ' order by version) from cgk_migration_files where set = 'tenant'";
    assert_eq!(raw.one::<String>(recorded).await, "1 2 4");
    every_command_refuses(&database, &operator, &raw).await;
}

#[tokio::test]
async fn a_file_is_recorded_when_the_first_schema_gets_it_and_not_before() {
    let (_database, files, operator, raw) = clinic().await;
    let recorded =
        "select coalesce(string_agg(version || '_' || name, ' ' order by version), '') from cgk_migration_files
                    where set = 'tenant' and version > 4";
    // It fails everywhere: no schema has it, and it may be edited.
    files.tenant("005_e.sql", "create table e (id int); select 1 / 0");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.failed(), raw.one::<String>(recorded).await), (3, String::new()));
    let Error::Migration(MigrationError::Failed(failed)) = failure(&report, "a") else { panic!() };
    assert_eq!(failed.schemas_with_file, Some(0));
    // It fails in one of them: the others have it, and it may not be edited any more.
    raw.run("create table tenant_b.e ()").await;
    files.tenant("005_e.sql", "create table e (id int)");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (1, 2), "{:?}", report.tenants);
    assert_eq!(raw.one::<String>(recorded).await, "5_e");
    let Error::Migration(MigrationError::Failed(failed)) = failure(&report, "b") else { panic!() };
    assert_eq!(failed.schemas_with_file, Some(2), "those that got it later in the run count");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    let Error::Migration(MigrationError::Failed(failed)) = failure(&report, "b") else { panic!() };
    assert_eq!(failed.schemas_with_file, Some(2));
    files.tenant("005_e.sql", "create table if not exists e (id int)");
    let error = plan_all(&operator, &files.load()).await.unwrap_err();
    let Error::Migration(MigrationError::WrongFiles { mismatches, .. }) = &error else { panic!("{error:?}") };
    assert_eq!((mismatches[0].mismatch, mismatches[0].schemas), (Mismatch::Edited, 2));
    // Without a transaction, and all in one, it is recorded as well.
    files.tenant("005_e.sql", "create table e (id int)");
    raw.run("drop table tenant_b.e").await;
    files.tenant("006_f.sql", "-- cgk:no-transaction\ncreate table f (id int)");
    migrate_all(&operator, &files.load()).await.unwrap();
    files.tenant("007_g.sql", "create table g (id int)");
    let migrations = files.load();
    let planned = plan_all(&operator, &migrations).await.unwrap();
    let options = migrate::RunOptions::default().all_or_nothing();
    migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    assert_eq!(raw.one::<String>(recorded).await, "5_e 6_f 7_g");
}

#[tokio::test]
async fn a_repair_of_every_tenant_accepts_an_edited_file_for_the_fleet() {
    let (_database, files, operator, raw) = clinic().await;
    files.tenant(B.0, "create table b (id int); -- a comment");
    let edited = files.load();
    assert!(matches!(plan_all(&operator, &edited).await, Err(Error::Migration(MigrationError::WrongFiles { .. }))));
    let accept = Repair::Accept { version: "2".parse().unwrap(), reason: "a comment".into() };
    let mended = |repaired: &[migrate::Repaired]| {
        repaired.iter().filter(|one| matches!(one.outcome, RepairOutcome::Repaired { .. })).count()
    };
    // One tenant's ledger alone: the others still have the old text, and the record says so.
    let one = Scope::Only(vec!["a".parse().unwrap()]);
    assert_eq!(mended(&migrate::repair(&operator, &edited, &one, &accept).await.unwrap()), 1);
    let Err(Error::Migration(MigrationError::WrongFiles { mismatches, .. })) = plan_all(&operator, &edited).await
    else {
        panic!()
    };
    assert_eq!(mismatches[0].schemas, 2);
    assert_eq!(mended(&migrate::repair(&operator, &edited, &Scope::Tenants, &accept).await.unwrap()), 2);
    assert!(plan_all(&operator, &edited).await.unwrap().is_empty());
    // A file that is withdrawn is forgotten in the ledgers and in the record.
    files.without(D.0);
    let forget = Repair::Forget { version: "4".parse().unwrap(), reason: "withdrawn".into() };
    assert_eq!(mended(&migrate::repair(&operator, &files.load(), &Scope::Tenants, &forget).await.unwrap()), 3);
    assert!(plan_all(&operator, &files.load()).await.unwrap().is_empty());
    assert_eq!(raw.one::<i64>("select count(*) from cgk_migration_files where set = 'tenant'").await, 2);
}

/// Two machines with different new files of the same version: one is recorded, the other is refused in every schema.
#[tokio::test]
async fn of_two_runs_with_different_new_files_one_is_refused() {
    let (database, files, operator, raw) = clinic().await;
    let other_files = Files::of_tenants(&[A, B, D, ("005_other.sql", "create table other (id int)")]);
    files.tenant("005_e.sql", "create table e (id int)");
    let (ours, theirs) = (files.load(), other_files.load());
    // Both have looked before either has begun.
    let other = database.operator().await.unwrap();
    let (first, second) = (plan_all(&operator, &ours).await.unwrap(), plan_all(&other, &theirs).await.unwrap());
    let mut first = first;
    first.tenants.retain(|tenant| tenant.slug.as_str() == "a");
    let report = migrate::run(&operator, &ours, first, &mut Silent).await.unwrap();
    assert_eq!(report.migrated(), 1);
    let report = migrate::run(&other, &theirs, second, &mut Silent).await.unwrap();
    assert_eq!(report.migrated(), 0, "{:?}", report.tenants);
    for tenant in ["a", "b", "c"] {
        let error = failure(&report, tenant);
        assert!(matches!(error, Error::Migration(MigrationError::PlanStale { .. })) || tenant == "a", "{error:?}");
    }
    assert_eq!(raw.one::<i64>("select count(*) from pg_class where relname = 'other'").await, 0);
}

/// Nothing is refused for what no schema has: a tenant that was made with another set and is gone.
#[tokio::test]
async fn what_no_schema_has_any_more_does_not_count() {
    let (database, _files, operator, raw) = clinic().await;
    for slug in ["a", "b", "c"] {
        raw.run(&format!("drop schema tenant_{slug} cascade; delete from organizations where slug = '{slug}'")).await;
    }
    let others = Files::of_tenants(&[("001_other.sql", "create table other (id int)")]);
    tenants(&database, &others.load(), &["d"]).await;
    let recorded = "select string_agg(name, ' ') from cgk_migration_files where set = 'tenant'";
    assert_eq!(raw.one::<String>(recorded).await, "other");
    assert!(plan_all(&operator, &others.load()).await.unwrap().is_empty());
}
