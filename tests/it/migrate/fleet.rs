//! The whole fleet: who is visited, what a failure stops, and what is left when a run is torn down at any moment.

use crate::{
    sandbox::{
        DECOYS, Files, Proxy, Raw, Seen, decoys, exists, failure, login_role, migrate_all, picture, plan_all,
        round_trips, rounds, say, seeded, tenants, versions,
    },
    support::score,
};
use cgk::{
    Error, ErrorKind, Operator, TenantError,
    migrate::{self, RunReport, SchemaState, Scope, Silent, Step, Stop, StopReason, Target},
    testing::{TestDatabase, TestServer},
};
use rand::RngExt as _;
use std::time::Duration;

const FIRST: &[(&str, &str)] = &[("001_first.sql", "create table m1 (id int)")];

/// A database with these tenants, all of them at the first migration, and decoys beside them.
pub(super) async fn fleet(slugs: &[&str]) -> (TestDatabase, Files, Operator, Raw) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(FIRST);
    let operator = tenants(&database, &files.load(), slugs).await;
    let raw = Raw::on(&database).await;
    decoys(&raw).await;
    (database, files, operator, raw)
}

async fn pictures(raw: &Raw, schemas: &[&str]) -> Vec<Vec<String>> {
    let mut pictures = Vec::new();
    for schema in schemas {
        pictures.push(picture(raw, schema).await);
    }
    pictures
}

#[tokio::test]
async fn the_shared_schema_goes_first_and_stops_everything() {
    let (_database, files, operator, raw) = fleet(&["acme", "globex"]).await;
    files.tenant("002_second.sql", "create table m2 (n int)").public("100_bad.sql", "create table good (); select 1/0");
    let before = pictures(&raw, &["public", "tenant_acme", "tenant_globex"]).await;
    let error = migrate_all(&operator, &files.load()).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate().unwrap().code()), (ErrorKind::Failed, "22012"));
    assert_eq!(pictures(&raw, &["public", "tenant_acme", "tenant_globex"]).await, before);
    // While it is pending, nobody gets past it by naming tenants.
    for scope in [Scope::Tenants, Scope::Only(vec!["acme".parse().unwrap()])] {
        let error = migrate::plan_fleet(&operator, &files.load(), &scope, Target::Head).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
    }
    // The control: the tenants do need what public brings.
    files.public("100_bad.sql", "create table shared_thing (id int)");
    files.tenant("002_second.sql", "create table m2 as select id from shared_thing");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert!(report.public.is_some());
    assert_eq!((report.failed(), report.migrated()), (0, 2));
}

#[tokio::test]
async fn one_failing_tenant_stops_nobody_and_the_next_run_goes_on() {
    let (_database, files, operator, raw) = fleet(&["a", "b", "c"]).await;
    let decoys_before = pictures(&raw, &DECOYS).await;
    raw.run("insert into tenant_b.m1 values (null)").await;
    files.tenant("002_strict.sql", "create table m2 (id int); alter table m1 alter id set not null");
    let migrations = files.load();
    let before = picture(&raw, "tenant_b").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((report.failed(), report.migrated(), report.at_head), (1, 2, 0));
    assert_eq!(failure(&report, "b").sqlstate().unwrap().code(), "23502");
    assert_eq!(picture(&raw, "tenant_b").await, before);
    assert_eq!(versions(&raw, "tenant_c").await, [1, 2]);

    raw.run("delete from tenant_b.m1").await;
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((report.failed(), report.migrated(), report.at_head), (0, 1, 2));
    assert_eq!(versions(&raw, "tenant_b").await, [1, 2]);
    assert_eq!(pictures(&raw, &DECOYS).await, decoys_before);
}

#[tokio::test]
async fn only_names_tenants_and_unknown_ones_are_refused() {
    let (_database, files, operator, raw) = fleet(&["a", "b"]).await;
    files.tenant("002_second.sql", "create table m2 ()");
    let migrations = files.load();
    for unknown in ["nobody", "ghost"] {
        let scope = Scope::Only(vec!["a".parse().unwrap(), unknown.parse().unwrap()]);
        let error = migrate::plan_fleet(&operator, &migrations, &scope, Target::Head).await.unwrap_err();
        assert!(
            matches!(&error, Error::Tenant(TenantError::NotFound { tenant }) if tenant.as_str() == unknown),
            "{error:?}"
        );
    }
    let scope = Scope::Only(vec!["b".parse().unwrap()]);
    let planned = migrate::plan_fleet(&operator, &migrations, &scope, Target::Head).await.unwrap();
    migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
    assert_eq!((versions(&raw, "tenant_a").await.len(), versions(&raw, "tenant_b").await.len()), (1, 2));
}

