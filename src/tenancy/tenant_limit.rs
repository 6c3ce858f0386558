//! How many connections of the pool one tenant may use at a time.

use crate::{
    config::PoolSettings,
    error::{ConnectionError, Result},
    slug::TenantSlug,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The limit of each tenant. It keeps the tenants that have a running or waiting call, and no others.
pub(super) struct TenantLimit {
    connections_max: usize,
    wait: Duration,
    tenants: Mutex<HashMap<TenantSlug, Places>>,
}

/// The places of one tenant.
struct Places {
    free: Arc<Semaphore>,
    /// The calls that have a place or wait for one.
    calls: usize,
}

/// A call of a tenant: it has a place, or waits for one.
pub(crate) struct TenantSlot {
    limit: Arc<TenantLimit>,
    tenant: TenantSlug,
    permit: Option<OwnedSemaphorePermit>,
}

impl TenantLimit {
    /// `None`: a tenant may use the whole pool.
    pub(super) fn new(pool: &PoolSettings) -> Option<Arc<Self>> {
        let connections_max = pool.tenant_connections_max?.max(1);
        Some(Arc::new(Self { connections_max, wait: pool.wait, tenants: Mutex::default() }))
    }

    /// Waits until the tenant has a free place; first come, first served.
    pub(super) async fn enter(
        self: &Arc<Self>,
        tenant: &TenantSlug,
        closed: &watch::Sender<bool>,
    ) -> Result<TenantSlot> {
        let (free, mut place) = self.register(tenant);
        let mut closed = closed.subscribe();
        tokio::select! {
            biased;
            permit = free.acquire_owned() => place.permit = Some(permit.expect("nothing closes it")),
            _ = closed.wait_for(|closed| *closed) => return Err(ConnectionError::PoolClosed.into()),
            () = tokio::time::sleep(self.wait) => {
                let (connections_max, waited) = (self.connections_max, self.wait);
                tracing::warn!(%tenant, ?waited, connections_max, "no connection of the tenant became free in time");
                return Err(ConnectionError::TenantLimit { tenant: tenant.clone(), connections_max, waited }.into());
            }
        }
        Ok(place)
    }

    fn register(self: &Arc<Self>, tenant: &TenantSlug) -> (Arc<Semaphore>, TenantSlot) {
        let mut tenants = self.tenants();
        let new = || Places { free: Arc::new(Semaphore::new(self.connections_max)), calls: 0 };
        let places = tenants.entry(tenant.clone()).or_insert_with(new);
        places.calls += 1;
        (Arc::clone(&places.free), TenantSlot { limit: Arc::clone(self), tenant: tenant.clone(), permit: None })
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantSlug, Places>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TenantSlot {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut tenants = self.limit.tenants();
        if let Some(places) = tenants.get_mut(&self.tenant) {
            places.calls -= 1;
            if places.calls == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use futures_util::FutureExt as _;

    fn limit(connections_max: usize, wait: Duration) -> Arc<TenantLimit> {
        let pool = PoolSettings { tenant_connections_max: Some(connections_max), wait, ..PoolSettings::default() };
        TenantLimit::new(&pool).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_has_its_places_and_no_other_waits_for_them() {
        let (limit, closed) = (limit(2, Duration::from_secs(10)), watch::Sender::new(false));
        let [acme, globex]: [TenantSlug; 2] = ["acme", "globex"].map(|slug| slug.parse().unwrap());
        let places = [limit.enter(&acme, &closed).await.unwrap(), limit.enter(&acme, &closed).await.unwrap()];
        assert!(limit.enter(&acme, &closed).now_or_never().is_none(), "there are two");
        assert!(limit.enter(&globex, &closed).now_or_never().is_some(), "they are another tenant's");
        // First come, first served; a call that is dropped while it waits takes no place.
        let mut first = Box::pin(limit.enter(&acme, &closed));
        let mut second = Box::pin(limit.enter(&acme, &closed));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        let [one, two] = places;
        drop(one);
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        let third = second.await.unwrap();
        // The whole wait, and its error.
        let refused = limit.enter(&acme, &closed).await.err().unwrap();
        assert!(
            matches!(&refused, Error::Connection(ConnectionError::TenantLimit { tenant, connections_max: 2, waited })
                if *tenant == acme && *waited == Duration::from_secs(10)),
            "{refused:?}"
        );
        // A closed pool ends the wait.
        let mut waiting = Box::pin(limit.enter(&acme, &closed));
        assert!(waiting.as_mut().now_or_never().is_none());
        closed.send_replace(true);
        let error = waiting.await.err().unwrap();
        assert!(matches!(error, Error::Connection(ConnectionError::PoolClosed)), "{error:?}");
        assert_eq!(limit.tenants().len(), 1);
        drop((two, third));
        assert_eq!(limit.tenants().len(), 0, "nothing is kept of a tenant without calls");
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        assert!(TenantLimit::new(&PoolSettings::default()).is_none());
    }
}
