//! How a run goes over a fleet: workers, the order of tenants, several runs at once, selections, saved plans.

mod all_or_nothing;
mod history;
mod stops;

use crate::{
    sandbox::{
        DECOYS, Files, Proxy, Raw, decoys, exists, failure, meeting, meeting_place, picture, say, tenants, versions,
    },
    support::patience::must_end,
};
use cgk::{
    Error, ErrorKind, MigrationError, Operator, TenantError, TenantSlug,
    migrate::{
        self, Canary, FleetPlan, Interrupt, Migrations, Observer, RunOptions, RunReport, RunState, SavedPlan,
        SchemaOutcome, Scope, Selection, Shard, Silent, StopReason, Target, Version,
    },
    testing::{TestDatabase, TestServer},
};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::sync::Notify;

const FIRST: &[(&str, &str)] = &[("001_first.sql", "create table m1 (id int)")];

struct Fleet {
    database: TestDatabase,
    files: Files,
    operator: Operator,
    raw: Raw,
}

/// Tenants `t00`, `t01`, … at the first migration, with decoys beside them.
async fn fleet(number: usize) -> Fleet {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(FIRST);
    let slugs: Vec<String> = (0..number).map(name).collect();
    let slugs: Vec<&str> = slugs.iter().map(String::as_str).collect();
    let operator = tenants(&database, &files.load(), &slugs).await;
    let raw = Raw::on(&database).await;
    decoys(&raw).await;
    Fleet { database, files, operator, raw }
}

fn name(number: usize) -> String {
    format!("t{number:02}")
}

fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

fn many(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

impl Fleet {
    async fn plan<'m>(&self, migrations: &'m Migrations) -> FleetPlan<'m> {
        self.plan_of(migrations, Scope::Everything.into(), Target::Head).await
    }

    async fn plan_of<'m>(&self, migrations: &'m Migrations, selection: Selection, target: Target) -> FleetPlan<'m> {
        migrate::plan_fleet(&self.operator, migrations, selection, target).await.unwrap()
    }

    async fn run(&self, migrations: &Migrations, options: &RunOptions) -> RunReport {
        self.run_observed(migrations, options, &mut Silent).await
    }

    async fn run_observed(
        &self,
        migrations: &Migrations,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> RunReport {
        let planned = self.plan(migrations).await;
        let run = migrate::run_with(&self.operator, migrations, planned, options, observer);
        must_end("the run", run).await.unwrap()
    }

    /// The tenants that have this table.
    async fn with(&self, table: &str) -> Vec<String> {
        self.raw
            .all(&format!(
                "select substr(n.nspname, 8) from pg_class c join pg_namespace n on n.oid = c.relnamespace
                 where c.relname = '{table}' and starts_with(n.nspname, 'tenant_') order by 1"
            ))
            .await
    }

    /// Tenants whose ledger and tables tell different stories.
    async fn torn(&self) -> Vec<String> {
        let mut torn = Vec::new();
        for slug in self.raw.all::<String>("select slug from public.organizations order by 1").await {
            let schema = format!("tenant_{slug}");
            let tables: Vec<i64> = self
                .raw
                .all(&format!(
                    "select substr(relname, 2)::bigint from pg_class
                     where relnamespace = '{schema}'::regnamespace and relname ~ '^m[0-9]+$' order by 1"
                ))
                .await;
            if tables != versions(&self.raw, &schema).await {
                torn.push(slug);
            }
        }
        torn
    }
}

#[tokio::test]
async fn workers_have_a_connection_each_and_leave_none() {
    let fleet = fleet(12).await;
    let seen = "(select count(distinct a.pid) from pg_stat_activity a
                 where a.datname = current_database() and a.application_name = 'cgk')";
    meeting_place(&fleet.raw).await;
    fleet.files.tenant("002_second.sql", &format!("{} create table m2 as select {seen} as connections", meeting(3)));
    let migrations = fleet.files.load();
    let report = fleet.run(&migrations, &RunOptions::default().jobs(many(3)).unrehearsed()).await;
    assert_eq!((report.migrated(), report.failed(), stopped(&report)), (12, 0, None));
    let mut connections = Vec::new();
    for number in 0..12 {
        connections.push(fleet.raw.one::<i64>(&format!("select connections from tenant_{}.m2", name(number))).await);
    }
    assert_eq!(connections.iter().max(), Some(&3), "{connections:?}");
    fleet.raw.wait_until(&format!("select {seen} = 1")).await;
    assert_eq!(fleet.torn().await, Vec::<String>::new());
    assert_eq!(fleet.with("m2").await.len(), 12);
    for decoy in DECOYS {
        assert!(!exists(&fleet.raw, &format!("{decoy}.m2")).await);
    }
}