#[tokio::test]
async fn suspended_tenants_are_migrated_and_unprovisioned_ones_skipped() {
    let (_database, files, operator, raw) = fleet(&["a", "b", "c"]).await;
    raw.run(
        "update organizations set status = 'suspended' where slug = 'a';
         insert into organizations (slug, name, status) values ('later', 'Later', 'onboarding'), ('gone', 'Gone', 'active');
         drop table tenant_c.schema_migrations",
    )
    .await;
    files.tenant("002_second.sql", "create table m2 ()");
    let report = migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.failed(), report.migrated(), report.skipped()), (2, 2, 1), "{report:#?}");
    assert_eq!(versions(&raw, "tenant_a").await, [1, 2]);
    for (slug, missing) in
        [("gone", "there is no schema tenant_gone"), ("c", "there is no ledger tenant_c.schema_migrations")]
    {
        let error = failure(&report, slug);
        assert!(error.kind() == ErrorKind::NotReady && error.to_string().contains(missing), "{error:?}");
    }
    assert!(
        !exists(&raw, "tenant_gone.m2").await && !exists(&raw, "tenant_c.m2").await && !exists(&raw, "public.m2").await
    );
}

#[tokio::test]
async fn tenants_at_head_are_not_visited() {
    let (database, files, operator, raw) = fleet(&["behind", "whole"]).await;
    files.tenant("002_second.sql", "create table m2 ()");
    let migrations = files.load();
    let only = Scope::Only(vec!["whole".parse().unwrap()]);
    let planned = migrate::plan_fleet(&operator, &migrations, &only, Target::Head).await.unwrap();
    migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();

    let proxy = Proxy::to(&database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    proxy.take();
    let report = migrate_all(&operator, &migrations).await.unwrap();
    assert_eq!((report.migrated(), report.at_head), (1, 1));
    let seen = proxy.take();
    let migrates = |message: &&Seen| message.kind == b'Q';
    let mentions = |name: &str| seen.iter().filter(migrates).filter(|message| message.text.contains(name)).count();
    assert!(!seen.iter().any(|message| message.text.contains("tenant_whole")));
    assert_eq!(mentions("tenant_behind"), 1, "one message, and it migrates");
    assert_eq!(versions(&raw, "tenant_behind").await, [1, 2]);
}

#[tokio::test]
async fn a_run_with_nothing_to_do_costs_the_same_for_any_number_of_tenants() {
    let (database, files, _operator, raw) = fleet(&["a", "b", "c", "d", "e"]).await;
    let migrations = files.load();
    let proxy = Proxy::to(&database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    let mut counted = Vec::new();
    for number in [5, 200] {
        clone_tenants(&raw, "a", number - 5).await;
        proxy.take();
        // With the look at what was rehearsed.
        let planned = plan_all(&operator, &migrations).await.unwrap();
        let report = migrate::run(&operator, &migrations, planned, &mut Silent).await.unwrap();
        assert_eq!((report.at_head, report.tenants.len()), (number, 0));
        counted.push(round_trips(&proxy.take()));
    }
    say(&format!("round trips of a run with nothing to do: {counted:?}"));
    assert_eq!(counted[0], counted[1]);
    // One reads the record of the fleet's files, and one asks whether the set was rehearsed.
    assert!(counted[0] <= 5, "{counted:?}");
    // The control: the proxy does see one more message per tenant once each has something to do.
    files.tenant("002_second.sql", "create table m2 ()");
    let migrations = files.load();
    proxy.take();
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().migrated(), 200);
    // One message each; besides, what the connections of the workers and the history of runs cost.
    let visits = proxy.take().iter().filter(|message| message.kind == b'Q' && message.text.contains("m2")).count();
    assert_eq!(visits, 200);
}

/// The driver stops reading where answers are not taken: a ledger asked for while the fleet's rows still come would never be
/// answered.
#[tokio::test]
async fn ledgers_without_a_comment_are_all_read() {
    let (_database, files, operator, raw) = fleet(&["a"]).await;
    clone_tenants(&raw, "a", 800).await;
    raw.run(
        "do $$ declare t text; begin
           for t in select slug from organizations loop execute format('comment on table tenant_%s.schema_migrations is null', t); end loop;
         end $$",
    )
    .await;
    let migrations = files.load();
    let look = async {
        let plan = plan_all(&operator, &migrations).await.unwrap();
        let state = migrate::read_state(&operator, &migrations).await.unwrap();
        (plan.at_head, plan.tenants.len(), state.tenants.len())
    };
    let looked = tokio::time::timeout(Duration::from_secs(60), look).await.expect("an answer");
    assert_eq!(looked, (801, 0, 801));
    let state = migrate::read_state(&operator, &migrations).await.unwrap();
    assert!(state.tenants.is_sorted_by_key(|tenant| tenant.tenant.slug.clone()));
}

/// Tenants made by the server alone: copies of one with its ledger, quick enough for hundreds.
async fn clone_tenants(raw: &Raw, of: &str, number: usize) {
    raw.run(&format!(
        "do $$
         declare slug text; tag text := (select right(r.rolname, 10) from pg_roles r, pg_namespace n
             where n.nspname = 'tenant_{of}' and r.rolname like 'cgk\\_{of}\\_%' and has_schema_privilege(r.oid, n.oid, 'usage')
                   and not r.rolsuper limit 1);
         begin
           for i in 1..{number} loop
             slug := 'clone_' || i;
             insert into public.organizations (slug, name, status) values (slug, slug, 'active');
             execute format('create role %I', 'cgk_' || slug || '_' || tag);
             execute format('create schema %I', 'tenant_' || slug);
             execute format('comment on schema %I is %L', 'tenant_' || slug,
                            'cgk organization ' || (select o.id from public.organizations o where o.slug = 'clone_' || i));
             execute format('grant usage on schema %I to %I', 'tenant_' || slug, 'cgk_' || slug || '_' || tag);
             execute format('create table %I.m1 (id int)', 'tenant_' || slug);
             execute format('create table %I.schema_migrations (like tenant_{of}.schema_migrations including all)', 'tenant_' || slug);
             execute format('insert into %I.schema_migrations select * from tenant_{of}.schema_migrations', 'tenant_' || slug);
             execute format('comment on table %I.schema_migrations is %L', 'tenant_' || slug,
                            obj_description('tenant_{of}.schema_migrations'::regclass));
           end loop;
         end $$"
    ))
    .await;
}

#[tokio::test]
async fn planning_needs_no_right_to_write() {
    let (database, files, operator, raw) = fleet(&["a", "b"]).await;
    files.tenant("002_second.sql", "create table m2 ()");
    let migrations = files.load();
    let (role, config) = login_role(&database, &raw, "nosuperuser").await;
    raw.run(&format!("grant select on organizations, schema_migrations to {role}; create policy readers on organizations to {role} using (true); alter role {role} set default_transaction_read_only = on")).await;
    let reader = Operator::connect(&config).await.unwrap();
    assert!(reader.facts().read_only && !reader.facts().superuser);
    let planned = plan_all(&reader, &migrations).await.unwrap();
    assert_eq!(planned.tenants.len(), 2);
    assert!(planned.tenants.iter().all(|tenant| matches!(&tenant.step, Step::Apply(plan) if plan.pending.len() == 1)));
    let state = migrate::read_state(&reader, &migrations).await.unwrap();
    assert!(state.public.is_at_head() && matches!(state.tenants[0].state, SchemaState::Behind { pending: 1 }));
    // The control: that session can write nothing.
    let error = migrate::run(&reader, &migrations, planned, &mut Silent).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), ("CGK0307", cgk::ErrorKind::Denied));
    let error = migrate_all(&reader, &migrations).await.unwrap_err();
    assert_eq!(error.code(), "CGK0307", "also without a rehearsal: {error:?}");
    assert_eq!(migrate_all(&operator, &migrations).await.unwrap().migrated(), 2);
}

