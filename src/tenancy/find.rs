//! Finds a tenant's row of the registry by its slug.

use super::{Db, Platform};
use crate::{
    error::{Error, Result, SetupError, TenantError},
    registry,
    slug::TenantSlug,
    tenant::Tenant,
};
use tokio_postgres::error::SqlState;

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
        let row = match db.platform().query_opt(registry::FIND, &[&slug.as_str()]).await {
            Ok(row) => row.ok_or_else(|| TenantError::NotFound { tenant: slug.clone() }.into()),
            Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_TABLE) => {
                let missing = "the table public.organizations does not exist".to_owned();
                Err(SetupError::NotSetUp { database: db.inner.database.clone(), missing }.into())
            }
            Err(error) => Err(error),
        };
        Ok(registry::found_tenant(&row?, slug)?)
    }
}
