//! All schemas in one transaction.

use super::*;

#[tokio::test]
async fn all_or_nothing_is_all_or_nothing() {
    let fleet = fleet(5).await;
    fleet.raw.run("insert into tenant_t04.m1 values (null)").await;
    fleet.files.public("100_shared.sql", "create table shared_thing (id int)").tenant(
        "002_strict.sql",
        "create table m2 as select id from shared_thing; alter table m1 alter id set not null",
    );
    let migrations = fleet.files.load();
    let before = [picture(&fleet.raw, "public").await, picture(&fleet.raw, "tenant_t00").await];
    let options = RunOptions::default().all_or_nothing();
    let report = fleet.run(&migrations, &options).await;
    assert_eq!(stopped(&report), Some((StopReason::RolledBack, 4)), "{report:#?}");
    assert_eq!(failure(&report, "t04").sqlstate().unwrap().code(), "23502");
    assert!(report.public.is_none() && report.migrated() == 0);
    assert_eq!([picture(&fleet.raw, "public").await, picture(&fleet.raw, "tenant_t00").await], before);
    // The history names whom the whole failed at.
    assert_eq!(migrate::failed_last(&fleet.operator).await.unwrap(), [slug("t04")]);
    let detail = detail_of(&fleet, &report).await;
    assert_eq!((detail.run.failed, detail.run.left, detail.schemas.len()), (1, 4, 1), "{detail:?}");
    let failed = &detail.schemas[0];
    assert_eq!((failed.sqlstate.as_deref(), failed.from_version, failed.to_version), (Some("23502"), Some(1), Some(2)));

    fleet.raw.run("delete from tenant_t04.m1").await;
    // Nobody sees one tenant migrated and another not.
    let watch = async {
        let mut seen = std::collections::BTreeSet::new();
        loop {
            let done = fleet.with("m2").await.len();
            seen.insert(done);
            if done > 0 {
                return seen;
            }
        }
    };
    let (report, seen) = tokio::join!(fleet.run(&migrations, &options), watch);
    assert_eq!((report.migrated(), stopped(&report), report.public.is_some()), (5, None, true));
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 5]);
    assert_eq!(fleet.torn().await, Vec::<String>::new());
    let detail = detail_of(&fleet, &report).await;
    assert_eq!((detail.run.migrated, detail.schemas.len()), (5, 6), "{detail:?}");
    assert!(detail.schemas.iter().any(|schema| schema.schema == "public" && schema.to_version == Some(100)));
    assert_eq!(migrate::failed_last(&fleet.operator).await.unwrap(), []);
}

/// A word that could end a transaction, such as in the name of a column, makes cgk protect the transaction against the file. It
/// is one transaction all the same.
#[tokio::test]
async fn all_or_nothing_is_that_too_where_a_file_has_a_word_of_transactions() {
    let fleet = fleet(5).await;
    fleet.raw.run("insert into tenant_t04.m1 values (null)").await;
    fleet.files.public("100_shared.sql", "create table shared_thing (aborted_at timestamptz)");
    fleet.files.tenant("002_strict.sql", "create table m2 (abort_at date); alter table m1 alter id set not null");
    let migrations = fleet.files.load();
    let before = [picture(&fleet.raw, "public").await, picture(&fleet.raw, "tenant_t00").await];
    let options = RunOptions::default().all_or_nothing();
    let report = fleet.run(&migrations, &options).await;
    assert_eq!(stopped(&report), Some((StopReason::RolledBack, 4)), "{report:#?}");
    assert_eq!([picture(&fleet.raw, "public").await, picture(&fleet.raw, "tenant_t00").await], before);
    assert_eq!(fleet.with("m2").await, Vec::<String>::new());

    fleet.raw.run("delete from tenant_t04.m1").await;
    let report = fleet.run(&migrations, &options).await;
    assert_eq!((report.migrated(), stopped(&report), fleet.with("m2").await.len()), (5, None, 5), "{report:#?}");
    // The session is as before: the next run on it may write.
    fleet.files.tenant("003_more.sql", "create table m3 ()");
    let report = fleet.run(&fleet.files.load(), &RunOptions::default()).await;
    assert_eq!(report.migrated(), 5, "{report:#?}");
}