const KILLED: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
/// Each file leaves one table, so the catalogue tells which were applied.
const STEPS: usize = 3;

/// Schemas whose tables and ledger tell different stories.
async fn torn(raw: &Raw) -> Vec<String> {
    let mut torn = Vec::new();
    for slug in KILLED {
        let schema = format!("tenant_{slug}");
        let tables: Vec<i64> = raw
            .all(&format!(
                "select substr(relname, 2)::bigint from pg_class where relnamespace = '{schema}'::regnamespace and relname ~ '^m[0-9]+$' order by 1"
            ))
            .await;
        let rows = versions(raw, &schema).await;
        if tables != rows {
            torn.push(format!("{schema}: tables {tables:?}, ledger {rows:?}"));
        }
    }
    torn
}

const VICTIMS: &str = "from pg_stat_activity where datname = current_database() and application_name = 'victim'";

/// Kills the victim's sessions.
async fn kill_all(raw: &Raw) {
    raw.all::<bool>(&format!("select pg_terminate_backend(pid) {VICTIMS}")).await;
    // Until they are gone their transactions may still be seen to run.
    raw.wait_until(&format!("select not exists (select {VICTIMS})")).await;
}

#[tokio::test]
async fn a_session_killed_at_any_moment_leaves_every_schema_whole() {
    let mut random = seeded("killed");
    let (database, files, operator, raw) = fleet(&KILLED).await;
    drop(operator);
    let config = database.config().clone().with_application_name("victim");
    let (mut cut, mut head, mut tried) = (0, 1, 0);
    let mut span = Duration::from_millis(40);
    // Which moments are hit depends on the machine: it goes on until enough were cut short.
    while tried < rounds(30) || (cut < rounds(30) / 5 && tried < rounds(30) * 20) {
        tried += 1;
        for _ in 0..STEPS {
            head += 1;
            files.tenant(
                &format!("{head:03}_step.sql"),
                &format!("create table m{head} (); comment on table m{head} is 'x'"),
            );
        }
        let migrations = files.load();
        let victim = Operator::connect(&config).await.unwrap();
        let run = async {
            let started = std::time::Instant::now();
            let outcome = migrate_all(&victim, &migrations).await;
            (outcome, started.elapsed())
        };
        let moment = span.mul_f64(random.random_range(0.0..1.0));
        let kill = async {
            tokio::time::sleep(moment).await;
            kill_all(&raw).await;
        };
        let ((outcome, elapsed), ()) = tokio::join!(run, kill);
        match outcome {
            Ok(RunReport { stopped: Some(Stop { reason: StopReason::Unavailable, .. }), .. }) => cut += 1,
            Ok(report) => {
                assert_eq!(report.failed(), 0, "{report:?}");
                span = (span + elapsed) / 2;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                cut += 1;
            }
        }
        assert_eq!(torn(&raw).await, Vec::<String>::new(), "round {tried}");
        let survivor = database.operator().await.unwrap();
        let report = migrate_all(&survivor, &migrations).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:?}");
        for slug in KILLED {
            assert_eq!(versions(&raw, &format!("tenant_{slug}")).await, (1..=head).collect::<Vec<i64>>());
        }
    }
    let told = format!("{cut} of {tried} runs were cut short");
    say(&told);
    assert!(cut >= rounds(30) / 5, "only {cut} runs were cut short: this test proved nothing");
    score::note(4, "session of a fleet run terminated, schema and ledger apart", tried, 0, &told);
}

