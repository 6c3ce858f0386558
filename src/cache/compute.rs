//! A value that is computed when it is missing, once for all who ask.

use super::{
    CacheError, Inner, OnFailure, Result, TenantCache, decode,
    flight::{Outcome, Part, Seen, Turn},
    names::Names,
    scripts::{self, Look, Taken, Token},
    settings::lifetime_ms,
};
use crate::tenancy::is_inside_transaction;
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

tokio::task_local! {
    /// The keys whose values are computed around the caller, by the names of their values and the handle.
    static COMPUTED: Vec<(usize, String)>;
}

impl TenantCache {
    /// The value of a key, or what `compute` returns, which is stored for so long.
    ///
    /// Of calls at the same time for the same tenant and key, one computes and the others get its value or its error: in this
    /// process, and over processes for as long as [`CacheSettings::lease`](super::CacheSettings::lease) says. An error is not
    /// stored. A value is not stored if the
    /// key was set, deleted or flushed while it was computed, and the calls that begin after that do not get it. A value that
    /// is larger than [`CacheSettings::value_bytes_max`](super::CacheSettings::value_bytes_max) is returned and not stored.
    ///
    /// # Waiting
    ///
    /// When a computation has not ended after [`CacheSettings::wait_max`](super::CacheSettings::wait_max), one of the calls
    /// that wait computes too, then after the same time another one, and all get the value that is there first. So a
    /// computation that is not polled any more, as one that a `select!` has left behind, or that hangs, holds the others up for
    /// that time and no longer. Of another process the same is true; what is computed beside its computation is not stored.
    ///
    /// Redis is waited for at most three times as long as [`CacheSettings::operation_limit`](super::CacheSettings::operation_limit).
    /// With [`OnFailure::Compute`] whatever fails there is left out,
    /// and calls of this process that come while a value is computed share it.
    ///
    /// A `compute` that asks for its own key gets [`CacheError::Recursive`]; from a task that it has spawned, it waits like
    /// any other call.
    ///
    /// # Inside a transaction
    ///
    /// Inside a transaction of any [`Db`](crate::Db) a value that is in Redis is returned. Otherwise this call computes, waits
    /// for no other call, and stores nothing: the call that it waited for could need the connection that it holds, and what a
    /// transaction sees may be older than the last `delete`, or be rolled back. Ask before the transaction begins, where the
    /// value is to be stored.
    ///
    /// # Errors
    ///
    /// What `compute` returns, and `Invalid` and `Encode`, shared by all who waited. `Recursive`. With [`OnFailure::Error`]
    /// also `TimedOut`, `Unavailable` and `Refused`, where nothing was computed yet.
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
        let around = inner.computed_around(&names).map_err(fails)?;
        let compute = || COMPUTED.scope(around, compute());
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
        if is_inside_transaction() {
            return compute().await.map_err(Arc::new);
        }
        let flight = inner.flights.join(self.organization, key, began, seen);
        let outcome = match flight.part(inner.settings.wait_max, inner.preparing()).await {
            Part::Take(outcome) => outcome,
            Part::Compute(turn) => match inner.lease(&turn, &names, &flight.token, seen, over).await {
                Ok(Leased::Value(json)) => turn.finish(Outcome::Value(json)),
                Ok(Leased::Compute(lease)) => {
                    turn.computes(inner.settings.wait_max);
                    let computed = match compute().await {
                        Ok(value) => self.keep(&value, lifetime, lease).await.map(|json| (value, json)).map_err(fails),
                        Err(error) => Err(Arc::new(error)),
                    };
                    return match computed {
                        Ok((value, json)) => {
                            turn.finish(Outcome::Value(json));
                            Ok(value)
                        }
                        Err(error) => {
                            turn.finish(Outcome::Error(Arc::clone(&error) as _));
                            Err(error)
                        }
                    };
                }
                Err(error) => {
                    let error = fails(error);
                    turn.finish(Outcome::Error(Arc::clone(&error) as _));
                    return Err(error);
                }
            },
        };
        let shared = match &*outcome {
            Outcome::Value(json) => decode(json).map(Ok),
            Outcome::Error(error) => downcast(error).map(Err),
        };
        match shared {
            Some(shared) => shared,
            // Others asked for the same key with another type.
            None => compute().await.map_err(Arc::new),
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
    /// The keys that are computed around the caller, and this one; an error if it is among them.
    fn computed_around(self: &Arc<Self>, names: &Names) -> Result<Vec<(usize, String)>> {
        let mut around = COMPUTED.try_with(Clone::clone).unwrap_or_default();
        let this = (Arc::as_ptr(self) as usize, names.value.clone());
        if around.contains(&this) {
            return Err(CacheError::Recursive);
        }
        around.push(this);
        Ok(around)
    }

    /// How long a call may take before it computes: it waits for another process, and for Redis.
    fn preparing(&self) -> Duration {
        self.settings.wait_max.saturating_add(self.settings.operation_limit)
    }

    /// Gets the right to compute and store, or waits for the process that has it.
    async fn lease(
        self: &Arc<Self>,
        turn: &Turn,
        names: &Names,
        token: &Token,
        seen: Seen,
        over: bool,
    ) -> Result<Leased> {
        if matches!(seen, Seen::Nothing) {
            return Ok(Leased::Compute(None));
        }
        let lease_ms = u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX);
        let (began, mut pause) = (Instant::now(), POLL_MIN);
        // Who computes beside a call that does not end has waited already.
        let wait_max = if turn.is_alone { self.settings.wait_max } else { Duration::ZERO };
        loop {
            match scripts::take(&self.connection, names, token, lease_ms, over).await {
                Ok(Taken::Lease(bytes)) => {
                    let lease = Lease { inner: Arc::clone(self), names: names.clone(), bytes: Some(bytes) };
                    return Ok(Leased::Compute(Some(lease)));
                }
                Ok(Taken::Value(json)) => return Ok(Leased::Value(json)),
                Ok(Taken::Held) if began.elapsed() >= wait_max => return Ok(Leased::Compute(None)),
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
