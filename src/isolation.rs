//! What a tenant's role may touch: its own schema, and nothing else.
//!
//! The role cannot log in and owns nothing. It gets USAGE on its schema and DML on the tables there, present and to come;
//! no CREATE anywhere, so it can shadow nothing that others call; nothing on the ledger. The schema's owner is whoever
//! created it, and every later migration runs as that owner, because default privileges belong to the role that creates.

use crate::{
    db::ServerFacts,
    error::Error,
    ident::{Ident, RoleName, SchemaName, quoted},
};

/// Creates the role, if need be, and lets the operator's own login act as it.
pub(crate) fn role_sql(facts: &ServerFacts, role: &RoleName, presence: Presence) -> String {
    let mut sql = String::new();
    if presence == Presence::Absent {
        sql.push_str(&format!("create role {} nologin nosuperuser nobypassrls noinherit;\n", role.quoted()));
    }
    // A superuser may act as anybody.
    if !facts.superuser && presence != Presence::Usable {
        sql.push_str(&membership_sql(facts, role, "current_user"));
    }
    sql
}

/// Lets logins, quoted and separated by commas, act as a tenant's role. From PostgreSQL 16 on a membership can allow just
/// that and lend no rights meanwhile; before, the login itself must be NOINHERIT.
pub(crate) fn membership_sql(facts: &ServerFacts, role: &RoleName, logins: &str) -> String {
    format!("grant {} to {logins}{};\n", role.quoted(), membership_options(facts))
}

pub(crate) fn membership_options(facts: &ServerFacts) -> &'static str {
    if facts.major() >= 16 { " with inherit false, set true" } else { "" }
}

/// The error of an operator who may not hand a role of this name on.
pub(crate) fn lacks_admin(facts: &ServerFacts, role: &RoleName) -> Error {
    let grant = format!("grant {} to {} with admin option", role.quoted(), quoted(&facts.role));
    facts.lacks(format!("grant role {}, which another role made", role.as_str()), grant)
}

/// Grants on a schema that the current role owns: for tables there are and those to come. The grantee is the tenant's role,
/// or in path mode the login of a service.
pub(crate) fn grants_sql(schema: &SchemaName, grantee: &Ident) -> String {
    let (schema, role) = (schema.quoted(), grantee.quoted());
    format!(
        "grant usage on schema {schema} to {role};
alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role};
alter default privileges in schema {schema} grant usage, select, update on sequences to {role};
grant select, insert, update, delete on all tables in schema {schema} to {role};
grant usage, select, update on all sequences in schema {schema} to {role};
"
    )
}

/// Takes back what [`grants_sql`] gave.
pub(crate) fn revoke_sql(schema: &SchemaName, grantee: &Ident) -> String {
    let (schema, role) = (schema.quoted(), grantee.quoted());
    format!(
        "revoke all on schema {schema} from {role};
alter default privileges in schema {schema} revoke all on tables from {role};
alter default privileges in schema {schema} revoke all on sequences from {role};
revoke all on all tables in schema {schema} from {role};
revoke all on all sequences in schema {schema} from {role};
"
    )
}

/// Whether a role is there, and whether the operator may act as it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    Present,
    Usable,
}
