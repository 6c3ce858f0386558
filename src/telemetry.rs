//! The metrics of the library, through the facade of the crate `metrics` (feature `metrics`): all names are in this
//! file. Without the feature nothing is counted or computed.
//!
//! | name | kind | labels | what is counted |
//! |---|---|---|---|
//! | `cgk_transactions_total` | counter | `outcome`: `committed`, `failed`, `dropped` | transactions and single statements of tenants and of the platform |
//! | `cgk_transaction_duration_seconds` | histogram | `outcome` | the same, including the wait for a connection |
//! | `cgk_pool_wait_seconds` | histogram | `outcome`: `taken`, `timeout`, `failed` | waits for a connection of the pool, including those that opened one |
//! | `cgk_pool_connections`, `cgk_pool_available`, `cgk_pool_waiting` | gauge | `pool`: the `application_name` of its sessions | the connections of the pool, those that are not in use, and the calls that wait for one; set when a connection is taken, returned or discarded |
//! | `cgk_connections_retired_total` | counter | `reason`: `age`, `tenants`, `unanswered`, `unusable` | connections that left the pool before they were lost |
//! | `cgk_migrated_schemas_total` | counter | `result`: `migrated`, `skipped`, `failed` | schemas of runs over the fleet |
//! | `cgk_http_requests_total` | counter | `method`, `path` (the route's pattern), `status` | requests that went through `cgk::axum::TenantLayer` |
//! | `cgk_http_request_duration_seconds` | histogram | the same | the same |
//!
//! No label contains a tenant, a user or a text of the caller: each has a bounded number of values.

use std::time::{Duration, Instant};

/// The outcome of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordedOutcome {
    Committed,
    Failed,
    /// Its future was dropped.
    Dropped,
}

/// The reason why a connection is not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retired {
    Age,
    Tenants,
    /// A response was still pending on it.
    Unanswered,
    /// A transaction left it in a different state.
    Unusable,
}

/// The result of waiting for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Taken,
    Timeout,
    Failed,
}

/// Counts a transaction when it is dropped, with the last recorded outcome.
pub(crate) struct TransactionTimer {
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nothing is counted"))]
    began: Option<Instant>,
    outcome: RecordedOutcome,
}

impl TransactionTimer {
    pub(crate) fn start() -> Self {
        Self { began: cfg!(feature = "metrics").then(Instant::now), outcome: RecordedOutcome::Dropped }
    }

    pub(crate) fn finish(mut self, outcome: RecordedOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for TransactionTimer {
    fn drop(&mut self) {
        let outcome = match self.outcome {
            RecordedOutcome::Committed => "committed",
            RecordedOutcome::Failed => "failed",
            RecordedOutcome::Dropped => "dropped",
        };
        #[cfg(feature = "metrics")]
        if let Some(began) = self.began {
            ::metrics::counter!("cgk_transactions_total", "outcome" => outcome).increment(1);
            let seconds = ::metrics::histogram!("cgk_transaction_duration_seconds", "outcome" => outcome);
            seconds.record(began.elapsed());
        }
        #[cfg(not(feature = "metrics"))]
        let _ = outcome;
    }
}

/// Counts the wait for a connection.
pub(crate) fn pool_waited(waited: Duration, how: Waited) {
    let outcome = match how {
        Waited::Taken => "taken",
        Waited::Timeout => "timeout",
        Waited::Failed => "failed",
    };
    #[cfg(feature = "metrics")]
    ::metrics::histogram!("cgk_pool_wait_seconds", "outcome" => outcome).record(waited);
    #[cfg(not(feature = "metrics"))]
    let _ = (waited, outcome);
}

/// Records how many connections a pool has, how many are not in use, and how many calls wait. Two pools with the same
/// name overwrite each other's values.
pub(crate) fn pool_load(pool: &std::sync::Arc<str>, load: impl FnOnce() -> (usize, usize, usize)) {
    #[cfg(feature = "metrics")]
    {
        let (size, available, waiting) = load();
        let values = [("cgk_pool_connections", size), ("cgk_pool_available", available), ("cgk_pool_waiting", waiting)];
        for (name, value) in values {
            let value = u32::try_from(value).unwrap_or(u32::MAX);
            ::metrics::gauge!(name, "pool" => std::sync::Arc::clone(pool)).set(f64::from(value));
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (pool, load);
}

/// Counts a connection that is not used again.
pub(crate) fn connection_retired(why: Retired) {
    let reason = match why {
        Retired::Age => "age",
        Retired::Tenants => "tenants",
        Retired::Unanswered => "unanswered",
        Retired::Unusable => "unusable",
    };
    #[cfg(feature = "metrics")]
    ::metrics::counter!("cgk_connections_retired_total", "reason" => reason).increment(1);
    #[cfg(not(feature = "metrics"))]
    let _ = reason;
}

/// Counts the schemas of a run.
#[cfg(feature = "migrate")]
pub(crate) fn schemas_migrated(migrated: usize, skipped: usize, failed: usize) {
    for (result, number) in [("migrated", migrated), ("skipped", skipped), ("failed", failed)] {
        #[cfg(feature = "metrics")]
        ::metrics::counter!("cgk_migrated_schemas_total", "result" => result).increment(number as u64);
        #[cfg(not(feature = "metrics"))]
        let _ = (result, number);
    }
}

/// Counts a request. The path is the route's pattern.
#[cfg(feature = "axum")]
pub(crate) fn request_answered(method: &http::Method, path: Option<&str>, status: u16, elapsed: Duration) {
    #[cfg(feature = "metrics")]
    {
        use http::Method;
        // Any token is a valid method, so a caller could send any number of different ones.
        let known =
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
        let method = known.iter().find(|known| *known == method).map_or("other", Method::as_str).to_owned();
        let labels =
            [("method", method), ("path", path.unwrap_or("unmatched").to_owned()), ("status", status.to_string())];
        ::metrics::counter!("cgk_http_requests_total", &labels).increment(1);
        ::metrics::histogram!("cgk_http_request_duration_seconds", &labels).record(elapsed);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (method, path, status, elapsed);
}
