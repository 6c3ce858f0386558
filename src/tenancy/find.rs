//! Finds a tenant's registry row by its slug.

use super::{Db, Platform};
use crate::{
    error::{Error, Result, SetupError, TenantError},
    registry,
    slug::TenantSlug,
    tenant::Tenant,
};
use tokio_postgres::error::SqlState;

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Returns the registry row of a tenant, whatever its status is, even if its schema does not exist.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Kind `NotFound`: when no tenant has this slug ([`TenantError::NotFound`]). Kind `NotReady`: when the database
    /// has no registry ([`SetupError::NotSetUp`]). The other errors are those of [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is changed.
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
