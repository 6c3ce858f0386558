//! The history of runs, and what is retried by it.

use super::*;
use crate::sandbox::login_role;
use tokio_postgres::error::SqlState;

#[tokio::test]
async fn the_history_tells_who_failed_and_a_retry_visits_them_alone() {
    let fleet = fleet(5).await;
    assert!(migrate::history(&fleet.operator, 10).await.unwrap().is_empty());
    assert!(migrate::failed_last(&fleet.operator).await.unwrap().is_empty());
    fleet.raw.run("insert into tenant_t01.m1 values (null); insert into tenant_t04.m1 values (null)").await;
    fleet.files.tenant("002_strict.sql", "create table m2 (); alter table m1 alter id set not null");
    let migrations = fleet.files.load();
    let report = fleet.run(&migrations, &RunOptions::default()).await;
    let id = report.id.unwrap().to_string();
    assert_eq!(migrate::failed_last(&fleet.operator).await.unwrap(), [slug("t01"), slug("t04")]);
    let detail = migrate::run_detail(&fleet.operator, &id[..8]).await.unwrap().unwrap();
    assert_eq!((detail.run.migrated, detail.run.failed, detail.run.planned), (3, 2, 5));
    assert_eq!(
        (detail.run.state, detail.run.target.as_str(), detail.run.selection.as_str()),
        (RunState::Finished, "head", "everything")
    );
    let failed = &detail.schemas[0];
    assert_eq!((failed.schema.as_str(), failed.result.as_str(), failed.attempts), ("tenant_t01", "failed", 1));
    assert_eq!((failed.sqlstate.as_deref(), failed.from_version, failed.to_version), (Some("23502"), Some(1), Some(2)));
    assert!(failed.message.as_ref().unwrap().contains("002_strict.sql"), "{failed:?}");
    assert_eq!(detail.schemas.len(), 5);

    // Nothing to do is not recorded, and a tenant that is gone is not retried.
    fleet.raw.run("delete from tenant_t01.m1; set session_replication_role = replica; delete from organizations where slug = 't04'; reset session_replication_role").await;
    let again = migrate::failed_last(&fleet.operator).await.unwrap();
    assert_eq!(again, [slug("t01")]);
    let planned = migrate::plan_fleet(&fleet.operator, &migrations, Scope::Only(again), Target::Head).await.unwrap();
    migrate::run(&fleet.operator, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!(fleet.run(&migrations, &RunOptions::default()).await.id, None);
    assert_eq!(migrate::history(&fleet.operator, 10).await.unwrap().len(), 2);
    assert!(migrate::failed_last(&fleet.operator).await.unwrap().is_empty());
}

/// A login that may not read the history is not told that there is none.
#[tokio::test]
async fn a_history_that_may_not_be_read_is_an_error() {
    let fleet = fleet(1).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let id = fleet.run(&fleet.files.load(), &RunOptions::default()).await.id.unwrap().to_string();
    let (role, config) = login_role(&fleet.database, &fleet.raw, "").await;
    let operator = Operator::connect(&config).await.unwrap();
    let refusals = async || {
        let history = migrate::history(&operator, 10).await.map(drop);
        let detail = migrate::run_detail(&operator, &id).await.map(drop);
        let failed = migrate::failed_last(&operator).await.map(drop);
        [history, detail, failed].map(|found| found.err().and_then(|error| error.sqlstate().cloned()))
    };
    let denied = || Some(SqlState::INSUFFICIENT_PRIVILEGE);
    assert_eq!(refusals().await, [denied(), denied(), denied()]);
    fleet.raw.run(&format!("grant select on cgk_runs to {role}")).await;
    assert_eq!(refusals().await, [None, denied(), denied()]);
    let registry = format!("grant select on cgk_run_schemas, organizations to {role}");
    fleet.raw.run(&registry).await;
    assert_eq!(refusals().await, [None, None, None]);
}

#[tokio::test]
async fn the_history_stays_small_and_a_run_that_died_is_told_from_one_that_runs() {
    let fleet = fleet(1).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let migrations = fleet.files.load();
    fleet.run(&migrations, &RunOptions::default()).await;
    fleet
        .raw
        .run(
            "insert into cgk_runs (id, started_at, cgk_version, selection, target, planned, at_head, backend_pid, backend_start)
             select gen_random_uuid(), now() - i * interval '1 hour', '0', 'everything', 'head', 1, 0, 1, now() from generate_series(1, 300) i;
             insert into cgk_run_schemas (run_id, schema, result, attempts, duration_ms)
             select id, 'tenant_' || s, s, 1, 1 from cgk_runs, unnest('{migrated,failed}'::text[]) s
             where cgk_version = '0'",
        )
        .await;
    let newest = &migrate::history(&fleet.operator, 2).await.unwrap();
    assert_eq!((newest[0].state, newest[1].state), (RunState::Finished, RunState::Died));

    let proxy = Proxy::to(&fleet.database).await;
    let running = Operator::connect(proxy.config()).await.unwrap();
    fleet.files.tenant("003_third.sql", "create table m3 (); do $$ begin while exists (select from gate) loop perform pg_sleep(0.005); end loop; end $$");
    let migrations = fleet.files.load();
    let planned = fleet.plan(&migrations).await;
    let mut silent = Silent;
    let run = migrate::run(&running, &migrations, planned, &mut silent);
    fleet.raw.run("create table public.gate (); insert into public.gate default values").await;
    let look = async {
        fleet.raw.wait_until("select exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())").await;
        let state = migrate::history(&fleet.operator, 1).await.unwrap()[0].state;
        fleet.raw.run("delete from public.gate").await;
        state
    };
    let (report, state) = tokio::join!(run, look);
    assert_eq!((report.unwrap().migrated(), state), (1, RunState::Running));
    let runs: i64 = fleet.raw.one("select count(*) from cgk_runs").await;
    let kept = "select count(*) from cgk_run_schemas where result = ";
    let good: i64 = fleet.raw.one(&format!("{kept} 'migrated'")).await;
    let bad: i64 = fleet.raw.one(&format!("{kept} 'failed'")).await;
    assert_eq!((runs, good, bad), (200, 20, 198));
}

/// A fleet is not kept waiting for a record of it.
#[tokio::test]
async fn a_history_that_cannot_be_written_is_said_and_stops_nothing() {
    let fleet = fleet(2).await;
    fleet.raw.run("create view cgk_runs as select 1 as id").await;
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let migrations = fleet.files.load();
    let mut notices = Notices::default();
    let report = fleet.run_observed(&migrations, &RunOptions::default(), &mut notices).await;
    assert_eq!((report.migrated(), report.id), (2, None));
    assert!(matches!(notices.0.as_slice(), [only] if only.contains("not in the history")), "{:?}", notices.0);
}

#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn notice(&mut self, text: &str) {
        self.0.push(text.into());
    }
}