/// Workers that find no connection are missed by nobody. A rehearsal that finds none stops the run before any tenant.
#[tokio::test]
async fn a_server_without_connections_has_one_worker_and_no_rehearsal() {
    let fleet = fleet(8).await;
    let proxy = Proxy::for_connections(&fleet.database, 1).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    assert!(Operator::connect(proxy.config()).await.is_err());
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let migrations = fleet.files.load();
    let options = RunOptions::default().jobs(many(4));
    for options in [options.clone(), options.clone().all_or_nothing()] {
        let planned = fleet.plan(&migrations).await;
        let error = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap_err();
        assert_eq!((error.code(), error.kind()), ("CGK0201", ErrorKind::Unavailable), "{error:?}");
        assert_eq!(fleet.with("m2").await, Vec::<String>::new());
    }
    let planned = fleet.plan(&migrations).await;
    let options = options.unrehearsed();
    let report = migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    assert_eq!((report.migrated(), report.failed(), stopped(&report)), (8, 0, None));
    // A set that is already rehearsed needs no connection.
    migrate::rehearse(&fleet.operator, &migrations).await.unwrap();
    assert!(!migrate::rehearse(&operator, &migrations).await.unwrap().is_new);
}

#[tokio::test]
async fn a_tenant_that_is_locked_holds_up_nobody() {
    let fleet = fleet(6).await;
    fleet.files.tenant("002_second.sql", "create table m2 (); alter table m1 add column note text");
    let migrations = fleet.files.load();
    let mut session = fleet.database.config().session().clone();
    session.lock_timeout = Duration::from_millis(500);
    let operator = Operator::connect(&fleet.database.config().clone().with_session(session)).await.unwrap();
    let holder = Raw::on(&fleet.database).await;
    holder.run("begin; lock table tenant_t00.m1").await;
    let planned = fleet.plan(&migrations).await;
    let mut order = Order::default();
    let options = RunOptions::default().jobs(many(1));
    // Let go once all the others are done: with the tenant at the head of the queue, one worker would never get there.
    let release = async {
        fleet.raw.wait_until("select to_regclass('tenant_t05.m2') is not null").await;
        holder.run("rollback").await;
    };
    let run = migrate::run_with(&operator, &migrations, planned, &options, &mut order);
    let (report, ()) = tokio::join!(run, release);
    let report = report.unwrap();
    assert_eq!((report.migrated(), report.failed()), (6, 0), "{report:#?}");
    assert_eq!(order.0.last().map(String::as_str), Some("t00"), "{:?}", order.0);
    let last = report.tenants.last().unwrap();
    assert!(last.attempts > 1, "{last:?}");
}

/// One tenant's snapshot would hold up the other's CREATE INDEX CONCURRENTLY.
#[tokio::test]
async fn files_without_a_transaction_run_alone() {
    let fleet = fleet(5).await;
    fleet.raw.run("create table public.log (slug text, began timestamptz, ended timestamptz)").await;
    let note = "insert into public.log select current_schema(), clock_timestamp(), null";
    let end = "update public.log set ended = clock_timestamp() where slug = current_schema()";
    let at_once = "select count(*) from log one join log other on one.slug < other.slug
                   and tstzrange(one.began, one.ended) && tstzrange(other.began, other.ended)";
    let options = RunOptions::default().jobs(many(4)).unrehearsed();
    // The control: others stand side by side, and the log shows it.
    meeting_place(&fleet.raw).await;
    let slow = format!(
        "create function note() returns void language sql as '{}';
                        create function done() returns void language sql as '{end}'",
        note
    );
    fleet.files.tenant("002_slow.sql", &slow);
    fleet.files.tenant("003_slow.sql", &format!("select note(); {} select done()", meeting(2)));
    assert_eq!(fleet.run(&fleet.files.load(), &options).await.migrated(), 5);
    assert!(fleet.raw.one::<i64>(at_once).await > 0);

    fleet.raw.run("truncate public.log").await;
    fleet.files.tenant(
        "004_index.sql",
        "-- cgk:no-transaction\nselect note();\ncreate index concurrently quick on m1 (id);\nselect pg_sleep(0.02);\nselect done();",
    );
    let report = fleet.run(&fleet.files.load(), &options).await;
    assert_eq!((report.migrated(), report.failed(), stopped(&report)), (5, 0, None), "{report:#?}");
    assert_eq!(fleet.raw.one::<i64>("select count(*) from log where ended is not null").await, 5);
    assert_eq!(fleet.raw.one::<i64>(at_once).await, 0);
    let valid: i64 = fleet.raw.one("select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname = 'quick' and indisvalid").await;
    assert_eq!(valid, 5);
}

