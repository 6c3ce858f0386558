//! What ends a run before all tenants had their turn: canaries, failures, a full disk, interrupts.

use super::*;

#[tokio::test]
async fn a_canary_that_fails_keeps_the_others_from_being_begun() {
    let fleet = fleet(6).await;
    fleet.raw.run("insert into tenant_t00.m1 values (null); insert into tenant_t03.m1 values (null)").await;
    fleet.files.tenant("002_strict.sql", "create table m2 (); alter table m1 alter id set not null");
    let migrations = fleet.files.load();
    let report = fleet.run(&migrations, &RunOptions::default().canary(Canary::First(2))).await;
    assert_eq!(stopped(&report), Some((StopReason::Canary, 4)));
    assert_eq!((report.failed(), report.migrated(), fleet.with("m2").await), (1, 1, vec!["t01".to_owned()]));

    // Named ones, and one of them has nothing to do any more.
    let named = Canary::These(vec![slug("t03"), slug("t01")]);
    let report = fleet.run(&migrations, &RunOptions::default().canary(named.clone())).await;
    assert_eq!((report.failed(), stopped(&report)), (1, Some((StopReason::Canary, 4))));
    let planned = fleet.plan(&migrations).await;
    let options = RunOptions::default().canary(Canary::These(vec![slug("t04"), slug("typo")]));
    let error = migrate::run_with(&fleet.operator, &migrations, planned, &options, &mut Silent).await.unwrap_err();
    assert!(
        matches!(&error, Error::Tenant(TenantError::NotFound { tenant }) if tenant.as_str() == "typo"),
        "{error:?}"
    );
    assert_eq!(fleet.with("m2").await, ["t01"]);

    // Those that go well let the others begin; that another tenant failed before is not their fault.
    fleet.raw.run("delete from tenant_t03.m1").await;
    let report = fleet.run(&migrations, &RunOptions::default().canary(named)).await;
    assert_eq!((report.failed(), report.migrated(), stopped(&report)), (1, 4, None));
    assert_eq!(fleet.torn().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_budget_of_failures_ends_the_run() {
    let fleet = fleet(8).await;
    for number in [1, 3, 5, 7] {
        fleet.raw.run(&format!("insert into tenant_{}.m1 values (null)", name(number))).await;
    }
    fleet.files.tenant("002_strict.sql", "create table m2 (); alter table m1 alter id set not null");
    let migrations = fleet.files.load();
    let one_by_one = RunOptions::default().jobs(many(1));
    let report = fleet.run(&migrations, &one_by_one.clone().failures_max(many(2))).await;
    assert_eq!(stopped(&report), Some((StopReason::Failures, 4)));
    assert_eq!((report.failed(), fleet.with("m2").await), (2, vec!["t00".to_owned(), "t02".to_owned()]));
    // A budget that is not spent stops nothing.
    let report = fleet.run(&migrations, &one_by_one.clone().failures_max(many(5))).await;
    assert_eq!((report.failed(), report.migrated(), stopped(&report)), (4, 2, None));
    assert_eq!(fleet.torn().await, Vec::<String>::new());
    // One that cannot even be begun counts too.
    fleet.raw.run("insert into organizations (slug, name, status) values ('a_ghost', 'x', 'active')").await;
    let report = fleet.run(&migrations, &one_by_one.failures_max(many(1))).await;
    assert_eq!(stopped(&report), Some((StopReason::Failures, 4)));
    assert_eq!(failure(&report, "a_ghost").kind(), ErrorKind::NotReady);
}

#[tokio::test]
async fn a_full_disk_ends_the_run_and_the_next_goes_on() {
    // A shutdown is no ERROR (57P01 with FATAL): it ends the connection, and `tests/faults` has real ones.
    for state in ["53100"] {
        let fleet = fleet(6).await;
        // What the server would say, from a migration that finds the disk full in one tenant.
        let body = format!(
            "create table m2 (); do $$ begin if current_schema() = 'tenant_t02' and not exists (select from public.mended) then
               raise exception 'no space left on device' using errcode = '{state}'; end if; end $$"
        );
        fleet.raw.run("create table public.mended (id int)").await;
        fleet.files.tenant("002_second.sql", &body);
        let migrations = fleet.files.load();
        let report = fleet.run(&migrations, &RunOptions::default().jobs(many(1))).await;
        assert_eq!(stopped(&report), Some((StopReason::Unavailable, 3)), "{state}: {report:#?}");
        assert_eq!(failure(&report, "t02").sqlstate().unwrap().code(), state);
        assert_eq!(fleet.with("m2").await, ["t00", "t01"]);
        fleet.raw.run("insert into public.mended values (1)").await;
        let operator = fleet.database.operator().await.unwrap();
        let planned = fleet.plan(&migrations).await;
        let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
        assert_eq!((report.migrated(), report.at_head, stopped(&report)), (4, 2, None));
        assert_eq!(fleet.torn().await, Vec::<String>::new());
    }
}

/// Raises an interrupt once the first tenant is done.
struct AfterFirst<'i>(&'i Interrupt);

impl Observer for AfterFirst<'_> {
    fn schema(&mut self, _: &SchemaOutcome) {
        self.0.stop();
    }
}

#[tokio::test]
async fn an_interrupt_lets_what_is_under_way_finish() {
    let fleet = fleet(9).await;
    // All three have begun before the first is done.
    meeting_place(&fleet.raw).await;
    fleet.files.tenant("002_second.sql", &format!("create table m2 (); {}", meeting(3)));
    let migrations = fleet.files.load();
    let interrupt = Interrupt::new();
    assert!(!interrupt.is_heard());
    let options = RunOptions::default().jobs(many(3)).interrupt(&interrupt).unrehearsed();
    let report = fleet.run_observed(&migrations, &options, &mut AfterFirst(&interrupt)).await;
    assert!(interrupt.is_heard());
    assert_eq!((report.failed(), report.migrated()), (0, 3), "{report:#?}");
    assert_eq!(stopped(&report), Some((StopReason::Interrupted, 6)));
    let report = fleet.run(&migrations, &RunOptions::default()).await;
    assert_eq!((report.migrated(), report.at_head), (6, 3));
}

#[tokio::test]
async fn a_second_interrupt_cancels_what_is_under_way() {
    let fleet = fleet(4).await;
    fleet.files.tenant("002_second.sql", "create table m2 (); select pg_sleep(3600)");
    let migrations = fleet.files.load();
    let interrupt = Interrupt::new();
    let options = RunOptions::default().jobs(many(2)).interrupt(&interrupt).unrehearsed();
    let cancel = async {
        fleet.raw.wait_until("select count(*) = 2 from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()").await;
        interrupt.stop();
        interrupt.cancel();
    };
    let (report, ()) = tokio::join!(fleet.run(&migrations, &options), cancel);
    assert_eq!((report.failed(), report.migrated()), (0, 0), "{report:#?}");
    assert_eq!(stopped(&report), Some((StopReason::Interrupted, 4)));
    assert_eq!(fleet.with("m2").await, Vec::<String>::new());
    // Nothing runs on, and the run is in the history as what it was.
    fleet.raw.wait_until("select not exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())").await;
    let run = &migrate::history(&fleet.operator, 1).await.unwrap()[0];
    assert_eq!((run.state, run.stopped, run.left), (RunState::Finished, Some(StopReason::Interrupted), 4));
}
