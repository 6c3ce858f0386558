//! Sizes, durations and times for people.

use std::time::{Duration, SystemTime};

const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];

/// `512 B`, `8.0 kB`, `1.3 GB`: in steps of 1024, as PostgreSQL writes them.
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

/// `12 ms`, `1.3 s`, `2 min 5 s`.
pub fn duration_text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match duration.as_secs() {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// `2026-11-22T08:05:09Z`.
pub(super) fn instant(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// `2026-11-22 08:05 UTC`.
pub(super) fn minute(time: SystemTime) -> String {
    format!("{} UTC", instant(time)[..16].replace('T', " "))
}

/// `10,000`.
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

/// `1 tenant`, `10,000 tenants`.
pub(super) fn count(count: usize, noun: &str) -> String {
    let many = if count == 1 { "" } else { "s" };
    format!("{} {noun}{many}", number(count as u64))
}

/// `12.5 %`; what is not nothing is never `0.0 %`, and what is not all of it is never `100.0 %`.
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
        assert_eq!((instant(time).as_str(), minute(time).as_str()), ("2026-11-22T22:05:09Z", "2026-11-22 22:05 UTC"));
    }
}