/// The control: a runner that commits the ledger's row by itself is caught by the same checker.
#[tokio::test]
async fn the_checker_catches_a_runner_that_records_in_a_second_transaction() {
    let (database, _files, operator, raw) = fleet(&KILLED).await;
    drop(operator);
    let victim = Raw::on(&database).await;
    victim.run("set application_name = 'victim'").await;
    let run = async {
        for slug in KILLED {
            let schema = format!("tenant_{slug}");
            victim.try_run(&format!("create table {schema}.m2 ()")).await?;
            victim
                .try_run(&format!(
                    "insert into {schema}.schema_migrations (version, name, checksum, duration_ms, cgk_version) values (2, 'x', 'x', 0, '0')"
                ))
                .await?;
        }
        Ok::<_, tokio_postgres::Error>(())
    };
    // Its record waits, so that it is killed between the two.
    let holder = Raw::on(&database).await;
    holder.run("begin; lock table tenant_c.schema_migrations in share mode").await;
    let kill = async {
        raw.wait_until_blocked(&format!("select pid {VICTIMS}")).await;
        kill_all(&raw).await;
        holder.run("rollback").await;
    };
    let (outcome, ()) = tokio::join!(run, kill);
    assert!(outcome.is_err(), "it was not killed");
    let torn = torn(&raw).await;
    assert_eq!(torn, ["tenant_c: tables [1, 2], ledger [1]"], "the checker did not see a schema torn in two");
    score::control(4, "a runner that records in a second transaction, terminated", 1, 1, "a schema torn in two");
}
