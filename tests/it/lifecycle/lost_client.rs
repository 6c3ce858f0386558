//! The server ends the message of an operator that is gone, so none of them commits afterwards.

use crate::{sandbox::Raw, stage::slug};
use cgk::{
    Operator,
    lifecycle::{self, DropOptions, RenameOptions},
    migrate::Silent,
    testing::{TestDatabase, TestServer},
};

/// Records, at each change of a schema or of rights, how often the server checks whether the client is there.
const RECORDER: &str = "
create table public.checks (command text not null, check_interval text not null);
grant insert on public.checks to public;
create function public.record_check() returns event_trigger language plpgsql as $$
begin
    insert into public.checks values (tg_tag, current_setting('client_connection_check_interval'));
end $$;
create event trigger record_check on ddl_command_end
    when tag in ('ALTER SCHEMA', 'DROP SCHEMA', 'GRANT') execute function public.record_check();
";

async fn recorded(database: &TestDatabase) -> (Operator, Raw) {
    let raw = Raw::on(database).await;
    raw.run(RECORDER).await;
    (database.operator().await.unwrap(), raw)
}

/// The recorded intervals of a command, each once. Then forgets them.
async fn intervals(raw: &Raw, command: &str) -> Vec<String> {
    let sql = format!("select distinct check_interval from public.checks where command = '{command}'");
    let found = raw.all(&sql).await;
    raw.run("delete from public.checks").await;
    found
}

#[tokio::test]
async fn a_rename_a_drop_and_a_new_role_end_with_their_client() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme", "globex"]).await.unwrap();
    let (operator, raw) = recorded(&database).await;
    let wanted = if operator.facts().notices_lost_clients { "1s" } else { "0" };

    // The control: a session of another program has the server's default, and the trigger sees that.
    raw.run("grant usage on schema tenant_acme to current_user; alter schema tenant_globex rename to tenant_g; alter schema tenant_g rename to tenant_globex").await;
    assert_eq!(intervals(&raw, "GRANT").await, ["0"]);

    lifecycle::rename(&operator, &slug("acme"), &RenameOptions::default().slug(slug("hooli"))).await.unwrap();
    assert_eq!(intervals(&raw, "ALTER SCHEMA").await, [wanted], "rename");

    let role: String = raw.one("select rolname::text from pg_roles where rolname ~ '^cgk_globex_' and has_schema_privilege(oid, 'tenant_globex', 'usage')").await;
    raw.run(&format!("revoke usage on schema tenant_globex from {role}")).await;
    raw.run("delete from public.checks").await;
    assert_eq!(lifecycle::isolate(&operator).await.unwrap().finished, [slug("globex")]);
    assert_eq!(intervals(&raw, "GRANT").await, [wanted], "isolate");

    lifecycle::drop_tenant(&operator, &slug("globex"), &DropOptions::default(), &mut Silent).await.unwrap();
    assert_eq!(intervals(&raw, "DROP SCHEMA").await, [wanted], "drop");
}
