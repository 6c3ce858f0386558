//! How a cache behaves.

use super::{CacheError, Result};
use std::time::Duration;

/// The longest lifetime of a value.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long Redis keeps the epoch of a tenant that sets nothing: longer than any value.
pub(super) const EPOCH_LIFETIME: Duration = Duration::from_secs(60 * 24 * 3600);

/// How a cache behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheSettings {
    /// What the names of all keys in Redis start with: `^[a-z][a-z0-9_-]{0,31}$`. `cgk` unless set. The identity of the
    /// database follows, so copies of a database that `cgk setup:database --new-identity` has told apart need none of their own;
    /// a server that was copied as a whole, from a base backup or a snapshot of its disk, does.
    pub namespace: String,
    /// What happens where Redis does not answer. [`OnFailure::Compute`] unless set.
    pub on_failure: OnFailure,
    /// How long one operation waits for Redis, with the time to connect. 250 ms unless set.
    pub operation_limit: Duration,
    /// After a connection failed or an operation timed out, Redis is not asked for so long. 500 ms unless set.
    pub retry_pause: Duration,
    /// How long others wait with their own computation for one that is under way, if its process does not say how it ended:
    /// the time after which a process that was killed is forgotten. 10 s unless set.
    pub lease: Duration,
    /// How long a computation is waited for. After that one of the calls that wait computes too, and after the same time
    /// another one; beside a computation of another process it stores nothing. 2 s unless set.
    pub wait_max: Duration,
    /// The largest value, in bytes of JSON. 1 MiB unless set.
    pub value_bytes_max: usize,
}

/// What [`TenantCache::get`](super::TenantCache::get) and [`TenantCache::get_or_compute`](super::TenantCache::get_or_compute)
/// do where Redis does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// As if there were no value: it is computed, and not stored.
    Compute,
    /// The error is returned, and nothing is computed.
    Error,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            namespace: "cgk".into(),
            on_failure: OnFailure::Compute,
            operation_limit: Duration::from_millis(250),
            retry_pause: Duration::from_millis(500),
            lease: Duration::from_secs(10),
            wait_max: Duration::from_secs(2),
            value_bytes_max: 1 << 20,
        }
    }
}

impl CacheSettings {
    pub(super) fn check(&self) -> Result<()> {
        let name = &self.namespace;
        let fits = (1..=32).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
        if !fits {
            let why = "it must match ^[a-z][a-z0-9_-]{0,31}$";
            return Err(CacheError::Invalid { what: "the namespace of a cache", why });
        }
        let span = |span: Duration, what| match (Duration::from_millis(1)..=LIFETIME_MAX).contains(&span) {
            true => Ok(()),
            false => Err(CacheError::Invalid { what, why: "it must be a millisecond to 30 days" }),
        };
        span(self.operation_limit, "the time limit of a cache's operation")?;
        span(self.lease, "the lease of a cache's computation")
    }
}

/// The lifetime of a value in milliseconds.
pub(super) fn lifetime_ms(lifetime: Duration) -> Result<u64> {
    let what = "the lifetime of a cached value";
    match u64::try_from(lifetime.as_millis()) {
        Ok(0) => Err(CacheError::Invalid { what, why: "it must be at least a millisecond" }),
        Ok(ms) if lifetime <= LIFETIME_MAX => Ok(ms),
        _ => Err(CacheError::Invalid { what, why: "it must be at most 30 days" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_kept_is_refused() {
        assert!(CacheSettings::default().check().is_ok());
        for namespace in ["", "A", "a:b", "a{b", "1a", "a b", &"a".repeat(33)] {
            let settings = CacheSettings { namespace: namespace.into(), ..Default::default() };
            assert!(settings.check().is_err(), "{namespace:?}");
        }
        let none = CacheSettings { operation_limit: Duration::ZERO, ..Default::default() };
        assert!(none.check().is_err());
        assert_eq!(lifetime_ms(Duration::from_millis(1_500)).unwrap(), 1_500);
        assert_eq!(lifetime_ms(LIFETIME_MAX).unwrap(), 2_592_000_000);
        for bad in [Duration::ZERO, Duration::from_micros(999), LIFETIME_MAX + Duration::from_nanos(1), Duration::MAX] {
            assert!(lifetime_ms(bad).is_err(), "{bad:?}");
        }
    }
}
