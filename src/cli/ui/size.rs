//! Sizes for people.

const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];

/// `512 B`, `8.0 kB`, `1.3 GB`: in steps of 1024, as PostgreSQL says them.
pub(crate) fn of(bytes: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let texts = [0, 1023, 1024, 1536, 1 << 20, 10 << 30, u64::MAX >> 4].map(of);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 kB", "1.5 kB", "1.0 MB", "10.0 GB", "1023.9 PB"]);
    }
}
