//! What can be stored of a value, so that one that cannot is named instead of the server's error.

use super::error::{PlatformError, Result};
use crate::{auth::UserRole, text};
use std::time::{Duration, SystemTime};

/// The start of the year 1 and the end of the year 9999, in seconds before and after 1970.
const FIRST_SECONDS: u64 = 62_135_596_800;
const LAST_SECONDS: u64 = 253_402_300_799;

/// # Errors
///
/// `Invalid`: the time is before the year 1 or after 9999.
pub(crate) fn check_instant(what: &'static str, at: SystemTime) -> Result<()> {
    let fits = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_secs() <= LAST_SECONDS,
        Err(before) => before.duration() <= Duration::from_secs(FIRST_SECONDS),
    };
    match fits {
        true => Ok(()),
        false => Err(PlatformError::Invalid { what, why: "it is before the year 1 or after 9999".into() }),
    }
}

/// Returns the time, or the nearest one that can be stored.
pub(crate) fn nearest_instant(at: SystemTime) -> SystemTime {
    at.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECONDS))
}

/// A thousand years. Nothing that cgk has stored is older.
const AGE_MAX: Duration = Duration::from_secs(365_243 * 24 * 60 * 60);

/// Returns an age in seconds, for a comparison with the server's clock. A longer one than a thousand years is as long
/// as that: the server cannot subtract it from a time.
pub(crate) fn age_seconds(age: Duration) -> f64 {
    age.min(AGE_MAX).as_secs_f64()
}

/// # Errors
///
/// `Invalid`: the text is empty, has more characters than that, or has a zero byte.
pub(crate) fn check_text(what: &'static str, text: &str, chars_max: usize) -> Result<()> {
    match text.is_empty() || text.chars().count() > chars_max || text.contains('\0') {
        true => {
            let why = format!("it must have 1 to {chars_max} characters, none of them NUL");
            Err(PlatformError::Invalid { what, why })
        }
        false => Ok(()),
    }
}

/// # Errors
///
/// `Invalid`: the name is blank, has more than 200 characters, or has control characters.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    text::check_name(name).map_err(|why| PlatformError::Invalid { what, why: why.into() })
}

/// # Errors
///
/// `Invalid`: the name of the role has a zero byte. The database decides whether it knows a role.
pub(crate) fn check_role(role: &UserRole) -> Result<()> {
    check_no_nul("the role", role.as_str())
}

/// # Errors
///
/// `Invalid`: the text has a zero byte, so nothing in the database is equal to it.
pub(crate) fn check_no_nul(what: &'static str, text: &str) -> Result<()> {
    text::check_no_nul(text).map_err(|why| PlatformError::Invalid { what, why: why.into() })
}
