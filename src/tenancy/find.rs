//! Finds a tenant's registry row by its slug.

use super::{Db, Platform};
use crate::{
    error::{Error, Result, SetupError, TenantError, while_doing},
    registry::{
        self,
        aliases::{self, FoundAlias},
    },
    slug::TenantSlug,
    tenant::Tenant,
};
use std::time::Duration;
use tokio_postgres::error::SqlState;

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Returns the registry row of a tenant, whatever its status is, even if its schema does not exist. A former slug that
    /// is kept ([`RenameOptions::keep_alias`](crate::lifecycle::RenameOptions::keep_alias)) finds the tenant, with the slug
    /// that it has now.
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
        Ok(find_tenant(&self.db().errors(), slug).await?.0)
    }
}

/// [`Platform::find_tenant`]; and how long the tenant is still found, if it was found by a former slug.
pub(crate) async fn find_tenant(db: &Db<Error>, slug: &TenantSlug) -> Result<(Tenant, Option<Duration>)> {
    if let Some(tenant) = by_slug(db, slug).await? {
        return Ok((tenant, None));
    }
    let not_found = || Error::Tenant(TenantError::NotFound { tenant: slug.clone() });
    let exist = db.platform().query_one(aliases::ALIASES_EXIST, &[]).await?;
    let doing = || while_doing(format!("look for the former slug {slug}"));
    if !exist.try_get(0).map_err(doing())? {
        return Err(not_found());
    }
    let row = match db.platform().query_opt(&aliases::find_alias_sql(), &[&slug.as_str()]).await {
        Err(error) if error.sqlstate().is_some_and(aliases::is_closed) => None,
        row => row?,
    };
    let found = row.as_ref().map(FoundAlias::of_row).transpose().map_err(doing())?.flatten();
    let Some(FoundAlias { id, slug: now, left }) = found else { return Err(not_found()) };
    match by_slug(db, &now).await? {
        Some(tenant) if tenant.id == id => {
            db.learn_former(slug);
            Ok((tenant, Some(left)))
        }
        _ => Err(Error::Tenant(TenantError::Changed { tenant: slug.clone() })),
    }
}

async fn by_slug(db: &Db<Error>, slug: &TenantSlug) -> Result<Option<Tenant>> {
    let row = match db.platform().query_opt(registry::FIND, &[&slug.as_str()]).await {
        Err(error) if error.sqlstate() == Some(&SqlState::UNDEFINED_TABLE) => {
            let missing = "the table public.organizations does not exist".to_owned();
            return Err(SetupError::NotSetUp { database: db.inner.database.clone(), missing }.into());
        }
        row => row?,
    };
    row.as_ref().map(|row| registry::found_tenant(row, slug)).transpose()
}
