//! Parts of SQL with which other modules read the registry. Only the files of the module `registry` contain the table's
//! name. A test (`tests/it/project/layering.rs`) fails if another file of the library's core contains it.

use super::TABLE;
use crate::{ident::literal, tenant::OrganizationId};

/// The table's OID. It is null if there is no registry.
pub(crate) const OID: &str = "pg_catalog.to_regclass('public.organizations')";

/// The table's OID. It fails with `undefined_table` if there is no registry.
pub(crate) const REQUIRED_OID: &str = "'public.organizations'::pg_catalog.regclass";

/// A query for the slugs of all tenants.
pub(crate) const SLUGS: &str = "select o.slug::pg_catalog.text from public.organizations o";

/// A query for the slugs of the tenants that can be entered, sorted.
pub(crate) const ACTIVE_SLUGS: &str =
    "select o.slug from public.organizations o where o.status operator(pg_catalog.=) 'active' order by o.slug";

/// The text after `from`: the rows `o` of the tenants, each with its schema `n`.
pub(crate) const TENANT_SCHEMAS: &str = "public.organizations o \
     join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = 'tenant_' || o.slug::pg_catalog.text";

/// The text after `from`: the rows `o` of all tenants, each with its schema `n` if it exists.
pub(crate) const TENANTS: &str = "public.organizations o \
     left join pg_catalog.pg_namespace n on n.nspname::pg_catalog.text = 'tenant_' || o.slug::pg_catalog.text";

/// A condition: the schema `n` has the name of a tenant's schema.
pub(crate) const IS_TENANT_SCHEMA: &str = "exists (select from public.organizations o where n.nspname::pg_catalog.text = 'tenant_' || o.slug::pg_catalog.text)";

/// A condition: the operator may read the table of the schemas that are ready for new tenants (`warm.rs`), which exists.
pub(crate) const SEES_WARM: &str =
    "coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('public.cgk_warm'), 'select'), false)";

/// A condition: that table has the schema `n`. It fails if there is no such table.
pub(crate) const IS_WARM_SCHEMA: &str = "n.nspname::pg_catalog.text ~ '^cgk_warm_[0-9a-fA-F]{8}$' \
     and exists (select from public.cgk_warm w where w.schema_name = n.nspname::pg_catalog.text)";

/// The prefix of the names of the policies that admit a login of a service. The login's name follows.
pub(crate) const LOGIN_POLICY_PREFIX: &str = "cgk_login_";

/// The text after `from`: the roles `r` that the database has admitted as logins of services, each with its policy `p`
/// of the registry.
pub(crate) const ADMITTED_LOGINS: &str = "pg_catalog.pg_policy p \
     join pg_catalog.pg_roles r on p.polroles = array[r.oid] \
     and p.polname::pg_catalog.text = 'cgk_login_' || r.rolname::pg_catalog.text \
     and p.polrelid = pg_catalog.to_regclass('public.organizations')";

/// Replaces the placeholders in the text of a query with these parts.
pub(crate) fn fill(query: &str) -> String {
    query
        .replace("{registry_oid}", OID)
        .replace("{required_registry_oid}", REQUIRED_OID)
        .replace("{tenant_schemas}", TENANT_SCHEMAS)
        .replace("{admitted_logins}", ADMITTED_LOGINS)
}

/// Returns a query in parentheses: the id, as text, of the active tenant with this slug that meets a condition on its
/// row `o`.
pub(crate) fn active_id_sql(slug: &str, condition: &str) -> String {
    format!(
        "(select o.id::pg_catalog.text from {TABLE} o where o.slug operator(pg_catalog.=) {slug} \
         and o.status operator(pg_catalog.=) 'active' and {condition})"
    )
}

/// Returns a query in parentheses: the status of the tenant with this slug. It is the text `null` if the row has no
/// status.
pub(crate) fn status_sql(slug: &str) -> String {
    format!("(select coalesce(o.status::pg_catalog.text, 'null') from {TABLE} o where o.slug = {slug})")
}

/// Returns a query in parentheses: the id of the tenant with this slug.
pub(crate) fn id_sql(slug: &str) -> String {
    format!("(select o.id from {TABLE} o where o.slug = {slug})")
}

/// Returns a condition: the registry has a tenant with this slug.
pub(crate) fn is_registered_sql(slug: &str) -> String {
    format!("exists (select from {TABLE} o where o.slug = {slug})")
}

/// Returns a condition: the role of this name is a tenant's role, in a database with this tag.
pub(crate) fn is_tenant_role_sql(role: &str, tag: &str) -> String {
    format!("exists (select from {TABLE} o where 'cgk_' || o.slug::pg_catalog.text || '_' || {tag} = {role})")
}

/// Returns a condition: the schema of the tenant with this slug exists, or the tenant's creation has ended.
pub(crate) fn is_created_sql(slug: &str) -> String {
    format!(
        "exists (select from {TABLE} o where o.slug::pg_catalog.text = {slug}
      and (o.status::pg_catalog.text <> 'onboarding'
           or exists (select from pg_catalog.pg_namespace n where n.nspname::pg_catalog.text = 'tenant_' || {slug})))"
    )
}

/// Returns SQL that locks an organization's row until the transaction ends, if there is one.
pub(crate) fn lock_row_sql(id: OrganizationId) -> String {
    format!("select from {TABLE} where id = {}::pg_catalog.uuid for update;\n", literal(&id.to_string()))
}

/// Returns SQL that grants a role the rights to read the columns that it needs to enter tenants. `role` is quoted.
pub(crate) fn grant_read_sql(role: &str) -> String {
    format!("grant select (id, slug, status) on {TABLE} to {role}")
}

/// Returns SQL that drops a policy of the registry. `policy` is quoted.
pub(crate) fn drop_policy_sql(policy: &str) -> String {
    format!("drop policy {policy} on {TABLE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_name_one_table_and_one_prefix() {
        for part in [OID, REQUIRED_OID, SLUGS, ACTIVE_SLUGS, TENANT_SCHEMAS, TENANTS, IS_TENANT_SCHEMA, ADMITTED_LOGINS]
        {
            assert!(part.contains(TABLE), "{part}");
        }
        assert!(ADMITTED_LOGINS.contains(&format!("'{LOGIN_POLICY_PREFIX}'")));
    }

    #[test]
    fn a_query_is_filled_completely() {
        let text = "{registry_oid} {required_registry_oid} {tenant_schemas} {admitted_logins} {other}";
        let filled = fill(text);
        assert_eq!(filled.matches('{').count(), 1, "{filled}");
        assert!(filled.ends_with(" {other}"));
    }
}
