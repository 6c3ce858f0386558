//! The trigger functions that run as the owner: nobody else makes them the trigger of another table.

use crate::stage::{Stage, slug};
use cgk::Error;

const OPEN: &str = "select p.oid::regprocedure::text from pg_proc p
     where p.prosecdef and p.prorettype = 'trigger'::regtype
       and p.pronamespace not in (select n.oid from pg_namespace n where n.nspname in ('pg_catalog', 'information_schema'))
       and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                    where a.grantee <> p.proowner and a.privilege_type = 'EXECUTE')
     order by 1";

async fn open(stage: &Stage) -> Vec<String> {
    stage.rows(OPEN, &[]).await.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_trigger_function_of_the_owner_is_executable_by_anybody_else() {
    let stage = Stage::set().await;
    assert_eq!(open(&stage).await, [""; 0]);
    // The control: as it was before 030_quota_rules.
    let functions = [
        "cgk_domain_events_inserted()",
        "cgk_memberships_invitations()",
        "cgk_memberships_seat()",
        "cgk_users_invitations()",
    ];
    stage.run(&format!("grant execute on function {} to public", functions.join(", "))).await;
    assert_eq!(open(&stage).await, functions);
}

/// A tenant's role fills the seats of another organization, by a trigger of its own table.
async fn fill_seats(stage: &Stage) -> Result<(), Error> {
    let id = stage.globex;
    let attack = format!(
        "do $$ begin
             create temp table t (id uuid, organization_id uuid, confirmed_at timestamptz) on commit drop;
             create trigger x after insert or delete on t for each row execute function public.cgk_memberships_seat();
             perform set_config('app.current_organization_id', '', true);
             insert into pg_temp.t select gen_random_uuid(), '{id}', now() from generate_series(1, 5);
             perform set_config('app.current_organization_id', '{}', true);
         end $$",
        stage.acme
    );
    stage.db.tenant(&slug("acme")).execute(&attack, &[]).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_does_not_change_the_seats_of_another_organization() {
    let stage = Stage::set().await;
    stage.user(stage.globex, "ann@example.com", "owner").await;
    let seats = "select coalesce(sum(allocated), 0)::int8 from quota_usage where kind = 'seats'";
    let code = |outcome: Result<(), Error>| outcome.unwrap_err().sqlstate().map(|state| state.code().to_owned());
    assert_eq!(stage.count(seats).await, 1, "the trigger counts a member");
    assert_eq!(code(fill_seats(&stage).await).as_deref(), Some("42501"));
    // Also where the function may be executed, as by a trigger that was made before.
    stage.run("grant execute on function cgk_memberships_seat() to public").await;
    assert_eq!(code(fill_seats(&stage).await).as_deref(), Some("42501"));
    assert_eq!(stage.count(seats).await, 1);
    // The control: without both, the seats are taken.
    let text: String = stage.rows("select pg_get_functiondef('cgk_memberships_seat'::regproc)", &[]).await[0].get(0);
    let check = "tg_relid <> 'public.memberships'::regclass";
    assert!(text.contains(check), "{text}");
    stage.run(&text.replace(check, "false")).await;
    fill_seats(&stage).await.unwrap();
    assert_eq!(stage.count(seats).await, 6);
}