/// The tenants in the order in which they were done.
#[derive(Default)]
struct Order(Vec<String>);

impl Observer for Order {
    fn schema(&mut self, outcome: &SchemaOutcome) {
        self.0.extend(outcome.slug.as_ref().map(ToString::to_string));
    }
}

#[tokio::test]
async fn a_schema_that_another_run_is_at_comes_last() {
    let fleet = fleet(5).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let migrations = fleet.files.load();
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::of_tenant(&slug("t00")));
    let other = Raw::on(&fleet.database).await;
    other.run(&format!("begin; select pg_advisory_xact_lock({key})")).await;
    let mut order = Order::default();
    let release = async {
        fleet.raw.wait_until("select to_regclass('tenant_t04.m2') is not null").await;
        other.run("rollback").await;
    };
    let options = RunOptions::default().jobs(many(1));
    let (report, ()) = tokio::join!(fleet.run_observed(&migrations, &options, &mut order), release);
    assert_eq!((report.migrated(), report.failed()), (5, 0));
    assert_eq!(order.0, ["t01", "t02", "t03", "t04", "t00"]);
}

#[tokio::test]
async fn runs_at_once_share_the_work() {
    let fleet = fleet(24).await;
    // Two of them have to be at it at once; who waits for the first run's tenants gets none of them.
    meeting_place(&fleet.raw).await;
    fleet.files.tenant("002_second.sql", &format!("create table m2 (); {}", meeting(2)));
    let migrations = fleet.files.load();
    let planned = std::sync::Arc::new(tokio::sync::Barrier::new(3));
    let mut runs = Vec::new();
    for _ in 0..3 {
        let operator = crate::support::patience::patient_operator(&fleet.database).await;
        let (migrations, all_planned) = (fleet.files.load(), planned.clone());
        runs.push(tokio::spawn(async move {
            let planned = migrate::plan_fleet(&operator, &migrations, Scope::Everything, Target::Head).await.unwrap();
            all_planned.wait().await;
            let options = RunOptions::default().jobs(many(1)).unrehearsed();
            migrate::run_with(&operator, &migrations, planned, &options, &mut Silent).await.unwrap()
        }));
    }
    let mut shares = Vec::new();
    for run in runs {
        let report = must_end("a run", run).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        let did = |outcome: &&SchemaOutcome| !outcome.result.is_by_another_run();
        let share = report.tenants.iter().filter(did).count();
        // What the run counts, and what its history says afterwards.
        assert_eq!((report.migrated(), report.by_another_run()), (share, 24 - share), "{report:?}");
        let id = report.id.unwrap().to_string();
        let detail = migrate::run_detail(&fleet.operator, &id).await.unwrap().unwrap();
        assert_eq!((detail.run.migrated, detail.run.by_another_run), (share as u64, 24 - share as u64));
        let versions_of = |result: &str| -> Vec<_> {
            let found = detail.schemas.iter().filter(|schema| schema.result == result);
            found.map(|schema| (schema.from_version, schema.to_version)).collect()
        };
        assert_eq!(versions_of("migrated"), vec![(Some(1), Some(2)); share]);
        assert_eq!(versions_of("by_another_run"), vec![(Some(2), Some(2)); 24 - share]);
        shares.push(share);
    }
    say(&format!("shares of three runs: {shares:?}"));
    assert_eq!(shares.iter().sum::<usize>(), 24, "{shares:?}");
    assert!(shares.iter().filter(|share| **share > 0).count() >= 2, "{shares:?}");
    assert_eq!(fleet.torn().await, Vec::<String>::new());
    assert!(fleet.plan(&migrations).await.is_empty());
}

fn stopped(report: &RunReport) -> Option<(StopReason, usize)> {
    report.stopped.as_ref().map(|stop| (stop.reason, stop.left))
}

/// Notes which tenants begin and which wait for a lock, and wakes a task at the first wait.
#[derive(Default)]
struct Waits {
    begun: Vec<String>,
    waiting: Vec<String>,
    wake: Arc<Notify>,
}

impl Observer for Waits {
    fn begun(&mut self, tenant: &TenantSlug) {
        self.begun.push(tenant.to_string());
    }

