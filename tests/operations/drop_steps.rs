//! `tenant:drop` stopped at every step: what is left is refused everywhere, nobody else notices, and the same call goes on.

use crate::{
    fixture::{dropped, enters, left_of, picture, refused_as, until},
    stage::{Stage, must_end, slug},
    support::cgk::Shell,
};
use cgk::{
    ErrorKind,
    lifecycle::{self, CreateOptions, DropOptions},
    migrate::{Migrations, Silent},
};
use std::process::Child;

/// An error at what `public.failing` names: a command, or the step that has this number since `public.steps` was set. A step is the
/// drop of a table, a view or a schema, or of the registry's row.
const FAILURES: &str = r#"
create table public.failing (what text);
create sequence public.steps;
grant select on public.failing to public;
grant usage on public.steps to public;
create function public.fail(what text) returns void language plpgsql as $$
begin
    if exists (select from public.failing f where f.what = fail.what) then
        raise exception 'failing at %', what;
    end if;
end $$;
create function public.fail_at_command() returns event_trigger language plpgsql as
    $$ begin perform public.fail(tg_tag); end $$;
create function public.fail_at_drop() returns event_trigger language plpgsql as
    $$ begin perform public.fail('step ' || nextval('public.steps')) from pg_event_trigger_dropped_objects() d
        where d.original and d.object_type in ('table', 'view', 'schema'); end $$;
create function public.fail_at_row() returns trigger language plpgsql as
    $$ begin perform public.fail(case tg_op when 'DELETE' then 'step ' || nextval('public.steps') else tg_op end); return null; end $$;
create event trigger fail_at_command on ddl_command_start execute function public.fail_at_command();
create event trigger fail_at_drop on sql_drop execute function public.fail_at_drop();
create trigger fail_at_row after update or delete on public.organizations for each row execute function public.fail_at_row();
"#;

async fn fail_at(stage: &Stage, what: &str) {
    stage.run(&format!("truncate public.failing; insert into public.failing values ('{what}'); select setval('public.steps', 1, false)")).await;
}

/// A few locks a batch, so that each table is a step.
fn small_batches() -> DropOptions {
    DropOptions::default().locks_per_batch(1)
}

