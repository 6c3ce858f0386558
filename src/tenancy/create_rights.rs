//! Conditions in the statements that enter: which roles may create objects in the schemas of the search path. Such a
//! role could create objects that statements of other tenants then use.
//!
//! Each condition uses only functions, which cost the server about a microsecond each. It reads the catalogue only for
//! a login that may create. Some checks need more: those of an owner, or of a membership that is not inherited. They
//! run when a service connects ([`refuse_writable`](crate::db::search_path::refuse_writable)).

use crate::{ident::literal, registry, search_path::SearchPath};

const PUBLIC: &str = "pg_catalog.has_schema_privilege('public', 'create')";

/// Returns a condition: the current role may create in a schema of the path that is not the tenant's own, also through
/// PUBLIC. A dropped schema of extensions is skipped, as the server does.
pub(super) fn role_creates_sql(path: &SearchPath) -> String {
    let further = path.further().iter().map(|schema| {
        let schema = literal(&schema.quoted());
        format!("coalesce(pg_catalog.has_schema_privilege(pg_catalog.to_regnamespace({schema}), 'create'), false)")
    });
    let each: Vec<String> = [PUBLIC.to_owned()].into_iter().chain(further).collect();
    format!("({})", each.join(" or "))
}

/// Returns a condition: the login, as the current role, may create there and is not the operator's. A login with the
/// rights of the registry's owner can do anything in `public`, whatever is revoked from it.
pub(super) fn login_creates_sql(path: &SearchPath) -> String {
    format!("{} and not {}", role_creates_sql(path), is_operator_sql())
}

/// Returns the condition of [`login_creates_sql`], or that PUBLIC may create, which is unsafe for the operator's login
/// too. Use it for transactions that continue as the login.
pub(super) fn login_or_everybody_creates_sql(path: &SearchPath) -> String {
    // The first 'public' means all roles, and the second is the schema.
    let further = path.further().iter().map(|schema| {
        let schema = literal(&schema.quoted());
        format!(
            "coalesce(pg_catalog.has_schema_privilege('public', pg_catalog.to_regnamespace({schema}), 'create'), false)"
        )
    });
    let everybody = "pg_catalog.has_schema_privilege('public', 'public', 'create')".to_owned();
    let everybody: Vec<String> = [everybody].into_iter().chain(further).collect();
    format!("{} and ({} or not {})", role_creates_sql(path), everybody.join(" or "), is_operator_sql())
}

/// Returns a condition: the current role has the rights of the registry's owner. It is true before the first setup.
/// Then there is no registry, and there are no tenants to separate.
fn is_operator_sql() -> String {
    format!(
        "coalesce(pg_catalog.pg_has_role((select c.relowner from pg_catalog.pg_class c \
         where c.oid operator(pg_catalog.=) {}::pg_catalog.oid), 'usage'), true)",
        registry::sql::OID
    )
}