    fn waiting(&mut self, tenant: &TenantSlug) {
        self.waiting.push(tenant.to_string());
        self.wake.notify_one();
    }
}

#[tokio::test]
async fn a_tenant_that_waits_for_a_lock_is_named_while_it_waits() {
    let fleet = fleet(3).await;
    fleet.files.tenant("002_second.sql", "alter table m1 add column more int");
    let migrations = fleet.files.load();
    let holder = Raw::on(&fleet.database).await;
    holder.run("begin; lock table tenant_t01.m1").await;
    let mut waits = Waits::default();
    let wake = Arc::clone(&waits.wake);
    // The lock is let go only when the run has said that it waits.
    let release = async {
        wake.notified().await;
        holder.run("rollback").await;
    };
    let options = RunOptions::default();
    let (report, ()) = tokio::join!(fleet.run_observed(&migrations, &options, &mut waits), release);
    assert_eq!((report.failed(), report.migrated()), (0, 3), "{report:#?}");
    assert!(!waits.waiting.is_empty() && waits.waiting.iter().all(|tenant| tenant == "t01"), "{:?}", waits.waiting);
    assert!(["t00", "t01", "t02"].iter().all(|tenant| waits.begun.iter().any(|begun| begun == tenant)));
}

#[tokio::test]
async fn a_selection_leaves_out_whom_it_says() {
    let fleet = fleet(9).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()").tenant("003_third.sql", "create table m3 ()");
    let migrations = fleet.files.load();
    let planned = |selection: Selection, target| {
        let (operator, migrations) = (&fleet.operator, &migrations);
        async move {
            let planned = migrate::plan_fleet(operator, migrations, selection, target).await.unwrap();
            planned.tenants.iter().map(|tenant| tenant.slug.to_string()).collect::<Vec<_>>()
        }
    };
    let but_two = Selection::default().excluding([slug("t03"), slug("t08")]);
    assert_eq!(planned(but_two, Target::Head).await, ["t00", "t01", "t02", "t04", "t05", "t06", "t07"]);
    // A misspelt one would be migrated.
    let misspelt = Selection::default().excluding([slug("t03"), slug("nobody")]);
    let error = migrate::plan_fleet(&fleet.operator, &migrations, misspelt, Target::Head).await.unwrap_err();
    assert!(
        matches!(&error, cgk::Error::Tenant(cgk::TenantError::NotFound { tenant }) if tenant.as_str() == "nobody"),
        "{error:?}"
    );
    let target = Target::Version("99".parse().unwrap());
    let error = migrate::plan_fleet(&fleet.operator, &migrations, &Scope::Everything, target).await.unwrap_err();
    assert!(matches!(error, cgk::Error::Migration(cgk::MigrationError::NoSuchVersion { .. })), "{error:?}");
    let mut parts = Vec::new();
    for part in ["1/3", "2/3", "3/3"] {
        let part: Shard = part.parse().unwrap();
        parts.extend(planned(Selection::default().shard(part), Target::Head).await);
    }
    parts.sort();
    assert_eq!(parts, (0..9).map(name).collect::<Vec<_>>());

    let target = Target::Version("2".parse().unwrap());
    let selection = Selection::from(Scope::Only(vec![slug("t00"), slug("t01")]));
    let plan = migrate::plan_fleet(&fleet.operator, &migrations, selection, target).await.unwrap();
    migrate::run(&fleet.operator, &migrations, plan, &mut Silent).await.unwrap();
    assert_eq!(versions(&fleet.raw, "tenant_t00").await, [1, 2]);
    assert_eq!(fleet.with("m2").await, ["t00", "t01"]);
    assert!(planned(Selection::default(), target).await.len() == 7, "two are at the target");
}

