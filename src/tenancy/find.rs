//! Finds a tenant's row of the registry by its slug.

use super::{Db, Platform};
use crate::{
    error::{Error, Result, SetupError, TenantError, while_doing},
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant, TenantStatus},
};
use tokio_postgres::{Row, error::SqlState};

const FIND: &str = "select o.id, o.name::pg_catalog.text, o.status::pg_catalog.text,
           case when pg_catalog.isfinite(o.created_at) then o.created_at::pg_catalog.timestamptz
                else 'epoch'::pg_catalog.timestamptz end
      from public.organizations o where o.slug = $1";

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Returns the registry's row of a tenant, with any status, and whether or not its schema exists.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: no tenant has this slug ([`TenantError::NotFound`]). `NotReady`: the database has no registry
    /// ([`SetupError::NotSetUp`]). Otherwise same as [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn find_tenant(&self, slug: &TenantSlug) -> Result<Tenant, E> {
        let db: Db<Error> = self.db().errors();
        let row = match db.platform().query_opt(FIND, &[&slug.as_str()]).await {
            Ok(row) => row.ok_or_else(|| TenantError::NotFound { tenant: slug.clone() }.into()),
            Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_TABLE) => {
                let missing = "the table public.organizations does not exist".to_owned();
                Err(SetupError::NotSetUp { database: db.inner.database.clone(), missing }.into())
            }
            Err(error) => Err(error),
        };
        Ok(read(&row?, slug)?)
    }
}

fn read(row: &Row, slug: &TenantSlug) -> Result<Tenant> {
    let doing = || while_doing(format!("read the registry's row of tenant {slug}"));
    Ok(Tenant {
        id: OrganizationId(row.try_get(0).map_err(doing())?),
        slug: slug.clone(),
        name: row.try_get(1).map_err(doing())?,
        status: TenantStatus::from(row.try_get::<_, &str>(2).map_err(doing())?),
        created_at: row.try_get(3).map_err(doing())?,
    })
}
