//! Reads the registry row of one tenant, without the catalogue.

use super::{TABLE, aliases};
use crate::{
    db::Operator,
    error::{Error, Result, TenantError, while_doing},
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant, TenantStatus},
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

/// A query for the row of the tenant with the slug `$1`, for [`found_tenant`].
pub(crate) const FIND: &str = "select o.id, o.name::pg_catalog.text, o.status::pg_catalog.text,
           coalesce(o.created_at::pg_catalog.timestamptz, 'epoch'::pg_catalog.timestamptz)
      from public.organizations o where o.slug = $1";

/// Reads a row of [`FIND`].
pub(crate) fn found_tenant(row: &Row, slug: &TenantSlug) -> Result<Tenant> {
    let doing = || while_doing(format!("read the registry's row of tenant {slug}"));
    Ok(Tenant {
        id: OrganizationId(row.try_get(0).map_err(doing())?),
        slug: slug.clone(),
        name: row.try_get(1).map_err(doing())?,
        status: TenantStatus::from(row.try_get::<_, &str>(2).map_err(doing())?),
        created_at: row.try_get(3).map_err(doing())?,
    })
}

/// Returns the slug of an organization in the registry. It may not be a valid slug of a tenant. It is empty if the row
/// has no slug. Returns `None` if there is no such row.
pub(crate) async fn slug_of(operator: &Operator, id: Uuid) -> Result<Option<String>> {
    let doing = || while_doing("look for an organization in the registry");
    let sql = format!("select o.slug::pg_catalog.text from {TABLE} o where o.id = $1");
    let rows = operator.client().query_typed(&sql, &[(&id, Type::UUID)]).await.map_err(doing())?;
    let Some(row) = rows.first() else { return Ok(None) };
    let slug: Option<String> = row.try_get(0).map_err(doing())?;
    Ok(Some(slug.unwrap_or_default()))
}

/// Returns the error for a slug that is not in the registry: no tenant has it, or it is the former slug of one.
pub(crate) async fn not_found(operator: &Operator, slug: &TenantSlug) -> Error {
    match aliases::find_alias(operator.client(), slug).await {
        Ok(Some(found)) => Error::Tenant(TenantError::FormerSlug { tenant: slug.clone(), now: found.slug }),
        Ok(None) => Error::Tenant(TenantError::NotFound { tenant: slug.clone() }),
        Err(error) => while_doing(format!("look for the former slug {slug}"))(error),
    }
}