#[tokio::test]
async fn a_saved_plan_is_carried_out_as_it_was_or_not_at_all() {
    let fleet = fleet(4).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()");
    let migrations = fleet.files.load();
    let saved = SavedPlan::of(&fleet.operator, &fleet.plan(&migrations).await);
    let kept: SavedPlan = serde_json::from_str(&serde_json::to_string(&saved).unwrap()).unwrap();
    assert_eq!((&kept, kept.target()), (&saved, Target::Head));
    let differences = |migrations: Migrations| {
        let (operator, kept) = (&fleet.operator, &kept);
        async move {
            let planned = migrate::plan_fleet(operator, &migrations, kept.selection(), kept.target()).await.unwrap();
            kept.differences(operator, &planned)
        }
    };
    assert_eq!(differences(fleet.files.load()).await, Vec::<String>::new());

    // Another text of the file, another file, another run, another tenant.
    fleet.files.tenant("002_second.sql", "create table m2 (id int)");
    assert_eq!(differences(fleet.files.load()).await.len(), 4);
    fleet.files.tenant("002_second.sql", "create table m2 ()").tenant("003_third.sql", "create table m3 ()");
    assert_eq!(differences(fleet.files.load()).await.len(), 4);
    fleet.files.without("003_third.sql");
    let only = Selection::from(Scope::Only(vec![slug("t02")]));
    let planned = migrate::plan_fleet(&fleet.operator, &migrations, only, Target::Head).await.unwrap();
    migrate::run(&fleet.operator, &migrations, planned, &mut Silent).await.unwrap();
    let found = differences(fleet.files.load()).await;
    assert!(
        matches!(found.as_slice(), [only] if only.starts_with("tenant t02: ") && only.ends_with("nothing to apply now")),
        "{found:?}"
    );

    // What moves between the comparison and a schema's turn is found by its message.
    let planned = fleet.plan(&migrations).await;
    let racing = fleet.plan(&migrations).await;
    migrate::run(&fleet.operator, &migrations, racing, &mut Silent).await.unwrap();
    let options = RunOptions::default().exactly_as_planned();
    let report = migrate::run_with(&fleet.operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (3, 0));
    assert!(matches!(failure(&report, "t00"), Error::Migration(MigrationError::PlanStale { .. })), "{report:?}");
}

#[tokio::test]
async fn a_saved_plan_keeps_its_selection_and_its_target() {
    let fleet = fleet(6).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()").tenant("003_third.sql", "create table m3 ()");
    let migrations = fleet.files.load();
    let second = Target::Version(Version::new(2).unwrap());
    let part: Shard = "2/2".parse().unwrap();
    for (selection, target) in [
        (Selection::from(Scope::Everything), second),
        (Selection::from(Scope::Public), Target::Head),
        (Selection::from(Scope::Tenants), Target::Head),
        (Selection::from(Scope::Only(vec![slug("t01"), slug("t03")])), second),
        (Selection::from(Scope::Tenants).excluding([slug("t00"), slug("t05")]), second),
        (Selection::from(Scope::Everything).excluding([slug("t04")]).shard(part), Target::Head),
    ] {
        let planned = fleet.plan_of(&migrations, selection.clone(), target).await;
        let saved = SavedPlan::of(&fleet.operator, &planned);
        let kept: SavedPlan = serde_json::from_str(&serde_json::to_string(&saved).unwrap()).unwrap();
        assert_eq!((kept.selection(), kept.target()), (selection.clone(), target));
        let again = fleet.plan_of(&migrations, kept.selection(), kept.target()).await;
        assert_eq!(kept.differences(&fleet.operator, &again), Vec::<String>::new());
        // The control: a plan of other schemas or for another target differs.
        let (others, other) = match target {
            Target::Head => (Selection::from(Scope::Only(vec![slug("t02")])), Target::Head),
            Target::Version(_) => (selection.clone(), Target::Head),
        };
        let wrong = fleet.plan_of(&migrations, others, other).await;
        assert_ne!(kept.differences(&fleet.operator, &wrong), Vec::<String>::new(), "{selection} {target:?}");
    }
}

#[tokio::test]
async fn a_saved_plan_of_a_part_migrates_that_part() {
    let fleet = fleet(6).await;
    fleet.files.tenant("002_second.sql", "create table m2 ()").tenant("003_third.sql", "create table m3 ()");
    let migrations = fleet.files.load();
    let selection = Selection::from(Scope::Tenants).excluding([slug("t00")]).shard("2/2".parse().unwrap());
    let target = Target::Version(Version::new(2).unwrap());
    let kept = SavedPlan::of(&fleet.operator, &fleet.plan_of(&migrations, selection, target).await);
    let planned = fleet.plan_of(&migrations, kept.selection(), kept.target()).await;
    let selected: Vec<String> = planned.tenants.iter().map(|tenant| tenant.slug.to_string()).collect();
    assert!((1..5).contains(&selected.len()), "{selected:?}");
    let options = RunOptions::default().exactly_as_planned();
    migrate::run_with(&fleet.operator, &migrations, planned, &options, &mut Silent).await.unwrap();
    for number in 0..6 {
        let expected: &[i64] = if selected.contains(&format!("t{number:02}")) { &[1, 2] } else { &[1] };
        assert_eq!(
            versions(&fleet.raw, &format!("tenant_t{number:02}")).await,
            expected,
            "t{number:02} of {selected:?}"
        );
    }
}
