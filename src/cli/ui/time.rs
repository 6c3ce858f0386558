//! Times and dates for people and for programs.

use std::time::{Duration, SystemTime};

/// `12 ms`, `1.3 s`, `2 min 5 s`.
pub(crate) fn elapsed(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match duration.as_secs() {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

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

    #[test]
    fn times_are_short() {
        let text = |ms| elapsed(Duration::from_millis(ms));
        assert_eq!((text(12), text(1_349), text(125_000)), ("12 ms".into(), "1.3 s".into(), "2 min 5 s".into()));
    }
}
