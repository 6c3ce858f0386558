//! Times and dates for people and for programs.

pub(crate) use cgk::report::duration_text as elapsed;
use std::time::{Duration, SystemTime};

/// `90days`, `1h 30m`: as a flag is written.
pub(crate) fn span(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-22T08:05:09Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    // humantime writes no time before 1970, and no tenant is older.
    humantime::format_rfc3339_seconds(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// `2026-11-22`.
pub(crate) fn date(time: SystemTime) -> String {
    rfc3339(time)[..10].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_utc() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_385_109), "2026-11-22T22:05:09Z");
        assert_eq!(date(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01");
    }
}