/// Asked to stop before a tenant or in the middle of one, it changes nothing and says how many are left.
#[tokio::test]
async fn all_or_nothing_that_is_interrupted_changes_nothing() {
    let fleet = fleet(3).await;
    fleet.raw.run("create table public.slow (id int); insert into public.slow values (1)").await;
    let body =
        "create table m2 (); do $$ begin if current_schema() = 'tenant_t01' and exists (select from public.slow) then
                  perform pg_sleep(3600); end if; end $$";
    fleet.files.tenant("002_second.sql", body);
    let migrations = fleet.files.load();
    let options = |interrupt: &Interrupt| RunOptions::default().all_or_nothing().unrehearsed().interrupt(interrupt);
    let before = Interrupt::new();
    before.stop();
    let report = fleet.run(&migrations, &options(&before)).await;
    assert_eq!((report.failed(), report.migrated()), (0, 0), "{report:#?}");
    assert_eq!(stopped(&report), Some((StopReason::Interrupted, 3)));

    let during = Interrupt::new();
    let cancel = async {
        fleet.raw.wait_until("select exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())").await;
        during.stop();
        during.cancel();
    };
    let options_during = options(&during);
    let (report, ()) = tokio::join!(fleet.run(&migrations, &options_during), cancel);
    assert_eq!((report.failed(), report.migrated()), (0, 0), "{report:#?}");
    assert_eq!(stopped(&report), Some((StopReason::Interrupted, 3)));
    assert_eq!(fleet.with("m2").await, Vec::<String>::new());
    assert_eq!(fleet.torn().await, Vec::<String>::new());

    // The control: without the interrupt the same files are applied, on the same session.
    fleet.raw.run("delete from public.slow").await;
    let report = fleet.run(&migrations, &options(&Interrupt::new())).await;
    assert_eq!((report.migrated(), stopped(&report), fleet.with("m2").await.len()), (3, None, 3), "{report:#?}");
}

/// A tenant that cannot be migrated keeps all others from being begun.
#[tokio::test]
async fn all_or_nothing_begins_nothing_beside_a_tenant_that_is_refused() {
    let fleet = fleet(3).await;
    fleet.raw.run("insert into organizations (slug, name, status) values ('a_ghost', 'x', 'active')").await;
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let migrations = fleet.files.load();
    let options = RunOptions::default().all_or_nothing();
    let report = fleet.run(&migrations, &options).await;
    assert_eq!(stopped(&report), Some((StopReason::RolledBack, 3)), "{report:#?}");
    assert_eq!(failure(&report, "a_ghost").kind(), ErrorKind::NotReady);
    assert_eq!((report.migrated(), fleet.with("m2").await), (0, vec![]));
    // The control: without it they are migrated.
    fleet.raw.run("delete from organizations where slug = 'a_ghost'").await;
    let report = fleet.run(&migrations, &options).await;
    assert_eq!((report.migrated(), stopped(&report), fleet.with("m2").await.len()), (3, None, 3), "{report:#?}");
}

async fn detail_of(fleet: &Fleet, report: &RunReport) -> migrate::RunDetail {
    let id = report.id.expect("it is recorded").to_string();
    migrate::run_detail(&fleet.operator, &id).await.unwrap().unwrap()
}

#[tokio::test]
async fn all_or_nothing_is_refused_where_the_lock_table_is_too_small() {
    let fleet = fleet(6).await;
    let size: i64 = fleet
        .raw
        .one(
            "select current_setting('max_locks_per_transaction')::bigint
                    * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)",
        )
        .await;
    // So many tables that six tenants need more than three quarters of it, and one alone fits easily.
    let tables = size / 6;
    fleet.files.tenant(
        "002_many.sql",
        &format!("do $$ begin for i in 1..{tables} loop execute 'create table many_' || i || ' ()'; end loop; end $$"),
    );
    let migrations = fleet.files.load();
    let planned = fleet.plan(&migrations).await;
    let options = RunOptions::default().all_or_nothing();
    let error = migrate::run_with(&fleet.operator, &migrations, planned, &options, &mut Silent).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(MigrationError::TooManyLocks { needed, size: room }) if *needed > tables as u64 * 6 && *room == size as u64),
        "{error:?}"
    );
    for number in 0..6 {
        assert_eq!(versions(&fleet.raw, &format!("tenant_{}", name(number))).await, [1]);
    }
}
