//! Why the cache did not do something.

use std::time::Duration;

/// Why an operation on a cache failed. No text has a key, a value or the URL's password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A key, a lifetime, a setting or the URL cannot be used; Redis was not asked.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why.
        why: &'static str,
    },
    /// The value has no JSON, such as a map whose keys are no texts; Redis was not asked.
    #[error("could not write a cached value as JSON")]
    Encode {
        /// What serde said.
        source: serde_json::Error,
    },
    /// The value's JSON is larger than [`CacheSettings::value_bytes_max`](super::CacheSettings::value_bytes_max); Redis was not asked.
    #[error("a cached value has {bytes} bytes, and {bytes_max} are allowed")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// The computation of a value asks for the same key, and would wait for itself. Redis was not asked.
    #[error("the computation of a cached value asks for the same key")]
    Recursive,
    /// Redis did not answer in time. The operation may be carried out all the same.
    #[error("Redis did not answer within {limit:?}")]
    TimedOut {
        /// [`CacheSettings::operation_limit`](super::CacheSettings::operation_limit)
        limit: Duration,
    },
    /// Redis cannot be reached, or could not a moment ago and is not asked before
    /// [`CacheSettings::retry_pause`](super::CacheSettings::retry_pause) has passed.
    #[error("Redis cannot be reached")]
    Unavailable {
        /// What the connection said; `None` where Redis was not asked.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Redis answered with an error, for instance because its memory is full.
    #[error("Redis refused a command: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
}
