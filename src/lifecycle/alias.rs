//! Drops a former slug of a tenant before its time.

use crate::{
    db::Operator,
    error::{Error, Result, TenantError},
    registry,
    slug::TenantSlug,
};

/// Ends a former slug of a tenant ([`RenameOptions::keep_alias`](super::RenameOptions::keep_alias)). From then on, services no
/// longer find the tenant by it, and another tenant can get it. Returns false if the tenant has no such former slug.
///
/// A resolver that receives no notifications can still answer from its cache for
/// [`ResolverSettings::time_max_unnotified`](crate::resolver::ResolverSettings::time_max_unnotified).
///
/// # Locks
///
/// The alias's row, until the statement ends. It waits for this lock at most `session.lock_timeout`.
///
/// # Committed when
///
/// At once.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `Failed`: an error of the server, also if the lock is not free in time, or the role may not change
///   `public.cgk_aliases`.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still drop the alias.
pub async fn drop_alias(operator: &Operator, slug: &TenantSlug, alias: &TenantSlug) -> Result<bool> {
    operator.facts().require_writable()?;
    let Some(tenant) = registry::facts_of(operator, slug).await?.tenant else {
        registry::require(operator).await?;
        return Err(Error::Tenant(TenantError::NotFound { tenant: slug.clone() }));
    };
    registry::drop_alias(operator, tenant.id, alias).await
}
