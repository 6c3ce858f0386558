//! Enters the tenant of a verified caller, and no other.

use super::TenantIdentity;
use crate::{
    context::TenantContext,
    tenancy::{ContextTenant, Db},
    tenant::Tenant,
};
use std::sync::Arc;

impl From<&Tenant> for TenantIdentity {
    fn from(tenant: &Tenant) -> Self {
        Self { id: tenant.id, slug: tenant.slug.clone() }
    }
}

impl<E> Db<E> {
    /// Returns the operations on a tenant that a credential, a request, a job or the registry identified. Every call
    /// enters it by its slug. It fails with [`TenantError::ContextStale`](crate::TenantError::ContextStale) if the slug
    /// now belongs to another organization, for instance because the tenant was dropped and another one was created
    /// with this slug. [`Db::with_tenant`] with the slug alone would enter that other tenant.
    ///
    /// In a [`TenantContext`] of the same organization and slug, the calls have its user. In any other context, and
    /// outside of one, they have no user.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, found: cgk::request::RequestTenant) -> cgk::Result<()> {
    /// let row = db.tenant_of(&found.tenant).query_one("select count(*) from orders", &[]).await?;
    /// # Ok(()) }
    /// ```
    pub fn tenant_of(&self, tenant: &TenantIdentity) -> ContextTenant<'_, E> {
        let same = |context: &Arc<TenantContext>| context.organization_id == tenant.id && context.slug == tenant.slug;
        let context = TenantContext::if_current().filter(same);
        let context = context.unwrap_or_else(|| Arc::new(TenantContext::new(tenant.id, tenant.slug.clone())));
        ContextTenant::of(self, context)
    }
}
