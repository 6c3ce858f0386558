//! The rights of a login on the shared tables, and the policies that show it their rows.

use super::{
    LoginName, SharedTables,
    facts::{LoginFacts, ident, run},
};
use crate::{
    db::Operator,
    error::{Result, while_doing},
    ident::{Ident, SchemaName},
    migration::LEDGER_TABLE,
    registry::{self, sql::LOGIN_POLICY_PREFIX},
};
use std::fmt::Write as _;

/// Which rows a login can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All: inside a tenant, the current role is the tenant's and not this one. Costs nothing per row.
    Everything,
    /// All outside of a tenant and the organization's own inside, distinguished by the setting of the entry.
    Setting,
}

const OUTSIDE: &str = "(select coalesce(pg_catalog.current_setting('app.current_organization_id', true), '') = '')";
const INSIDE: &str =
    "(select nullif(pg_catalog.current_setting('app.current_organization_id', true), '')::pg_catalog.uuid)";

/// A shared table on which the operator can grant rights.
struct SharedTable {
    name: Ident,
    has_rls: bool,
    /// The column with the organization of a row.
    tenant_column: Option<&'static str>,
    /// Whether the login has a policy there, and whether that shows everything.
    policy: Option<Form>,
}

/// Changes a login's rights on the shared tables, and the policies, to the requested ones.
pub(super) async fn rights_sql(
    operator: &Operator,
    name: &LoginName,
    found: &LoginFacts,
    shared: SharedTables,
    form: Form,
) -> Result<String> {
    let tables = read_shared_tables(operator, name).await?;
    let mut sql = match (shared, found.shared_tables) {
        (SharedTables::All, _) => every_right_sql(name, &tables, &sequences(operator).await?, RightChange::Given),
        (SharedTables::Registry, SharedTables::All) => {
            every_right_sql(name, &tables, &sequences(operator).await?, RightChange::Taken)
        }
        (SharedTables::Registry, SharedTables::Registry) => String::new(),
    };
    let login = name.ident().quoted();
    let _ = writeln!(sql, "{};", registry::sql::grant_read_sql(&login));
    for table in &tables {
        sql.push_str(&policy_sql(name, table, shared, form)?);
    }
    Ok(sql)
}

/// Revokes a login's policies and rights on all shared objects.
pub(super) async fn dismiss_sql(operator: &Operator, login: &Ident) -> Result<String> {
    let doing = || while_doing("look at the policies of a login");
    let policy = ident(format!("{LOGIN_POLICY_PREFIX}{}", login.as_str()))?;
    let sql = "select c.relname::pg_catalog.text from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
               join pg_catalog.pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and p.polname::pg_catalog.text = $1";
    let (public, name) = (SchemaName::public(), login.quoted());
    let mut sql_text = format!(
        "revoke all on all tables in schema public from {name};
revoke all on all sequences in schema public from {name};
revoke all on schema public from {name};
alter default privileges in schema public revoke all on tables from {name};
alter default privileges in schema public revoke all on sequences from {name};\n"
    );
    for row in run(operator, sql, &[policy.as_str()]).await.map_err(doing())? {
        let table: String = row.try_get(0).map_err(doing())?;
        let _ = writeln!(sql_text, "drop policy {} on {};", policy.quoted(), public.qualified(&table));
    }
    Ok(sql_text)
}

/// Drops the policies of the other database's roles that read the shared tables.
pub(super) async fn dismiss_readers_sql(operator: &Operator) -> Result<String> {
    let doing = || while_doing("look at the policies of readers");
    let sql = "select p.polname::pg_catalog.text, c.relname::pg_catalog.text from pg_catalog.pg_policy p
               join pg_catalog.pg_class c on c.oid = p.polrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'public' and pg_catalog.starts_with(p.polname::pg_catalog.text, 'cgk_reader_cgk__')";
    let public = SchemaName::public();
    let mut sql_text = String::new();
    for row in run(operator, sql, &[]).await.map_err(doing())? {
        let (policy, table): (String, String) = (row.try_get(0).map_err(doing())?, row.try_get(1).map_err(doing())?);
        let _ = writeln!(sql_text, "drop policy {} on {};", ident(policy)?.quoted(), public.qualified(&table));
    }
    Ok(sql_text)
}

/// What to do with a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RightChange {
    Given,
    Taken,
}

