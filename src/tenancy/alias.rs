//! Enters a tenant by a former slug ([`RenameOptions::keep_alias`](crate::lifecycle::RenameOptions::keep_alias)).

use super::{
    Db, TxOptions,
    session::{Behind, CallerScope, TransactionSession},
};
use crate::{
    error::{Error, Result, TenantError},
    slug::TenantSlug,
};
use std::{
    collections::HashSet,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The slugs that were former ones when a handle met them. A call with such a slug waits for the response to its first
/// message; who has the slug is looked up in each call, because it may be another tenant by then.
#[derive(Default)]
pub(super) struct FormerSlugs {
    any: AtomicBool,
    slugs: RwLock<HashSet<TenantSlug>>,
}

impl FormerSlugs {
    pub(super) fn learn(&self, slug: TenantSlug) {
        self.slugs.write().unwrap_or_else(PoisonError::into_inner).insert(slug);
        self.any.store(true, Ordering::Release);
    }

    fn forget(&self, slug: &TenantSlug) {
        self.slugs.write().unwrap_or_else(PoisonError::into_inner).remove(slug);
    }

    fn holds(&self, slug: &TenantSlug) -> bool {
        self.any.load(Ordering::Acquire) && self.slugs.read().unwrap_or_else(PoisonError::into_inner).contains(slug)
    }
}

impl<E> Db<E> {
    /// Notes that a slug is a former one.
    pub(super) fn learn_former(&self, slug: &TenantSlug) {
        self.inner.former.learn(slug.clone());
    }

    /// Takes a connection and sends the first message. For a tenant that the handle knows by a former slug, waits for the
    /// response, and enters the tenant by the slug that it has now.
    pub(super) async fn open(&self, of: CallerScope<'_>, options: &TxOptions) -> Result<TransactionSession> {
        let session = self.open_named(of, None, options).await?;
        match of {
            CallerScope::Tenant(slug) if self.inner.former.holds(slug) => {
                Box::pin(self.follow(session, slug, options)).await
            }
            _ => Ok(session),
        }
    }

    async fn follow(
        &self,
        session: TransactionSession,
        slug: &TenantSlug,
        options: &TxOptions,
    ) -> Result<TransactionSession> {
        if session.shared.entered().await.is_ok() {
            // Another tenant has the slug, or the tenant has it again.
            self.inner.former.forget(slug);
            return Ok(session);
        }
        let (tenant, now, id) = match self.why_refused(session.shared, Behind::Nothing).await {
            Error::Tenant(TenantError::Renamed { tenant, now, id }) => (tenant, now, id),
            error => {
                self.inner.former.forget(slug);
                return Err(error);
            }
        };
        let session = self.open_named(CallerScope::Tenant(&now), Some(slug), options).await?;
        match session.shared.organization().await {
            Ok(found) if found == id => Ok(session),
            // It was renamed again or dropped meanwhile, and another tenant has the slug.
            Ok(_) => {
                session.shared.lease.roll_back().await;
                Err(Error::Tenant(TenantError::Changed { tenant }))
            }
            Err(_) => Err(self.why_refused(session.shared, Behind::Nothing).await),
        }
    }
}
