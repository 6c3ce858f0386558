//! `tenant:rename --keep-alias` and `--drop-alias` killed at every step: nothing is changed, and the same call then succeeds.

use crate::{
    fixture::{enters, left_of, picture, refused_as, until},
    stage::{Stage, must_end, run, slug},
    support::cgk::Shell,
};
use cgk::{
    ErrorKind,
    lifecycle::{self, RenameOptions},
};
use std::time::Duration;

/// The session that takes the step with the number in `public.dying` is terminated there. A step is the beginning or the end of
/// a command that defines something, and a row that is about to be written or was written.
const STEPS: &str = r#"
create table public.dying (at bigint);
create sequence public.steps;
create function public.step() returns void language plpgsql as $$
begin
    if nextval('public.steps') = (select at from public.dying) then
        perform pg_terminate_backend(pg_backend_pid());
    end if;
end $$;
create function public.step_of_command() returns event_trigger language plpgsql as $$ begin perform public.step(); end $$;
create function public.step_of_row() returns trigger language plpgsql as
    $$ begin perform public.step(); return case tg_op when 'DELETE' then old else new end; end $$;
create event trigger step_begins on ddl_command_start execute function public.step_of_command();
create event trigger step_ends on ddl_command_end execute function public.step_of_command();
create trigger a_step before update on public.organizations for each row execute function public.step_of_row();
create trigger z_step after update on public.organizations for each row execute function public.step_of_row();
"#;

const STEPS_OF_ALIASES: &str =
    "create trigger a_step before insert or update or delete on public.cgk_aliases for each row execute function public.step_of_row();
     create trigger z_step after insert or update or delete on public.cgk_aliases for each row execute function public.step_of_row();
     create constraint trigger zz_step after insert or update or delete on public.cgk_aliases deferrable initially deferred
         for each row execute function public.step_of_row()";

/// The sessions that do something in the database, without the observer's.
const GONE: &str = "select not exists (select from pg_stat_activity where application_name like 'cgk%' and datname = current_database()
     and pid <> pg_backend_pid() and state = 'active')";

async fn aliases(stage: &Stage) -> String {
    if stage.count("select count(*) from pg_class where relname = 'cgk_aliases'").await == 0 {
        return String::new();
    }
    let all = "select coalesce(string_agg(concat_ws(' ', slug, organization_id, expires_at), ',' order by slug), '') from cgk_aliases";
    stage.rows(all, &[]).await[0].get(0)
}

/// Calls `attempt` again and again, each time killed one step later, until it succeeds. After each kill the tenant is as before.
/// Returns the number of kills.
async fn kill_at_each_step(
    stage: &Stage,
    tenant: &str,
    unknown: &str,
    attempt: impl AsyncFn() -> cgk::Result<()>,
) -> i64 {
    let (before, kept) = (picture(stage, tenant).await, aliases(stage).await);
    let table = async || stage.count("select count(*) from pg_class where relname = 'cgk_aliases'").await;
    let (mut had_table, mut number, mut kills) = (table().await, 0, 0);
    loop {
        number += 1;
        let set = format!("insert into dying values ({number}); select setval('public.steps', 1, false)");
        stage.run(&set).await;
        let done = must_end(attempt()).await;
        let reached = stage.count("select last_value - case when is_called then 0 else 1 end from public.steps").await;
        stage.run("delete from dying").await;
        let Err(error) = done else {
            assert_eq!(reached, number - 1, "a call was killed at each of its steps");
            return kills;
        };
        kills += 1;
        assert_eq!((error.kind(), reached), (ErrorKind::Unavailable, number), "{error:?}");
        until(stage, "the killed session is gone", GONE).await;
        assert_eq!((picture(stage, tenant).await, aliases(stage).await), (before.clone(), kept.clone()), "{number}");
        assert_eq!(left_of(stage, unknown).await, [false; 3], "step {number}");
        enters(&stage.db, tenant).await.unwrap();
        assert_eq!(refused_as(&stage.db, unknown).await, ErrorKind::NotFound, "step {number}");
        // The table is created in a transaction of its own, and the next call begins after it.
        let has_table = table().await;
        if has_table != had_table {
            (had_table, number) = (has_table, 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_killed_at_any_step_changes_nothing() {
    let stage = Stage::set().await;
    stage.run(STEPS).await;
    let globex = picture(&stage, "globex").await;
    let rename = async |from: &str, new: &str| {
        let options = RenameOptions::default().slug(slug(new)).keep_alias(Duration::from_secs(3_600));
        lifecycle::rename(&stage.operator().await, &slug(from), &options).await.map(drop)
    };
    // The first one also creates the table of the aliases.
    let steps = kill_at_each_step(&stage, "acme", "apex", async || rename("acme", "apex").await).await;
    assert!(steps > 12, "{steps}");
    stage.run(STEPS_OF_ALIASES).await;
    let steps = kill_at_each_step(&stage, "apex", "zenith", async || rename("apex", "zenith").await).await;
    assert!(steps >= 7, "schema, row and alias: {steps}");
    assert_eq!(stage.count("select count(*) from cgk_aliases").await, 2);
    // Back to a former slug, which the tenant is found by before and after.
    let former = async |asked: &str| stage.db.platform().find_tenant(&slug(asked)).await.unwrap().id;
    for asked in ["acme", "apex", "zenith"] {
        assert_eq!(former(asked).await, stage.acme, "{asked}");
    }
    let dropping = async || {
        lifecycle::drop_alias(&stage.operator().await, &slug("zenith"), &slug("acme"))
            .await
            .map(|dropped| assert!(dropped))
    };
    let steps = kill_at_each_step(&stage, "zenith", "initech", dropping).await;
    assert_eq!(steps, 3, "before and after the row, and at the commit");
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
    assert_eq!((former("apex").await, picture(&stage, "globex").await), (stage.acme, globex));
}

/// The program is killed while it waits for a lock of another session, at each lock that it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_changes_nothing() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    let keeps = ["tenant:rename", "acme", "apex", "--keep-alias", "1h"];
    let drops = ["tenant:rename", "apex", "--drop-alias", "acme"];
    let said = |arguments: &[&str]| {
        let answer = shell.run(arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}{}", answer.stdout, answer.stderr);
    };
    said(&["tenant:rename", "globex", "initech", "--keep-alias", "1h"]);
    let kill = async |lock: &str, arguments: &[&str], tenant: &str| {
        let before = (picture(&stage, tenant).await, aliases(&stage).await);
        let holder = stage.holder("select 1").await;
        run(&holder, lock).await;
        let mut program = shell.start(arguments);
        stage.until_waiting(1).await;
        program.kill().unwrap();
        program.wait().unwrap();
        until(&stage, "its session is gone", GONE).await;
        // Earlier, the server could get the lock and commit.
        drop(holder);
        (picture(&stage, tenant).await, aliases(&stage).await) == before
    };
    for lock in [
        "select cgk_enter('acme')",
        "select from organizations where slug = 'acme' for update",
        "lock table cgk_aliases in share mode",
    ] {
        assert!(kill(lock, &keeps, "acme").await, "{lock}");
        enters(&stage.db, "acme").await.unwrap();
    }
    said(&keeps);
    assert!(kill("lock table cgk_aliases in share mode", &drops, "apex").await);
    assert_eq!(stage.db.platform().find_tenant(&slug("acme")).await.unwrap().id, stage.acme);
    said(&drops);
    assert_eq!(refused_as(&stage.db, "acme").await, ErrorKind::NotFound);
}
