//! Computes a missing value once for all concurrent calls.

use super::{
    CacheError, CacheInner, OnFailure, Result, TenantCache, decode,
    names::Names,
    scripts::{self, CacheState, ComputeToken, Taken},
    settings::lifetime_ms,
    single_flight::{ComputationRole, ComputeOutcome, ComputeTurn, FoundInCache},
};
use crate::tenancy::is_inside_transaction;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    any::Any,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

/// The pause between two checks of a computation in another process: the first and the longest one.
const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// The keys that the caller is computing now, by their Redis names and the handle.
    static COMPUTED: Vec<(usize, String)>;
}

impl TenantCache {
    /// Returns the value of a key. If there is none, runs `compute` and stores its result for `lifetime`.
    ///
    /// Of concurrent calls for the same tenant and key, one computes, and the others get its value or its error. This
    /// applies within this process, and across processes for the time in
    /// [`CacheSettings::lease`](super::CacheSettings::lease). An error is not stored. A value is not stored if the key
    /// was set, deleted or flushed during the computation, and calls that start after that do not get it. A value
    /// larger than [`CacheSettings::value_bytes_max`](super::CacheSettings::value_bytes_max) is returned but not
    /// stored.
    ///
    /// # Waiting
    ///
    /// If a computation has not ended after [`CacheSettings::wait_max`](super::CacheSettings::wait_max), one of the
    /// waiting calls computes too, and after the same time another one. All get the first value that is available. So a
    /// computation that hangs or is no longer polled, for instance after a `select!`, delays the others only for that
    /// time. The same applies to a computation in another process; a value that is computed at the same time as another
    /// process computes it is not stored.
    ///
    /// The call waits for Redis at most three times as long as
    /// [`CacheSettings::operation_limit`](super::CacheSettings::operation_limit). With [`OnFailure::Compute`], a
    /// failing Redis operation is skipped, and concurrent calls of this process share the computation.
    ///
    /// If `compute` requests its own key, it gets [`CacheError::Recursive`]. In a task that it spawned, the request
    /// waits like any other call.
    ///
    /// # Inside a transaction
    ///
    /// Inside a transaction of any [`Db`](crate::Db), a value in Redis is returned. If there is none, this call
    /// computes, waits for no other call, and stores nothing. Another call could need the connection that this one
    /// uses. The data of the transaction may be older than the last `delete`, or may be rolled back. To store the
    /// value, call this before the transaction starts.
    ///
    /// # Errors
    ///
    /// The error of `compute`, and `Invalid` and `Encode`, shared by all waiting calls. `Recursive`. With
    /// [`OnFailure::Error`] also `TimedOut`, `Unavailable` and `Refused`, if nothing was computed yet.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped during its computation, the computation is dropped, and the next waiting call computes.
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
        let began = inner.computations.tick();
        let mut over = false;
        let seen = match scripts::read_state(&inner.connection, &names).await {
            Ok(CacheState::Value(json)) => match decode(&json) {
                Some(value) => return Ok(value),
                None => {
                    over = true;
                    FoundInCache::Missing(None)
                }
            },
            Ok(CacheState::Missing { token }) => FoundInCache::Missing(token),
            Err(error) if inner.settings.on_failure == OnFailure::Error => return Err(fails(error)),
            Err(_) => FoundInCache::Nothing,
        };
        if is_inside_transaction() {
            return compute().await.map_err(Arc::new);
        }
        let computation = inner.computations.join(self.organization, key, began, seen);
        let outcome = match computation.part(inner.settings.wait_max, inner.preparing()).await {
            ComputationRole::Take(outcome) => outcome,
            ComputationRole::Compute(turn) => match inner.lease(&turn, &names, &computation.token, seen, over).await {
                Ok(Leased::Value(json)) => turn.finish(ComputeOutcome::Value(json)),
                Ok(Leased::Compute(lease)) => {
                    turn.computes(inner.settings.wait_max);
                    let computed = match compute().await {
                        Ok(value) => self.keep(&value, lifetime, lease).await.map(|json| (value, json)).map_err(fails),
                        Err(error) => Err(Arc::new(error)),
                    };
                    return match computed {
                        Ok((value, json)) => {
                            turn.finish(ComputeOutcome::Value(json));
                            Ok(value)
                        }
                        Err(error) => {
                            turn.finish(ComputeOutcome::Error(Arc::clone(&error) as _));
                            Err(error)
                        }
                    };
                }
                Err(error) => {
                    let error = fails(error);
                    turn.finish(ComputeOutcome::Error(Arc::clone(&error) as _));
                    return Err(error);
                }
            },
        };
        let shared = match &*outcome {
            ComputeOutcome::Value(json) => decode(json).map(Ok),
            ComputeOutcome::Error(error) => downcast(error).map(Err),
        };
        match shared {
            Some(shared) => shared,
            // The running computation has another type.
            None => compute().await.map_err(Arc::new),
        }
    }

    /// Stores a value if there is a lease, and returns its JSON for the waiting calls.
    async fn keep<T: Serialize>(&self, value: &T, lifetime_ms: u64, lease: Option<ComputeLease>) -> Result<Vec<u8>> {
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

/// The action of the first computing call of this process.
enum Leased {
    /// Returns this value: another process has computed it.
    Value(Vec<u8>),
    /// Computes, and stores the value if there is a lease.
    Compute(Option<ComputeLease>),
}

impl CacheInner {
    /// Returns the keys that the caller is computing, with this one added; an error if it is already among them.
    fn computed_around(self: &Arc<Self>, names: &Names) -> Result<Vec<(usize, String)>> {
        let mut around = COMPUTED.try_with(Clone::clone).unwrap_or_default();
        let this = (Arc::as_ptr(self) as usize, names.value.clone());
        if around.contains(&this) {
            return Err(CacheError::Recursive);
        }
        around.push(this);
        Ok(around)
    }

    /// Returns how long a call may take before it computes: the time to wait for another process and for Redis.
    fn preparing(&self) -> Duration {
        self.settings.wait_max.saturating_add(self.settings.operation_limit)
    }

    /// Gets the lease, or waits for the process that holds it.
    async fn lease(
        self: &Arc<Self>,
        turn: &ComputeTurn,
        names: &Names,
        token: &ComputeToken,
        seen: FoundInCache,
        over: bool,
    ) -> Result<Leased> {
        if matches!(seen, FoundInCache::Nothing) {
            return Ok(Leased::Compute(None));
        }
        let lease_ms = u64::try_from(self.settings.lease.as_millis()).unwrap_or(u64::MAX);
        let (began, mut pause) = (Instant::now(), POLL_MIN);
        // A call that starts to compute because another one is slow has already waited.
        let wait_max = if turn.is_alone { self.settings.wait_max } else { Duration::ZERO };
        loop {
            match scripts::take(&self.connection, names, token, lease_ms, over).await {
                Ok(Taken::Lease(bytes)) => {
                    let lease = ComputeLease { inner: Arc::clone(self), names: names.clone(), bytes: Some(bytes) };
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

/// The right to store a value. If it is dropped unused, a separate task releases it, so that other processes do not
/// wait until it expires.
struct ComputeLease {
    inner: Arc<CacheInner>,
    names: Names,
    bytes: Option<Vec<u8>>,
}

impl ComputeLease {
    async fn store(mut self, json: &[u8], lifetime_ms: u64) {
        let Some(bytes) = &self.bytes else { return };
        match scripts::store(&self.inner.connection, &self.names, bytes, json, lifetime_ms).await {
            // Stored; or lost, because the key was set, deleted or flushed meanwhile.
            Ok(_) => self.bytes = None,
            Err(error) => tracing::debug!(%error, "a computed value was not stored"),
        }
    }
}

impl Drop for ComputeLease {
    fn drop(&mut self) {
        let Some(bytes) = self.bytes.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (inner, name) = (Arc::clone(&self.inner), std::mem::take(&mut self.names.lease));
        runtime.spawn(async move { scripts::release(&inner.connection, &name, &bytes).await });
    }
}
