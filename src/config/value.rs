//! Parses values in environment variables and in `cgk.toml`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::error::ValueProblem;

/// Reads `true`, `1`, `yes`, `on` and their opposites, in any case.
pub(super) fn boolean(text: &str) -> Result<bool, ValueProblem> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(ValueProblem::invalid("is neither true nor false", "Write true or false.")),
    }
}

/// Reads a count of at least one.
pub(super) fn count(text: &str) -> Result<usize, ValueProblem> {
    text.parse()
        .map_err(|_| ValueProblem::invalid("is not a whole number", "Write a number from 1 up."))
        .and_then(positive)
}

/// Accepts a count of at least one.
pub(super) fn positive(count: usize) -> Result<usize, ValueProblem> {
    match count {
        0 => Err(ValueProblem::invalid("is zero", "Write a number from 1 up.")),
        _ => Ok(count),
    }
}

/// The longest time that PostgreSQL accepts: 2³¹ − 1 milliseconds, about 24 days.
pub(super) const DURATION_MAX: Duration = Duration::from_millis(i32::MAX as u64);

/// Reads a time with its unit, as PostgreSQL writes it: `500ms`, `3s`, `5min`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, ValueProblem> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let bad = |what| ValueProblem::invalid(what, "Write a whole number and its unit: 500ms, 3s, 5min or 1h.");
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "" if !number.is_empty() => return Err(bad("is a time without its unit")),
        _ => return Err(bad("is not a time")),
    };
    let number: u64 = number.parse().map_err(|_| bad("is not a time"))?;
    let duration = number.checked_mul(milliseconds).map(Duration::from_millis);
    duration.filter(|duration| *duration <= DURATION_MAX).ok_or_else(|| bad("is longer than 24 days"))
}

/// Writes a time in the format that [`duration`] reads, in the largest unit that divides it.
pub(super) fn show(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [(3_600_000_u128, "h"), (60_000, "min"), (1_000, "s")];
    match units.into_iter().find(|(unit, _)| milliseconds != 0 && milliseconds.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

/// A [`Duration`] in `cgk.toml`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time with its unit, such as \"3s\" or \"500ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                duration(text).map(Span).map_err(|_| E::custom("expected a time up to 24 days, such as \"3s\""))
            }
        }
        deserializer.deserialize_str(SpanVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit() {
        for (text, milliseconds) in [("0s", 0), ("500ms", 500), ("3s", 3_000), ("5 min", 300_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(milliseconds), "{text}");
        }
        for bad in ["", "3", "s", "-3s", "3 weeks", "1.5s", "25000000000s", "99999999999999999999s", "600h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn booleans_and_counts() {
        assert!(boolean("Yes").unwrap());
        assert!(!boolean("0").unwrap());
        assert!(boolean("maybe").is_err());
        assert_eq!(count("3").unwrap(), 3);
        assert!(count("0").is_err());
        assert!(count("-1").is_err());
    }

    proptest! {
        #[test]
        fn durations_read_back(milliseconds in 0..=i32::MAX as u64) {
            let time = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&show(time)).unwrap(), time);
        }
    }
}
