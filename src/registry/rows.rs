//! The statements that write a row of the registry.

use super::TABLE;
use crate::{
    db::Operator,
    error::{Result, while_doing},
    ident::literal,
    row_check,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};
use tokio_postgres::types::Type;

/// Returns SQL that inserts a tenant's row. It runs in the message that creates the tenant's schema, so that both exist
/// or neither does. A trigger of the application may change the other columns of the row.
pub(crate) fn insert_sql(id: OrganizationId, slug: &TenantSlug, name: &str, status: &TenantStatus) -> String {
    format!(
        "insert into {TABLE} (id, slug, name, status) values ({}, {}, {}, {});\n{}",
        literal(&id.to_string()),
        literal(slug.as_str()),
        literal(name),
        literal(status.as_str()),
        row_check::demand_sql(TABLE, &is_there_sql(id, slug), ""),
    )
}

/// Returns SQL that fails with a division by zero unless this organization still has the slug. The statements after it
/// are only for this organization.
pub(crate) fn demand_sql(id: OrganizationId, slug: &TenantSlug) -> String {
    format!("select 1 / (case when {} then 1 else 0 end);\n", is_there_sql(id, slug))
}

/// Returns a condition: the organization has the slug.
pub(crate) fn is_there_sql(id: OrganizationId, slug: &TenantSlug) -> String {
    format!(
        "exists (select from {TABLE} o where o.slug = {} and o.id = {}::pg_catalog.uuid)",
        literal(slug.as_str()),
        literal(&id.to_string()),
    )
}

/// Returns the version of an organization's row, which changes with every update of the row. Returns `None` if there is
/// no such row.
pub(crate) async fn row_version(operator: &Operator, id: OrganizationId) -> Result<Option<String>> {
    let doing = || while_doing("read the registry");
    let sql = format!("select o.xmin::pg_catalog.text from {TABLE} o where o.id = $1");
    let rows = operator.client().query_typed(&sql, &[(&id.uuid(), Type::UUID)]).await.map_err(doing())?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())
}

/// Returns SQL that fails with a division by zero unless an organization's row still has this version
/// ([`row_version`]).
pub(crate) fn demand_row_version_sql(id: OrganizationId, version: &str) -> String {
    format!(
        "select 1 / (case when exists (select from {TABLE} o where o.id = {}::pg_catalog.uuid and o.xmin::pg_catalog.text = {}) then 1 else 0 end);\n",
        literal(&id.to_string()),
        literal(version),
    )
}

/// Returns SQL that activates a previously registered tenant.
pub(crate) fn activate_sql(slug: &TenantSlug) -> String {
    format!(
        "update {TABLE} set status = 'active' where slug = {0} and status = 'onboarding';\n{1}",
        literal(slug.as_str()),
        row_check::demand_sql(
            TABLE,
            &format!(
                "not exists (select from {TABLE} where slug = {} and status = 'onboarding')",
                literal(slug.as_str())
            ),
            "",
        ),
    )
}

/// Returns SQL that sets the status of an organization whose current status is one of `from`. It fails with a division
/// by zero if the current status is another one.
pub(crate) fn set_status_sql(id: OrganizationId, from: &[&str], to: &str) -> String {
    let (id, status) = (literal(&id.to_string()), literal(to));
    let from: Vec<String> = from.iter().map(|status| literal(status)).collect();
    let is_from = format!("id = {id}::pg_catalog.uuid and status::pg_catalog.text in ({})", from.join(", "));
    format!(
        "select 1 / (case when exists (select from {TABLE} where {is_from}) then 1 else 0 end);
update {TABLE} set status = {status} where {is_from};\n{}",
        row_check::demand_sql(TABLE, &has_status(&id, &status), ""),
    )
}

fn has_status(id: &str, status: &str) -> String {
    format!("exists (select from {TABLE} where id = {id}::pg_catalog.uuid and status::pg_catalog.text = {status})")
}

/// Returns SQL that deletes an organization's row. The registry's triggers refuse this while its schema exists.
pub(crate) fn delete_sql(id: OrganizationId) -> String {
    let id = literal(&id.to_string());
    format!(
        "delete from {TABLE} where id = {id}::pg_catalog.uuid;\n{}",
        row_check::demand_sql(TABLE, &format!("not exists (select from {TABLE} where id = {id}::pg_catalog.uuid)"), ""),
    )
}

/// Returns SQL that sets the slug and the display name of an organization.
pub(crate) fn rename_sql(id: OrganizationId, slug: &TenantSlug, name: &str) -> String {
    let (id, slug, name) = (literal(&id.to_string()), literal(slug.as_str()), literal(name));
    let row = format!("id = {id}::pg_catalog.uuid and slug = {slug} and name::pg_catalog.text = {name}");
    format!(
        "update {TABLE} set slug = {slug}, name = {name} where id = {id}::pg_catalog.uuid;\n{}",
        row_check::demand_sql(TABLE, &format!("exists (select from {TABLE} where {row})"), ""),
    )
}
