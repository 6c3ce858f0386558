//! Formats times and dates as text.

pub(crate) use cgk::report::{duration_text as elapsed, instant_text as rfc3339};
use std::time::{Duration, SystemTime};

/// Returns a duration in the format of flags, such as `90days` or `1h 30m`.
pub(crate) fn span(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a date such as `2026-11-22`.
pub(crate) fn date(time: SystemTime) -> String {
    let text = rfc3339(time);
    let era = if text.ends_with("BC") { " BC" } else { "" };
    format!("{}{era}", text.split('T').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc() {
        let after = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(rfc3339(after(1_795_385_109)), "2026-11-22T22:05:09Z");
        assert_eq!(date(after(1_795_385_109)), "2026-11-22");
        assert_eq!(date(after(253_402_300_800)), "10000-01-01");
        assert_eq!(date(after(u64::MAX / 2)), "infinity");
        assert_eq!(date(SystemTime::UNIX_EPOCH - Duration::from_secs(62_135_596_801)), "0001-12-31 BC");
    }
}
