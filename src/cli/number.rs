//! Parses values of flags. Messages say which values are allowed.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    str::FromStr,
};

/// Parses a number of workers or of failures.
pub(crate) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    parsed(text)
}

/// Parses a number that can be 0.
pub(crate) fn at_least_zero(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("write a whole number, at most {}", u32::MAX))
}

/// Parses a number of seconds.
pub(crate) fn seconds(text: &str) -> Result<NonZeroU32, String> {
    parsed(text)
}

fn parsed<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "write a whole number, 1 or more".to_owned())
}

/// Parses a display name that the registry accepts.
pub(crate) fn name(text: &str) -> Result<String, String> {
    const CHARACTERS_MAX: usize = 200;
    let text = text.trim();
    match text.chars().count() {
        0 => Err("a name cannot be empty".into()),
        _ if text.chars().any(char::is_control) => Err("a name has no control characters".into()),
        1..=CHARACTERS_MAX => Ok(text.to_owned()),
        _ => Err(format!("a name has at most {CHARACTERS_MAX} characters")),
    }
}

/// Parses the id of a row.
pub(crate) fn id<I: std::str::FromStr>(text: &str) -> Result<I, String> {
    text.parse().map_err(|_| "write an id such as 0195f0a0-0000-7000-8000-000000000001".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_outside_the_limits_are_refused() {
        for text in ["0", "-1", "", "1.5", "x", "99999999999999999999999"] {
            assert!(at_least_one(text).is_err(), "{text:?}");
        }
        assert_eq!(at_least_one("8").unwrap().get(), 8);
        for text in ["-1", "", "1.5", "x", "4294967296"] {
            assert!(at_least_zero(text).is_err(), "{text:?}");
        }
        assert_eq!(at_least_zero("0"), Ok(0));
        assert!(name(" \t").is_err() && name("a\u{7}b").is_err() && name(&"x".repeat(201)).is_err());
        assert_eq!(name(" Acme ").unwrap(), "Acme");
        assert_eq!(name(&"é".repeat(200)).unwrap().chars().count(), 200);
    }
}