/// Grants or revokes read and write access to all existing and future shared tables.
fn every_right_sql(name: &LoginName, tables: &[SharedTable], sequences: &[Ident], right: RightChange) -> String {
    let public = SchemaName::public();
    let login = name.ident().quoted();
    let (verb, on_tables, on_sequences, to) = match right {
        RightChange::Given => ("grant", "select, insert, update, delete", "usage, select, update", "to"),
        RightChange::Taken => ("revoke", "all", "all", "from"),
    };
    let mut sql = format!(
        "alter default privileges in schema public {verb} {on_tables} on tables {to} {login};
alter default privileges in schema public {verb} {on_sequences} on sequences {to} {login};\n"
    );
    for table in tables {
        let _ = writeln!(sql, "{verb} {on_tables} on {} {to} {login};", public.qualified(table.name.as_str()));
    }
    for sequence in sequences {
        let _ =
            writeln!(sql, "{verb} {on_sequences} on sequence {} {to} {login};", public.qualified(sequence.as_str()));
    }
    sql
}

/// Creates, changes or drops a login's policy of a table.
fn policy_sql(name: &LoginName, table: &SharedTable, shared: SharedTables, form: Form) -> Result<String> {
    let (policy, login) = (policy_of(name)?.quoted(), name.ident().quoted());
    let on = SchemaName::public().qualified(table.name.as_str());
    // The registry's policy is also the mark of an admitted login, and is created with or without row level security.
    let wanted = table.name.as_str() == "organizations" || (shared == SharedTables::All && table.has_rls);
    let condition = match (form, table.tenant_column) {
        (Form::Everything, _) => "true".to_owned(),
        (Form::Setting, Some(column)) => format!("{OUTSIDE} or {column} = {INSIDE}"),
        (Form::Setting, None) => OUTSIDE.to_owned(),
    };
    Ok(match (wanted, table.policy) {
        (true, None) => format!("create policy {policy} on {on} to {login} using ({condition});\n"),
        (true, Some(was)) if was != form => format!("alter policy {policy} on {on} using ({condition});\n"),
        (false, Some(_)) => format!("drop policy {policy} on {on};\n"),
        _ => String::new(),
    })
}

fn policy_of(name: &LoginName) -> Result<Ident> {
    ident(format!("{LOGIN_POLICY_PREFIX}{}", name.as_str()))
}

async fn read_shared_tables(operator: &Operator, name: &LoginName) -> Result<Vec<SharedTable>> {
    let doing = || while_doing("look at the shared tables");
    let sql = format!(
        "select c.relname::pg_catalog.text, c.relrowsecurity,
                exists (select from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attname = 'organization_id'
                        and a.atttypid = 'uuid'::pg_catalog.regtype and not a.attisdropped),
                (select pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true' from pg_catalog.pg_policy p
                 where p.polrelid = c.oid and p.polname::pg_catalog.text = $1)
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'public' and c.relkind in ('r', 'p') and c.relname <> '{LEDGER_TABLE}' and not pg_catalog.starts_with(c.relname::pg_catalog.text, 'cgk_')
           -- A partition's rows are reached through its table, whose policies decide.
           and not exists (select from pg_catalog.pg_inherits i join pg_catalog.pg_class p on p.oid = i.inhparent
                           where c.relispartition and i.inhrelid = c.oid and p.relrowsecurity)
           and pg_catalog.pg_has_role(c.relowner, 'usage') order by 1"
    );
    let policy = policy_of(name)?;
    let rows = run(operator, &sql, &[policy.as_str()]).await.map_err(doing())?;
    rows.iter()
        .map(|row| {
            let table: String = row.try_get(0).map_err(doing())?;
            let by_organization: bool = row.try_get(2).map_err(doing())?;
            let shows_everything: Option<bool> = row.try_get(3).map_err(doing())?;
            Ok(SharedTable {
                has_rls: row.try_get(1).map_err(doing())?,
                tenant_column: match table.as_str() {
                    "organizations" => Some("id"),
                    _ if by_organization => Some("organization_id"),
                    _ => None,
                },
                policy: shows_everything.map(|everything| if everything { Form::Everything } else { Form::Setting }),
                name: ident(table)?,
            })
        })
        .collect()
}

async fn sequences(operator: &Operator) -> Result<Vec<Ident>> {
    let doing = || while_doing("look at the shared sequences");
    let sql =
        "select c.relname::pg_catalog.text from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               where n.nspname = 'public' and c.relkind = 'S' and pg_catalog.pg_has_role(c.relowner, 'usage')";
    let rows = run(operator, sql, &[]).await.map_err(doing())?;
    rows.iter().map(|row| ident(row.try_get(0).map_err(doing())?)).collect()
}
