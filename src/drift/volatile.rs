//! Explains differences without a manual change: a file that uses the time or a random value produces a different
//! result in every schema.
//!
//! Two conditions must be met: the value or name differs only in its digits, and a file of the ledger calls such a
//! function. This is a likely cause and not a proof, so the difference still counts.

use super::{
    objects::{Catalogue, ObjectKey},
    report::{Change, Difference},
};
use crate::migrate::MigrationFile;

/// Functions that return a different value at every call or in every transaction, with and without parentheses.
const CALLED: [&str; 13] = [
    "now",
    "clock_timestamp",
    "statement_timestamp",
    "transaction_timestamp",
    "timeofday",
    "random",
    "random_normal",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuidv7",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "txid_current",
];
const NAMED: [&str; 5] = ["current_timestamp", "current_date", "current_time", "localtimestamp", "localtime"];

/// How many digits must differ. A length that was changed by hand has fewer.
const DIGITS_MIN: usize = 6;
/// How many files a note names.
const FILES_MAX: usize = 2;

/// Adds a note to those differences of a schema that one of its files may have caused.
pub(super) fn note(differences: &mut [Difference], given: &Catalogue, found: &Catalogue, files: &[&MigrationFile]) {
    let is_it = |difference: &Difference| match &difference.change {
        Change::Differs { found: Some(found), given: Some(given), .. } => differ_in_digits(found, given),
        Change::Missing => has_twin(difference, given, found),
        Change::Unexpected => has_twin(difference, found, given),
        _ => false,
    };
    if !differences.iter().any(is_it) {
        return;
    }
    let calls: Vec<(&MigrationFile, &str)> = files.iter().filter_map(|file| Some((*file, called(file)?))).collect();
    for difference in differences.iter_mut().filter(|difference| is_it(difference)) {
        let table = difference.object.split('.').next().unwrap_or_default().to_owned();
        let (named, others): (Vec<_>, Vec<_>) = calls.iter().partition(|(file, _)| file.sql().contains(&table));
        let likely = if named.is_empty() { others } else { named };
        let likely: Vec<String> =
            likely.iter().take(FILES_MAX).map(|(file, function)| format!("{} calls {function}", file.id())).collect();
        if !likely.is_empty() && difference.note.is_none() {
            difference.note = Some(format!("{}: every schema may have another value", likely.join(", ")));
        }
    }
}

/// Whether an object of the same kind, whose name differs only in its digits, exists only on the other side.
fn has_twin(difference: &Difference, here: &Catalogue, there: &Catalogue) -> bool {
    let is_it = |key: &&ObjectKey| {
        key.kind == difference.kind
            && (difference.object == key.name || difference.object == format!("{}.{}", key.parent, key.name))
    };
    let Some(own) = here.objects.keys().find(is_it) else { return false };
    there.objects.keys().any(|key| {
        key.kind == own.kind
            && key.parent == own.parent
            && !here.objects.contains_key(key)
            && differ_in_digits(&key.name, &own.name)
    })
}

fn differ_in_digits(a: &str, b: &str) -> bool {
    let ((a_rest, a_digits), (b_rest, b_digits)) = (parted(a), parted(b));
    a != b && a_rest == b_rest && a_digits.min(b_digits) >= DIGITS_MIN
}

/// Replaces each run of hexadecimal digits that contains a decimal digit by one character. Also returns the number of
/// these digits.
fn parted(text: &str) -> (String, usize) {
    let (mut rest, mut digits) = (String::new(), 0);
    let mut run = String::new();
    let mut end_run = |run: &mut String, rest: &mut String| {
        if run.contains(|c: char| c.is_ascii_digit()) {
            digits += run.len();
            rest.push('#');
        } else {
            rest.push_str(run);
        }
        run.clear();
    };
    for c in text.chars() {
        if c.is_ascii_hexdigit() {
            run.push(c);
        } else {
            end_run(&mut run, &mut rest);
            rest.push(c);
        }
    }
    end_run(&mut run, &mut rest);
    (rest, digits)
}

/// Returns the first such function that a file's text calls. Comments are ignored.
fn called(file: &MigrationFile) -> Option<&'static str> {
    let mut text = file.sql().to_ascii_lowercase().into_bytes();
    for comment in file.comments() {
        text[comment.clone()].fill(b' ');
    }
    let text = String::from_utf8_lossy(&text);
    let is_called = |name: &&str| stands_in(&text, name, |behind| behind.trim_start().starts_with('('));
    CALLED.into_iter().find(is_called).or_else(|| NAMED.into_iter().find(|name| stands_in(&text, name, |_| true)))
}

fn stands_in(text: &str, name: &str, fits: impl Fn(&str) -> bool) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let behind = &text[at + name.len()..];
        // A column's default is stored as it is written, and evaluated for each row.
        let is_default = text[..at].trim_end().ends_with("default");
        !text[..at].ends_with(is_part) && !is_default && !behind.starts_with(is_part) && fits(behind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_clock_and_of_chance_differ_in_digits() {
        for (a, b) in [
            ("'2026-11-27 03:17:59.739166+00'::timestamptz", "'2026-11-27 03:18:02.41+00'::timestamptz"),
            ("events_20261127", "events_20261128"),
            ("'9c5b94b1-35ad-49bb-b118-8e8fc24abf80'::uuid", "'1b4e28ba-2fa1-11d2-883f-0016d3cca427'::uuid"),
            ("0.123456789", "0.98765432"),
        ] {
            assert!(differ_in_digits(a, b), "{a}");
        }
        for (a, b) in [
            ("5", "6"),
            ("'a'", "'b'"),
            ("varchar(20)", "varchar(30)"),
            ("x_20261127", "x_20261127"),
            ("a_20261127", "b_20261127"),
        ] {
            assert!(!differ_in_digits(a, b), "{a}");
        }
    }

    #[test]
    fn only_calls_count() {
        let of = |text: &str| called(&MigrationFile::unchecked("001_x.sql", text));
        assert_eq!(
            of("do $$ begin execute format('create table t_%s ()', to_char(now(), 'YYYYMMDD')); end $$"),
            Some("now")
        );
        assert_eq!(of("select Random ()"), Some("random"));
        assert_eq!(of("create table t as select current_date as d"), Some("current_date"));
        for text in [
            "create table t (d date default current_date, t timestamptz default now())",
            "select my_now()",
            "select 1 -- now()",
            "select randomize(1)",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
