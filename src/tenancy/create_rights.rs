//! Conditions of the statements that enter: who may create in the schemas of the search path. One that may could plant what the
//! statements of other tenants find.
//!
//! Each condition is worked out by functions alone, which cost the server about a microsecond each; only for a login that
//! may create is the catalogue read. What needs more than that, an owner or a membership that is not inherited, is looked at when a
//! service connects ([`refuse_writable`](crate::db::search_path::refuse_writable)).

use crate::{ident::literal, search_path::SearchPath};

const PUBLIC: &str = "pg_catalog.has_schema_privilege('public', 'create')";

/// Whether the role in force may create in a schema of the path that is not the tenant's own; it has what PUBLIC has. A schema
/// of extensions that was dropped is passed over, as the server does.
pub(super) fn role_creates_sql(path: &SearchPath) -> String {
    let further = path.further().iter().map(|schema| {
        let schema = literal(&schema.quoted());
        format!("coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace({schema}), 'create'), false)")
    });
    let each: Vec<String> = [PUBLIC.to_owned()].into_iter().chain(further).collect();
    format!("({})", each.join(" or "))
}

/// Whether the login, which is in force, may create there and is not the operator's: one with the rights of the registry's owner
/// can do anything in `public` whatever is revoked from it.
pub(super) fn login_creates_sql(path: &SearchPath) -> String {
    format!("{} and not {OPERATOR}", role_creates_sql(path))
}

/// [`login_creates_sql`], and whether everybody may, which is as bad where the login is the operator's. For transactions that
/// go on as the login.
pub(super) fn login_or_everybody_creates_sql(path: &SearchPath) -> String {
    // The first word stands for all roles, the second is the schema.
    let further = path.further().iter().map(|schema| {
        let schema = literal(&schema.quoted());
        format!(
            "coalesce(pg_catalog.has_schema_privilege('public', pg_catalog.to_regnamespace({schema}), 'create'), false)"
        )
    });
    let everybody = "pg_catalog.has_schema_privilege('public', 'public', 'create')".to_owned();
    let everybody: Vec<String> = [everybody].into_iter().chain(further).collect();
    format!("{} and ({} or not {OPERATOR})", role_creates_sql(path), everybody.join(" or "))
}

/// Before the first setup there is no registry, and nothing to keep apart.
const OPERATOR: &str = "coalesce(pg_catalog.pg_has_role((select c.relowner from pg_catalog.pg_class c \
                        where c.oid operator(pg_catalog.=) pg_catalog.to_regclass('public.organizations')::pg_catalog.oid), 'usage'), true)";
