//! Formats sizes, durations and times as text.

use std::time::{Duration, SystemTime};

const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];

/// Returns a size as `512 B`, `8.0 kB` or `1.3 GB`. The steps are 1024, as in PostgreSQL.
pub fn size_text(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut whole, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while whole >= 10 * 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", whole / 10, whole % 10, UNITS[unit])
}

/// Returns a duration as `12 ms`, `1.3 s` or `2 min 5 s`.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match duration.as_secs() {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// The first second after the last year of a PostgreSQL server, 294276, in seconds since 1970.
const INFINITY_FROM: i128 = 9_224_318_016_000;
/// The first second of the first year of a PostgreSQL server, 4714 BC, in seconds since 1970.
const MINUS_INFINITY_BEFORE: i128 = -210_895_056_000;
const DAY_SECONDS: i128 = 86_400;

/// Returns a time as `2026-11-22T08:05:09Z`, in UTC. A time that PostgreSQL supports and RFC 3339 does not is written
/// as the server writes it: `10000-01-01T00:00:00Z`, `0044-03-15T00:00:00Z BC`, `infinity`, `-infinity`.
pub fn instant_text(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i128::from(since.as_secs()),
        // Rounded down, as times after 1970 are.
        Err(before) => {
            let before = before.duration();
            -i128::from(before.as_secs()) - i128::from(before.subsec_nanos() > 0)
        }
    };
    match seconds {
        INFINITY_FROM.. => "infinity".into(),
        ..MINUS_INFINITY_BEFORE => "-infinity".into(),
        _ => {
            let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
            let second = seconds.rem_euclid(DAY_SECONDS);
            // There is no year 0: it is 1 BC.
            let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
            let (hours, minutes, second) = (second / 3600, second / 60 % 60, second % 60);
            format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{second:02}Z{era}")
        }
    }
}

/// Returns year, month and day of the Gregorian calendar for a number of days since 1970. Years start on March 1, so
/// that the leap day is the last day: <https://howardhinnant.github.io/date_algorithms.html#civil_from_days>
fn civil(days: i128) -> (i128, i128, i128) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + i128::from(month <= 2), month, day)
}

/// Returns a time as `2026-11-22 08:05 UTC`.
pub(super) fn minute(time: SystemTime) -> String {
    let text = instant_text(time);
    match text.split_once('T') {
        Some((date, time)) => format!("{date} {} UTC", &time[..5]),
        None => text,
    }
}

/// Returns a number as `10,000`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number and its noun, as `1 tenant` or `10,000 tenants`.
pub(super) fn count(count: usize, noun: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{} {noun}{many}", number(count as u64))
}

/// Returns a percentage as `12.5 %`. A part above zero is never `0.0 %`, and a part below the whole is never `100.0 %`.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let thousandths = (u128::from(part) * 2000 / u128::from(whole.max(1))).div_ceil(2);
    match (part, thousandths) {
        (1.., 0) => "< 0.1 %".into(),
        (_, 1000..) if part < whole => "> 99.9 %".into(),
        _ => format!("{}.{} %", thousandths / 10, thousandths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let texts = [0, 1023, 1024, 1536, 1 << 20, 10 << 30, u64::MAX >> 4].map(size_text);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 kB", "1.5 kB", "1.0 MB", "10.0 GB", "1023.9 PB"]);
    }

    #[test]
    fn durations_are_short() {
        let texts = [12, 1_349, 125_000].map(|ms| duration_text(Duration::from_millis(ms)));
        assert_eq!(texts, ["12 ms", "1.3 s", "2 min 5 s"]);
    }

    #[test]
    fn numbers_are_grouped_and_parts_are_not_hidden() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(1, 10_000), "< 0.1 %");
        assert_eq!((percent(0, 0), percent(1, 8), percent(8, 8)), ("0.0 %".into(), "12.5 %".into(), "100.0 %".into()));
        assert_eq!((percent(2, 12), percent(9_999, 10_000)), ("16.7 %".into(), "> 99.9 %".into()));
        assert_eq!(count(1, "tenant") + &count(2000, " tenant"), "1 tenant2,000  tenants");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_385_109);
        assert_eq!(
            (instant_text(time).as_str(), minute(time).as_str()),
            ("2026-11-22T22:05:09Z", "2026-11-22 22:05 UTC")
        );
    }

    #[test]
    fn times_that_rfc_3339_cannot_hold_are_written_too() {
        let at = |seconds: i64| match seconds {
            0.. => SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs()),
            _ => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()),
        };
        for (seconds, text, minute_text) in [
            (951_782_400, "2000-02-29T00:00:00Z", "2000-02-29 00:00 UTC"),
            (-1, "1969-12-31T23:59:59Z", "1969-12-31 23:59 UTC"),
            (-2_208_988_800, "1900-01-01T00:00:00Z", "1900-01-01 00:00 UTC"),
            (253_402_300_799, "9999-12-31T23:59:59Z", "9999-12-31 23:59 UTC"),
            (253_402_300_800, "10000-01-01T00:00:00Z", "10000-01-01 00:00 UTC"),
            (9_224_318_015_999, "294276-12-31T23:59:59Z", "294276-12-31 23:59 UTC"),
            (9_224_318_016_000, "infinity", "infinity"),
            (i64::MAX, "infinity", "infinity"),
            (-62_135_596_801, "0001-12-31T23:59:59Z BC", "0001-12-31 23:59 UTC"),
            (-210_895_056_000, "4714-01-01T00:00:00Z BC", "4714-01-01 00:00 UTC"),
            (-210_895_056_001, "-infinity", "-infinity"),
            (i64::MIN / 2, "-infinity", "-infinity"),
        ] {
            assert_eq!((instant_text(at(seconds)).as_str(), minute(at(seconds)).as_str()), (text, minute_text));
        }
        assert_eq!(instant_text(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)), "1969-12-31T23:59:59Z");
    }
}
