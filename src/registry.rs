//! The registry of tenants, the table `public.organizations`: the text of the statements that write it.

use crate::{
    ident::literal,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};

/// Writes a tenant's row; runs in the message that makes its schema, and so cannot be without it.
pub(crate) fn insert_sql(id: OrganizationId, slug: &TenantSlug, name: &str, status: &TenantStatus) -> String {
    format!(
        "insert into public.organizations (id, slug, name, status) values ({}, {}, {}, {});\n",
        literal(&id.to_string()),
        literal(slug.as_str()),
        literal(name),
        literal(status.as_str()),
    )
}

/// Ends the message with a division by zero unless this organization still has the slug: what follows is meant for it alone.
pub(crate) fn demand_sql(id: OrganizationId, slug: &TenantSlug) -> String {
    format!(
        "select 1 / (case when exists (select from public.organizations o where o.slug = {} and o.id = {}::pg_catalog.uuid) \
         then 1 else 0 end);\n",
        literal(slug.as_str()),
        literal(&id.to_string()),
    )
}

/// Marks a tenant that was registered before as ready for use.
pub(crate) fn activate_sql(slug: &TenantSlug) -> String {
    format!(
        "update public.organizations set status = 'active' where slug = {} and status = 'onboarding';\n",
        literal(slug.as_str())
    )
}
