//! Metrics, and usage events.

use super::error::{FlagsError, Result};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime};

/// The maximum quantity of one event.
pub(super) const QUANTITY_MAX: u64 = 1_000_000_000_000_000;
/// The maximum length of an event's key.
const KEY_CHARS_MAX: usize = 255;
/// The times that the tables accept: from 1 January 2000 to 31 December 2999, in seconds since 1970.
const TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(946_684_800)..=Duration::from_secs(32_503_593_600);

/// A metric of usage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Metric {
    /// Calls of the product's API: a counter, summed by month.
    ApiCalls,
    /// Bytes, or another unit of the product: a level, of which the last value counts.
    Storage,
    /// Users who can sign in: a level.
    Seats,
    /// The product's own counter, such as `exports`.
    Custom(String),
}

impl Metric {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ApiCalls => "api_calls",
            Self::Storage => "storage",
            Self::Seats => "seats",
            Self::Custom(_) => "custom",
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Custom(name) => name,
            _ => "",
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Custom(name) => name,
            other => other.kind(),
        })
    }
}

/// A usage event. Each key is counted once, so an event may be sent again.
///
/// ```
/// use cgk::flags::{Metric, UsageEvent};
/// let call = UsageEvent::new("request-7f3a", Metric::ApiCalls, 1);
/// let seats = UsageEvent::new("members-2026-11-27", Metric::Seats, 12).at(std::time::SystemTime::now());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct UsageEvent {
    pub(super) key: String,
    pub(super) metric: Metric,
    pub(super) quantity: u64,
    pub(super) occurred_at: SystemTime,
    pub(super) attributes: Map<String, Value>,
}

impl UsageEvent {
    /// Creates an event that happens now. The key identifies this event within the organization, for example the id of
    /// a request.
    pub fn new(key: impl Into<String>, metric: Metric, quantity: u64) -> Self {
        Self { key: key.into(), metric, quantity, occurred_at: SystemTime::now(), attributes: Map::new() }
    }

    /// Sets when it happened. The time determines its month.
    pub fn at(mut self, occurred_at: SystemTime) -> Self {
        self.occurred_at = occurred_at;
        self
    }

    /// Adds an attribute with more information.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// Returns an error that names what the tables would refuse.
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |what, why: &str| Err(FlagsError::Invalid { what, why: why.into() });
        if self.key.is_empty() || self.key.chars().count() > KEY_CHARS_MAX || self.key.contains('\0') {
            return invalid("the key of a usage event", "it has 1 to 255 characters and no NUL");
        }
        if self.quantity > QUANTITY_MAX {
            return invalid("the quantity of a usage event", "it is at most 10^15");
        }
        if !self.occurred_at.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|time| TIMES.contains(&time)) {
            return invalid("the time of a usage event", "it is from 2000 to 2999");
        }
        if self.attributes.iter().any(|(name, value)| name.contains('\0') || has_nul(value)) {
            return invalid("the attributes of a usage event", "no text in them has a NUL");
        }
        check_name(&self.metric)
    }
}

/// Returns whether a text in the value contains NUL, which PostgreSQL's JSON cannot store.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// Returns an error if the tables would refuse the name of a custom metric.
pub(super) fn check_name(metric: &Metric) -> Result<()> {
    let Metric::Custom(name) = metric else { return Ok(()) };
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|byte| byte.is_ascii_lowercase());
    let others = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    if first && name.len() <= 100 && letters.all(others) {
        return Ok(());
    }
    let why = "it begins with a letter, and has up to 100 small letters, digits, and _ . -".into();
    Err(FlagsError::Invalid { what: "the name of a custom metric", why })
}
