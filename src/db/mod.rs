//! Connections to PostgreSQL. This module does not use tenants.

mod cancel;
pub(crate) mod connect;
pub(crate) mod identity;
pub(crate) mod message;
pub(crate) mod message_head;
mod operator;
pub(crate) mod own_objects;
#[cfg(feature = "migrate")]
pub(crate) mod own_table;
pub(crate) mod pool;
#[cfg(feature = "migrate")]
pub(crate) mod run_files;
pub(crate) mod search_path;
pub(crate) mod session_reset;
pub(crate) mod tls;

pub use operator::{Operator, ServerFacts};

use std::time::Duration;

/// Returns a time as PostgreSQL reads it. It interprets a plain number as milliseconds, and 0 as no limit. A time
/// between 0 and 1 ms is rounded up to 1.
pub(crate) fn milliseconds(duration: Duration) -> String {
    if duration.is_zero() { "0".into() } else { duration.as_millis().clamp(1, i32::MAX as u128).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_never_becomes_none_by_rounding() {
        assert_eq!(milliseconds(Duration::ZERO), "0");
        assert_eq!(milliseconds(Duration::from_micros(3)), "1");
        assert_eq!(milliseconds(Duration::MAX), i32::MAX.to_string());
    }
}
