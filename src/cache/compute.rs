//! A value that is computed when it is missing, once for all who ask.

use super::{
    CacheError, Inner, OnFailure, Result, TenantCache, decode,
    flight::{Flight, Outcome, Seen},
    names::Names,
    scripts::{self, Look, Taken},
    settings::lifetime_ms,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    any::Any,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two looks at a computation of another process, at first and at most.
const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(50);

impl TenantCache {
    /// The value of a key, or what `compute` returns, which is stored for so long.
    ///
    /// Of calls at the same time for the same tenant and key, one computes and the others get its value or its error: in this
    /// process always, over processes for as long as [`CacheSettings::lease`](super::CacheSettings::lease) and
    /// [`CacheSettings::wait_max`](super::CacheSettings::wait_max) say. An error is not stored. A value is not stored if the
    /// key was set, deleted or flushed while it was computed, and the calls that begin after that do not get it. A value that
    /// is larger than [`CacheSettings::value_bytes_max`](super::CacheSettings::value_bytes_max) is returned and not stored.
    ///
    /// Redis is waited for at most three times as long as [`CacheSettings::operation_limit`](super::CacheSettings::operation_limit),
    /// and `wait_max` besides where another process computes. With [`OnFailure::Compute`] whatever fails there is left out,
    /// and calls of this process that come while a value is computed share it.
    ///
    /// # Errors
    ///
    /// What `compute` returns, and `Invalid` and `Encode`, shared by all who waited. With [`OnFailure::Error`] also `TimedOut`,
    /// `Unavailable` and `Refused`, where nothing was computed yet.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it computes, the computation is dropped; of the calls that wait for it, the next one computes.
    pub async fn get_or_compute<T, E, F, C>(&self, key: &str, lifetime: Duration, compute: F) -> Result<T, Arc<E>>
    where
        T: Serialize + DeserializeOwned + Send,
        E: From<CacheError> + Send + Sync + 'static,
        F: FnOnce() -> C + Send,
        C: Future<Output = Result<T, E>> + Send,
    {
        let inner = &self.inner;
        let fails = |error: CacheError| Arc::new(E::from(error));
        let names = self.names(key).map_err(fails)?;
        let lifetime = lifetime_ms(lifetime).map_err(fails)?;
        let began = inner.flights.tick();
        let mut over = false;
        let seen = match scripts::look(&inner.connection, &names).await {
            Ok(Look::Value(json)) => match decode(&json) {
                Some(value) => return Ok(value),
                None => {
                    over = true;
                    Seen::Missing(None)
                }
            },
            Ok(Look::Missing { token }) => Seen::Missing(token),
            Err(error) if inner.settings.on_failure == OnFailure::Error => return Err(fails(error)),
            Err(_) => Seen::Nothing,
        };
        let flight = inner.flights.join(self.organization, key, began, seen);
        let (mut compute, mut own) = (Some(compute), None);
        let outcome = flight.outcome.get_or_init(async || {
            let lease = match inner.lease(&flight, &names, seen, over).await {
                Ok(Leased::Value(json)) => return Outcome::Value(json),
                Ok(Leased::Compute(lease)) => lease,
                Err(error) => return Outcome::Error(fails(error)),
            };
            flight.computes();
            let compute = compute.take().expect("only one of the two places computes");
            match compute().await {
                Ok(value) => match self.keep(&value, lifetime, lease).await {
                    Ok(json) => {
                        own = Some(value);
                        Outcome::Value(json)
                    }
                    Err(error) => Outcome::Error(fails(error)),
                },
                Err(error) => Outcome::Error(Arc::new(error)),
            }
        });
        match (outcome.await, own) {
            (_, Some(value)) => Ok(value),
            (Outcome::Value(json), None) => match (decode(json), compute) {
                (Some(value), _) => Ok(value),
                // Others asked for the same key with another type.
                (None, Some(compute)) => compute().await.map_err(Arc::new),
                (None, None) => unreachable!("what this call computed is its own value"),
            },
            (Outcome::Error(error), None) => match (downcast(error), compute) {
                (Some(error), _) => Err(error),
                (None, Some(compute)) => compute().await.map_err(Arc::new),
                (None, None) => unreachable!("what this call computed has its own error"),
            },
        }
    }

    /// Stores a value if there is a lease, and returns its JSON for those who wait.
    async fn keep<T: Serialize>(&self, value: &T, lifetime_ms: u64, lease: Option<Lease>) -> Result<Vec<u8>> {
        let json = match self.encode(value) {
            Err(CacheError::TooLarge { bytes, bytes_max }) => {
                tracing::warn!(bytes, bytes_max, "a value is too large for the cache");
                return serde_json::to_vec(value).map_err(|source| CacheError::Encode { source });
            }
            other => other?,
        };
        if let Some(lease) = lease {
            lease.store(&json, lifetime_ms).await;
        }
        Ok(json)
    }
}

fn downcast<E: Send + Sync + 'static>(error: &Arc<dyn Any + Send + Sync>) -> Option<Arc<E>> {
    Arc::clone(error).downcast().ok()
}

/// What a call does that computes first in this process.
enum Leased {
    /// Return this: another process has computed it.
    Value(Vec<u8>),
    /// Compute, and store the value if there is a lease.
    Compute(Option<Lease>),
}

impl Inner {
    /// Gets the right to compute, or waits for the process that has it.
    async fn lease(self: &Arc<Self>, flight: &Flight, names: &Names, seen: Seen, over: bool) -> Result<Leased> {
        if matches!(seen, Seen::Nothing) {
            return Ok(Leased::Compute(None));
        }
        let lease_ms = u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX);
        let (began, mut pause) = (Instant::now(), POLL_MIN);
        loop {
            match scripts::take(&self.connection, names, &flight.token, lease_ms, over).await {
                Ok(Taken::Lease(bytes)) => {
                    let lease = Lease { inner: Arc::clone(self), names: names.clone(), bytes: Some(bytes) };
                    return Ok(Leased::Compute(Some(lease)));
                }
                Ok(Taken::Value(json)) => return Ok(Leased::Value(json)),
                Ok(Taken::Held) if began.elapsed() >= self.settings.wait_max => return Ok(Leased::Compute(None)),
                Ok(Taken::Held) => tokio::time::sleep(pause).await,
                Err(error) if self.settings.on_failure == OnFailure::Error => return Err(error),
                Err(_) => return Ok(Leased::Compute(None)),
            }
            pause = (pause * 2).min(POLL_MAX);
        }
    }
}

/// The right to store a value. Dropped without that, it is given back in a task of its own, so that other processes do not wait
/// for its time to end.
struct Lease {
    inner: Arc<Inner>,
    names: Names,
    bytes: Option<Vec<u8>>,
}

impl Lease {
    async fn store(mut self, json: &[u8], lifetime_ms: u64) {
        let Some(bytes) = &self.bytes else { return };
        match scripts::store(&self.inner.connection, &self.names, bytes, json, lifetime_ms).await {
            // Stored; or lost, because the key was set, deleted or flushed meanwhile.
            Ok(_) => self.bytes = None,
            Err(error) => tracing::debug!(%error, "a computed value was not stored"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (inner, name) = (Arc::clone(&self.inner), std::mem::take(&mut self.names.lease));
        runtime.spawn(async move { scripts::release(&inner.connection, &name, &bytes).await });
    }
}
