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

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-22T08:05:09Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// `2026-11-22`.
pub(crate) fn date(time: SystemTime) -> String {
    rfc3339(time)[..10].to_owned()
}

/// The date of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`: March is the first month, so that the
/// leap day is the last day of a year.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        let at = |seconds| rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_385_109), "2026-11-22T22:45:09Z");
        assert_eq!(date(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31");
    }

    #[test]
    fn times_are_short() {
        let text = |ms| elapsed(Duration::from_millis(ms));
        assert_eq!((text(12), text(1_349), text(125_000)), ("12 ms".into(), "1.3 s".into(), "2 min 5 s".into()));
    }
}
