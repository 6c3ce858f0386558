//! Tables of cgk's own in the shared schema.

use super::{
    Operator, message,
    message_head::{MessageHead, demand},
};
use crate::{ident::literal, migration::LEDGER_TABLE};
use tokio_postgres::error::SqlState;

/// Creates tables in one transaction, unless the first of them exists. [`close_sql`] then revokes the rights on them.
/// If a superuser creates them, they belong to the role that set up the database, so that this role can use them. If
/// another session has created them first, this is also a success. `lock` is the key of the lock that makes such
/// sessions wait for each other.
pub(crate) async fn create(
    operator: &Operator,
    lock: i64,
    tables: &[&str],
    definitions: &str,
) -> Result<(), tokio_postgres::Error> {
    create_readable(operator, lock, tables, definitions, "").await
}

/// [`create`], with statements that grant rights on the closed tables.
pub(crate) async fn create_readable(
    operator: &Operator,
    lock: i64,
    tables: &[&str],
    definitions: &str,
    rights: &str,
) -> Result<(), tokio_postgres::Error> {
    let first = literal(tables.first().copied().unwrap_or_default());
    let sql = format!(
        "{}select {};\n{definitions}{}{}{rights}",
        MessageHead::of(operator).lock(lock).sql(),
        demand(&format!("pg_catalog.to_regclass({first}) is null")),
        give_sql(tables),
        close_sql(tables)
    );
    match message::run(operator.client(), &sql).await?.complete() {
        Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// The statement by which a superuser gives new tables to the owner of the shared schema's ledger.
fn give_sql(tables: &[&str]) -> String {
    format!(
        "do $cgk$
declare
    owner pg_catalog.text;
    name pg_catalog.regclass;
begin
    select r.rolname into owner from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
     where c.oid = pg_catalog.to_regclass('public.{LEDGER_TABLE}') and r.rolname <> current_user
       and (select s.rolsuper from pg_catalog.pg_roles s where s.rolname = current_user);
    if owner is not null then
        foreach name in array array[{}]::pg_catalog.regclass[] loop
            execute pg_catalog.format('alter table %s owner to %I', name, owner);
        end loop;
    end if;
end
$cgk$;
",
        listed(tables)
    )
}

fn listed(tables: &[&str]) -> String {
    tables.iter().map(|table| format!("'{table}'")).collect::<Vec<_>>().join(", ")
}

/// Returns the statement that revokes all rights on new tables from everyone except their owner. Besides PUBLIC, these
/// can be logins of services: `setup:database --app-tables all` grants them default privileges, which are rights on
/// every table that is created later in the shared schema. The names in `tables` are qualified, and need no quotes.
pub(crate) fn close_sql(tables: &[&str]) -> String {
    let tables = listed(tables);
    format!(
        "do $cgk$
declare
    found record;
begin
    for found in
        select distinct c.oid::pg_catalog.regclass as name,
               case when a.grantee = 0 then 'public' else a.grantee::pg_catalog.regrole::pg_catalog.text end as grantee
        from pg_catalog.pg_class c
        cross join lateral pg_catalog.aclexplode(coalesce(c.relacl, pg_catalog.acldefault('r', c.relowner))) a
        where c.oid = any (array[{tables}]::pg_catalog.regclass[]) and a.grantee <> c.relowner
    loop
        execute pg_catalog.format('revoke all on %s from %s', found.name, found.grantee);
    end loop;
end
$cgk$;
"
    )
}
