//! Versions and checksums of migrations.

use crate::ident::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The version of a migration: a positive 64-bit number. So ordinals (`001`) and 14-digit timestamps both work.
///
/// Serde reads and writes it as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "i64", try_from = "i64")]
pub struct Version(i64);

impl Version {
    /// Creates a version from a positive number.
    pub fn new(number: i64) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// Returns the number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    /// Writes at least three digits, as in the names of the bundled files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.0)
    }
}

impl From<Version> for i64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl TryFrom<i64> for Version {
    type Error = InvalidVersion;

    fn try_from(number: i64) -> Result<Self, InvalidVersion> {
        Self::new(number).ok_or_else(|| InvalidVersion { text: number.to_string() })
    }
}

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .and_then(Self::new)
            .ok_or_else(|| InvalidVersion { text: text.into() })
    }
}

/// The error for a text that is not a migration version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a migration version: use a number from 1 to 9223372036854775807")]
pub struct InvalidVersion {
    /// The given text.
    pub text: String,
}

/// The checksum of a migration's text: `sha256:` and 64 hexadecimal digits. It is computed without a byte-order mark
/// and with a line feed as every line ending, so that a checkout on Windows does not count as an edit.
///
/// ```
/// use cgk::migrate::Checksum;
/// let unix = Checksum::of("create table t ();\n");
/// assert_eq!(unix, Checksum::of("\u{feff}create table t ();\r\n"));
/// // Pinned: a change of the algorithm would make every applied migration look edited.
/// assert_eq!(unix.as_str(), "sha256:07274e3f2322c2f66f5f000edc19caa9311203312e5459991698c1081383d51c");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checksum(String);

impl Checksum {
    /// Computes the checksum of a migration's text.
    pub fn of(sql: &str) -> Self {
        let text = sql.strip_prefix('\u{feff}').unwrap_or(sql).replace("\r\n", "\n").replace('\r', "\n");
        Self(format!("sha256:{}", hex(&Sha256::digest(text.as_bytes()))))
    }

    /// Returns the text in a ledger, even if another program wrote it.
    pub(crate) fn recorded(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the checksum as stored in the ledger.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_positive_64_bit_numbers() {
        for (text, number) in
            [("1", 1), ("001", 1), ("20260131120000", 20_260_131_120_000), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(text.parse::<Version>().unwrap().get(), number);
        }
        for bad in ["", "0", "000", "-1", "+1", " 1", "1.2", "9223372036854775808", "١"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn line_endings_are_no_edit_but_everything_else_is() {
        assert_eq!(Checksum::of("a\nb"), Checksum::of("a\r\nb"));
        assert_eq!(Checksum::of("a\nb"), Checksum::of("a\rb"));
        assert_ne!(Checksum::of("a\nb"), Checksum::of("a\nb "));
        assert_ne!(Checksum::of("a\nb"), Checksum::of("a b"));
    }
}