async fn every_step_can_fail(stage: &Stage) {
    stage.run("create table tenant_acme.big (id bigserial primary key); create view tenant_acme.seen as select id from tenant_acme.big").await;
    stage.run(FAILURES).await;
    let tables =
        "select format('tenant_acme.%s', relname) from pg_class where relnamespace = 'tenant_acme'::regnamespace
                  and relkind in ('r', 'v') and relname <> 'schema_migrations' order by oid";
    let tables: Vec<String> = stage.rows(tables, &[]).await.iter().map(|row| row.get(0)).collect();
    assert!(tables.len() > 5, "{tables:?}");
    let (globex, acme) = (picture(stage, "globex").await, picture(stage, "acme").await);
    let operator = stage.operator().await;
    let attempt = async || lifecycle::drop_tenant(&operator, &slug("acme"), &small_batches(), &mut Silent).await;

    // Before the mark is committed nothing is done.
    for step in ["UPDATE", "COMMENT"] {
        fail_at(stage, step).await;
        attempt().await.unwrap_err();
        assert_eq!(picture(stage, "acme").await, acme, "{step}");
        enters(&stage.db, "acme").await.unwrap();
    }
    // Nor where no table, or the row, which is the last step, can be deleted: the first call tries both before all others.
    for (step, refused) in
        [("step 1", "no table of it can be dropped"), ("step 2", "its row in the registry cannot be deleted")]
    {
        fail_at(stage, step).await;
        let error = attempt().await.unwrap_err();
        assert_eq!(error.to_string(), format!("tenant acme cannot be dropped: {refused}: failing at {step}"));
        assert_eq!(picture(stage, "acme").await, acme);
        enters(&stage.db, "acme").await.unwrap();
    }
    // Each call takes one step, the first one the two of trying, and fails at the next: the tables, the schema, the row.
    for number in 0..tables.len() + 2 {
        let step = if number == 0 { "step 3" } else { "step 2" }.to_owned();
        fail_at(stage, &step).await;
        let error = attempt().await.unwrap_err();
        assert!(error.report().to_string().contains(&format!("failing at {step}")), "{number}: {error:?}");
        let left =
            "select count(*) from pg_class where relnamespace = 'tenant_acme'::regnamespace and relkind in ('r', 'v')
                    and relname <> 'schema_migrations'";
        assert_eq!(stage.count(left).await, (tables.len() - number.min(tables.len())) as i64);
        // What is left is still the tenant's, and nobody comes in by any verb.
        assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended, "{step}");
        assert_eq!(lifecycle::activate(&operator, &slug("acme")).await.unwrap_err().code(), "CGK0861", "{step}");
        let suspended = lifecycle::suspend(&operator, &slug("acme"), &Default::default()).await;
        assert_eq!(suspended.unwrap_err().code(), "CGK0861", "{step}");
        if number % 4 == 0 {
            let migrations = Migrations::bundled();
            let options = CreateOptions::default();
            let error =
                lifecycle::create(&operator, &stage.db, &migrations, &slug("acme"), &options).await.unwrap_err();
            assert_eq!(error.code(), "CGK0861", "{step}");
            let fleet = cgk::migrate::read_state(&operator, &migrations).await.unwrap();
            let state = &fleet.tenants.iter().find(|tenant| tenant.tenant.slug.as_str() == "acme").unwrap().state;
            assert!(matches!(state, cgk::migrate::SchemaState::BeingDropped), "{step}: {state:?}");
        }
        assert!(lifecycle::preview_drop(&operator, &slug("acme")).await.unwrap().has_begun, "{step}");
        assert_eq!(picture(stage, "globex").await, globex, "{step}");
        // The registry's guard lets the row go with the schema alone.
        stage.run("truncate public.failing").await;
        let deleted = stage.watch.execute("delete from organizations where slug = 'acme'", &[]).await;
        assert_eq!(deleted.unwrap_err().code().unwrap().code(), "23001", "{step}");
    }
    stage.run("truncate public.failing").await;
    assert!(attempt().await.unwrap().was_begun);
    assert_eq!(left_of(stage, "acme").await, [false; 3]);
    assert_eq!(picture(stage, "globex").await, globex);
    enters(&stage.db, "globex").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_role_every_step_can_fail() {
    every_step_can_fail(&Stage::set().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_path_every_step_can_fail() {
    every_step_can_fail(&Stage::set_path_mode().await).await;
}

/// Between two batches the session pauses for a multiple of a batch's time. Without the factor it goes on at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_drop_pauses_between_its_batches() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    let tables = "select count(*) from pg_class where relnamespace = 'tenant_acme'::regnamespace and relkind = 'r'";
    let (before, relations) = (stage.count(tables).await, stage.count(&tables.replace("'r'", "any ('{r,v,m}')")).await);
    assert!(before > 3);
    let rests = "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle'
                    and query like '%cgk:locked%' and clock_timestamp() - state_change > interval '1 second'";
    let resting = stage.count(rests).await;
    {
        let (acme, options) = (slug("acme"), small_batches().pause_factor(1_000_000));
        let mut silent = Silent;
        let drop = lifecycle::drop_tenant(&operator, &acme, &options, &mut silent);
        tokio::select! {
            ended = drop => panic!("it has not paused: {ended:?}"),
            () = async {
                until(&stage, "a batch is dropped", &format!("select ({tables}) < {before}")).await;
                until(&stage, "the session rests", &format!("select ({rests}) > {resting}")).await;
            } => {}
        }
    }
    // One batch is gone, and the second one waits.
    assert!(stage.count(tables).await >= before - 1);
    let dropped = lifecycle::drop_tenant(&operator, &slug("acme"), &small_batches().pause_factor(0), &mut Silent).await;
    let dropped = dropped.unwrap();
    // All but the ledger and what the first call has dropped.
    assert_eq!(dropped.batches as i64, relations - 2);
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
}

/// The program is killed, or its session ended, while it waits for a table in the middle; the next run finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_is_continued_by_the_next() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    stage.run("create table tenant_acme.yak (id bigint); create table tenant_acme.zebra (id bigint primary key)").await;
    let globex = picture(&stage, "globex").await;
    let waits = "select exists (select from pg_locks where not granted and relation = 'tenant_acme.yak'::regclass)";
    let gone = "select not exists (select from pg_stat_activity where application_name like 'cgk%' and datname = current_database() and pid <> pg_backend_pid() and state = 'active')";
    let held = crate::stage::connect(&stage.database).await;
    held.execute("begin", &[]).await.unwrap();
    held.execute("lock table tenant_acme.yak in access share mode", &[]).await.unwrap();
    let start =
        || -> Child { shell.start(&["tenant:drop", "acme", "--confirm", "acme", "--wait", "1h", "--locks", "1"]) };

    let mut killed = start();
    until(&stage, "it waits for the table", waits).await;
    killed.kill().unwrap();
    killed.wait().unwrap();
    until(&stage, "its session is gone", gone).await;
    assert_eq!(left_of(&stage, "acme").await, [true; 3]);
    assert_eq!(
        stage.count("select count(*) from pg_class where relname = 'zebra'").await,
        0,
        "a batch before it is committed"
    );
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::Suspended);

    let ended = start();
    until(&stage, "it waits for the table", waits).await;
    stage
        .run("select pg_terminate_backend(pid) from pg_locks where not granted and relation = 'tenant_acme.yak'::regclass")
        .await;
    let answer = crate::support::cgk::Answer::of(
        tokio::task::spawn_blocking(|| ended.wait_with_output().unwrap()).await.unwrap(),
    );
    assert_ne!(answer.code, 0, "{}", answer.stderr);
    assert_eq!(picture(&stage, "globex").await, globex);

    held.execute("rollback", &[]).await.unwrap();
    let answer = shell.run(&["tenant:drop", "acme", "--confirm", "acme"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stderr.contains("this one continues"), "{}", answer.stderr);
    assert_eq!(left_of(&stage, "acme").await, [false; 3]);
    assert_eq!(picture(&stage, "globex").await, globex);
}

/// A fleet migration beside it: the tenant is skipped, the others get their files.
#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_migration_passes_over_it() {
    let stage = Stage::set().await;
    let operator = stage.operator().await;
    stage.run(FAILURES).await;
    fail_at(&stage, "step 3").await;
    lifecycle::drop_tenant(&operator, &slug("acme"), &DropOptions::default(), &mut Silent).await.unwrap_err();
    stage.run("truncate public.failing").await;
    let shell = Shell::on(&stage.database);
    let answer = shell.run(&["migrate"]);
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert_eq!(answer.code, 0, "{said}");
    let answer = shell.run(&["tenant:list", "--json"]);
    assert!(answer.stdout.contains(r#""state":"being_dropped""#), "{}", answer.stdout);
    must_end(dropped_again(&stage)).await;
}

async fn dropped_again(stage: &Stage) {
    assert!(dropped(stage, "acme").await.was_begun);
    assert_eq!(left_of(stage, "acme").await, [false; 3]);
}
