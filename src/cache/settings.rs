//! The settings of a cache.

use super::{CacheError, Result};
use std::time::Duration;

/// The maximum lifetime of a value.
const LIFETIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long Redis keeps the epoch of a tenant that sets no values: longer than any value.
pub(super) const EPOCH_LIFETIME: Duration = Duration::from_secs(60 * 24 * 3600);

/// The settings of a cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheSettings {
    /// The prefix of all key names in Redis: `^[a-z][a-z0-9_-]{0,31}$`. Default: `cgk`. The identity of the database
    /// follows it. Database copies that got a new identity with `cgk setup:database --new-identity` do not need another
    /// namespace. A server that was copied as a whole, from a base backup or a snapshot of its disk, does.
    pub namespace: String,
    /// What happens if Redis does not respond. Default: [`OnFailure::Compute`].
    pub on_failure: OnFailure,
    /// How long one operation waits for Redis, including the time to connect. Default: 250 ms.
    pub operation_limit: Duration,
    /// How long Redis is not used after a failed connection or a timeout. Default: 500 ms.
    pub retry_pause: Duration,
    /// How long other processes wait for a running computation whose process does not report a result. After this time,
    /// a killed process no longer blocks the key. Default: 10 s.
    pub lease: Duration,
    /// How long a call waits for a computation. After that, one of the waiting calls computes too, and after the same
    /// time another one. A value is not stored if another process computes it at the same time. Default: 2 s.
    pub wait_max: Duration,
    /// The maximum size of a value, in bytes of JSON. Default: 1 MiB.
    pub value_bytes_max: usize,
}

/// What [`TenantCache::get`](super::TenantCache::get) and
/// [`TenantCache::get_or_compute`](super::TenantCache::get_or_compute) do if Redis does not respond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// The value counts as missing: it is computed, and not stored.
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

/// Returns the lifetime of a value in milliseconds.
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
