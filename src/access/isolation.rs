//! The rights of a tenant's role: its own schema, and nothing else.
//!
//! The role cannot log in and owns nothing. It has USAGE on its schema, and DML on the existing and future tables
//! there. It has no CREATE anywhere, so it cannot create an object that others then use. It has no rights on the
//! ledger. The role that created the schema owns it, and every later migration runs as that owner, because default
//! privileges belong to the creating role.

use crate::{
    db::{Operator, ServerFacts},
    error::{Error, Result, while_doing},
    ident::{Ident, RoleName, SchemaName, literal, quoted},
    migration::LEDGER_TABLE,
    registry::RoleState,
};
use tokio_postgres::types::{ToSql, Type};

/// Creates the role if necessary, and lets the operator's own login act as it.
pub(crate) fn role_sql(facts: &ServerFacts, role: &RoleName, presence: RoleState) -> String {
    let mut sql = String::new();
    if presence == RoleState::Absent {
        sql.push_str(&format!("create role {} nologin nosuperuser nobypassrls noinherit;\n", role.quoted()));
    }
    // A superuser may act as any role.
    if !facts.superuser && presence != RoleState::Usable {
        sql.push_str(&membership_sql(facts, role, "current_user"));
    }
    sql
}

/// Lets logins, quoted and separated by commas, act as a tenant's role. From PostgreSQL 16 on, a membership can allow
/// only that, without inheriting rights; in older versions the login itself must be NOINHERIT.
pub(crate) fn membership_sql(facts: &ServerFacts, role: &RoleName, logins: &str) -> String {
    format!("grant {} to {logins}{};\n", role.quoted(), membership_options(facts))
}

pub(crate) fn membership_options(facts: &ServerFacts) -> &'static str {
    if facts.major() >= 16 { " with inherit false, set true" } else { "" }
}

/// Revokes the rights of a tenant's role on shared objects, and drops the role. The objects that it owned must be
/// dropped by now. Only a member with the role's rights may do this.
pub(crate) fn drop_role_sql(facts: &ServerFacts, role: &RoleName) -> String {
    let name = role.quoted();
    let options = if facts.major() >= 16 { " with inherit true, set true" } else { "" };
    let join = if facts.superuser { String::new() } else { format!("grant {name} to current_user{options};\n") };
    format!("{join}drop owned by {name};\ndrop role {name};\n")
}

/// Returns the error of an operator who may not grant a role of this name to others.
pub(crate) fn lacks_admin(facts: &ServerFacts, role: &RoleName) -> Error {
    let grant = format!("grant {} to {} with admin option", role.quoted(), quoted(&facts.role));
    facts.lacks(format!("grant role {}, which another role made", role.as_str()), grant)
}

/// Revokes the rights on the ledger that a role got from a grant on all tables.
pub(crate) fn protect_ledger_sql(schema: &SchemaName, role: &Ident) -> String {
    format!("revoke all on {} from {};\n", schema.qualified(LEDGER_TABLE), role.quoted())
}

/// Grants on a schema that the current role owns, for future objects. The grantee is the tenant's role, or in path mode
/// the login of a service.
pub(crate) fn grants_to_come_sql(schema: &SchemaName, grantee: &Ident) -> String {
    let (schema, role) = (schema.quoted(), grantee.quoted());
    format!(
        "grant usage on schema {schema} to {role};
alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role};
alter default privileges in schema {schema} grant usage, select, update on sequences to {role};
"
    )
}

/// [`grants_to_come_sql`], and the same for existing objects.
pub(crate) fn grants_sql(schema: &SchemaName, grantee: &Ident) -> String {
    let role = grantee.quoted();
    let tables = for_each_sql(schema, TABLES, "grant select, insert, update, delete on table", &format!("to {role}"));
    let sequences = for_each_sql(schema, SEQUENCES, "grant usage, select, update on sequence", &format!("to {role}"));
    grants_to_come_sql(schema, grantee) + &tables + &sequences
}

/// Revokes what [`grants_sql`] granted.
pub(crate) fn revoke_sql(schema: &SchemaName, grantee: &Ident) -> String {
    let from = format!("from {}", grantee.quoted());
    let tables = for_each_sql(schema, TABLES, "revoke all on table", &from);
    let sequences = for_each_sql(schema, SEQUENCES, "revoke all on sequence", &from);
    let schema = schema.quoted();
    format!(
        "revoke all on schema {schema} {from};
alter default privileges in schema {schema} revoke all on tables {from};
alter default privileges in schema {schema} revoke all on sequences {from};
{tables}{sequences}"
    )
}

/// Returns the roles of other databases' tenants with rights on a schema. A copy of a database contains them, and so
/// does a restored dump of one schema.
pub(crate) async fn roles_of_other_databases(operator: &Operator, schema: &SchemaName) -> Result<Vec<Ident>> {
    let doing = || while_doing(format!("look for other databases' roles on schema {:?}", schema.as_str()));
    let sql = "select distinct r.rolname::pg_catalog.text from pg_catalog.pg_namespace n
               cross join lateral (select a.grantee from pg_catalog.aclexplode(n.nspacl) a
                   union select a.grantee from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a where c.relnamespace = n.oid
                   union select a.grantee from pg_catalog.pg_default_acl f, pg_catalog.aclexplode(f.defaclacl) a
                          where f.defaclnamespace = n.oid) held
               join pg_catalog.pg_roles r on r.oid = held.grantee
               where n.nspname::pg_catalog.text = $1 and r.rolname::pg_catalog.text ~ '^cgk_[a-z][a-z0-9_]*_[0-9a-f]{10}$'
                     and pg_catalog.right(r.rolname::pg_catalog.text, 10) <> $2 and not r.rolcanlogin";
    let (name, tag) = (schema.as_str(), operator.facts().database_tag());
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&name, Type::TEXT), (&tag.as_str(), Type::TEXT)];
    let rows = operator.client().query_typed(sql, &params).await.map_err(doing())?;
    let names: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(names.map_err(doing())?.into_iter().filter_map(|name| Ident::new(name).ok()).collect())
}

/// The values of `pg_class.relkind` for TABLE in a GRANT, and for SEQUENCE.
const TABLES: &str = "'r', 'p', 'v', 'm', 'f'";
const SEQUENCES: &str = "'S'";

/// Returns one statement that names every relation of these kinds in a schema. ON ALL TABLES IN SCHEMA would have the
/// same effect, but it reads all of pg_class five times. With 1,000 tenants this takes longer than everything else. No
/// index of pg_class finds the relations of a schema, but an index of pg_depend does.
fn for_each_sql(schema: &SchemaName, kinds: &str, before: &str, after: &str) -> String {
    let (schema, before, after) = (literal(schema.as_str()), literal(before), literal(after));
    let body = format!(
        "declare names text;
begin
    select pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.relname), ', ') into names
    from pg_catalog.pg_namespace n
    join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass and d.refobjid = n.oid
                               and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objsubid = 0
    join pg_catalog.pg_class c on c.oid = d.objid
    where n.nspname = {schema} and c.relkind in ({kinds});
    if names is not null then
        execute pg_catalog.concat_ws(' ', {before}, names, {after});
    end if;
end"
    );
    format!("do {};\n", literal(&body))
}
