//! What a tenant's role may touch: its own schema, and nothing else.
//!
//! The role cannot log in and owns nothing. It gets USAGE on its schema and DML on the tables there, present and to come;
//! no CREATE anywhere, so it can shadow nothing that others call; nothing on the ledger. The schema's owner is whoever
//! created it, and every later migration runs as that owner, because default privileges belong to the role that creates.

use crate::{
    db::ServerFacts,
    ident::{RoleName, SchemaName},
};

/// Creates the role, if need be, and lets the operator's own login act as it.
pub(crate) fn role_sql(facts: &ServerFacts, role: &RoleName, presence: Presence) -> String {
    let name = role.quoted();
    let mut sql = String::new();
    if presence == Presence::Absent {
        sql.push_str(&format!("create role {name} nologin nosuperuser nobypassrls noinherit;\n"));
    }
    // A superuser may act as anybody. From PostgreSQL 16 on a membership can allow just that and lend no rights meanwhile.
    if !facts.superuser {
        let options = if facts.major() >= 16 { " with inherit false, set true" } else { "" };
        sql.push_str(&format!("grant {name} to current_user{options};\n"));
    }
    sql
}

/// Grants on a schema that the current role owns: for tables there are and those to come.
pub(crate) fn grants_sql(schema: &SchemaName, role: &RoleName) -> String {
    let (schema, role) = (schema.quoted(), role.quoted());
    format!(
        "grant usage on schema {schema} to {role};
alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role};
alter default privileges in schema {schema} grant usage, select, update on sequences to {role};
grant select, insert, update, delete on all tables in schema {schema} to {role};
grant usage, select, update on all sequences in schema {schema} to {role};
"
    )
}

/// Whether an object is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Present,
    Absent,
}
