//! The errors of the cache.

use std::time::Duration;

/// Why an operation on a cache failed. The texts contain no key, no value and no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A key, a lifetime, a setting or the URL is not valid; nothing was sent to Redis.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// The invalid item.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The value cannot be written as JSON, for instance a map whose keys are not texts; nothing was sent to Redis.
    #[error("could not write a cached value as JSON")]
    Encode {
        /// The error of serde.
        source: serde_json::Error,
    },
    /// The value's JSON is larger than [`CacheSettings::value_bytes_max`](super::CacheSettings::value_bytes_max);
    /// nothing was sent to Redis.
    #[error("a cached value has {bytes} bytes, and {bytes_max} are allowed")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The maximum size.
        bytes_max: usize,
    },
    /// The computation of a value requests the same key, and would wait for itself. Nothing was sent to Redis.
    #[error("the computation of a cached value asks for the same key")]
    Recursive,
    /// Redis did not respond in time. The operation may still be executed.
    #[error("Redis did not answer within {limit:?}")]
    TimedOut {
        /// The limit, [`CacheSettings::operation_limit`](super::CacheSettings::operation_limit).
        limit: Duration,
    },
    /// Redis cannot be reached, or could not be reached less than
    /// [`CacheSettings::retry_pause`](super::CacheSettings::retry_pause) ago.
    #[error("Redis cannot be reached")]
    Unavailable {
        /// The connection error; `None` if nothing was sent to Redis.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Redis responded with an error, for instance because its memory is full.
    #[error("Redis refused a command: {message}")]
    Refused {
        /// The message.
        message: String,
    },
}
