//! The name of a tenant.

use bytes::BytesMut;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{error::Error as StdError, fmt, str::FromStr, sync::Arc};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// The name of a tenant: `^[a-z][a-z0-9_]{0,47}$`.
///
/// An invalid slug is refused, never corrected. Converting `Acme` to lower case or `my-co` to `my_co` could put two
/// customers into one schema. With forty-eight bytes, every name that is derived from a slug is within PostgreSQL's
/// limit of 63 bytes. The server truncates longer names with only a notice.
///
/// ```
/// let slug: cgk::TenantSlug = "acme".parse()?;
/// assert_eq!(slug.as_str(), "acme");
/// assert!("Acme".parse::<cgk::TenantSlug>().is_err());
/// # Ok::<(), cgk::InvalidSlug>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantSlug(Arc<str>);

impl TenantSlug {
    /// The maximum length of a slug, in bytes.
    pub const BYTES_MAX: usize = 48;

    /// Returns the slug as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantSlug {
    type Err = InvalidSlug;

    fn from_str(text: &str) -> Result<Self, InvalidSlug> {
        let reason = if text.is_empty() {
            SlugProblem::Empty
        } else if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            SlugProblem::Start
        } else if let Some(found) = text.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '_')) {
            SlugProblem::Character { found }
        } else if text.len() > Self::BYTES_MAX {
            SlugProblem::TooLong { bytes: text.len() }
        } else {
            return Ok(Self(text.into()));
        };
        Err(InvalidSlug { text: text.chars().take(80).collect(), problem: reason })
    }
}

impl TryFrom<String> for TenantSlug {
    type Error = InvalidSlug;

    fn try_from(text: String) -> Result<Self, InvalidSlug> {
        text.parse()
    }
}

impl AsRef<str> for TenantSlug {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<TenantSlug> for String {
    fn from(slug: TenantSlug) -> Self {
        slug.as_str().to_owned()
    }
}

/// As text.
impl Serialize for TenantSlug {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// From text, checked as by [`FromStr`].
impl<'de> Deserialize<'de> for TenantSlug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// As `text`.
impl ToSql for TenantSlug {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.as_str().to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

/// From `text`, checked as by [`FromStr`].
impl<'a> FromSql<'a> for TenantSlug {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(<&str>::from_sql(ty, raw)?.parse()?)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as FromSql>::accepts(ty)
    }
}

impl TryFrom<&str> for TenantSlug {
    type Error = InvalidSlug;

    fn try_from(text: &str) -> Result<Self, InvalidSlug> {
        text.parse()
    }
}

impl fmt::Display for TenantSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TenantSlug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantSlug({})", self.0)
    }
}

/// The error for a text that is not a tenant slug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a tenant slug: {problem}")]
pub struct InvalidSlug {
    /// The given text, cut after 80 characters.
    pub text: String,
    /// The problem.
    pub problem: SlugProblem,
}

/// The problem of a text that was given as a slug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlugProblem {
    /// The text is empty.
    #[error("it is empty")]
    Empty,
    /// The first character is not a lower-case letter.
    #[error("it must start with a letter a-z")]
    Start,
    /// It contains a character that is not a lower-case letter, a digit or an underscore.
    #[error("{found:?} is not one of a-z, 0-9 and _")]
    Character {
        /// The first such character.
        found: char,
    },
    /// It is longer than [`TenantSlug::BYTES_MAX`].
    #[error("it has {bytes} characters; the maximum is {max}", max = TenantSlug::BYTES_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_the_allowed_shape_only() {
        for good in ["a", "acme", "a1", "a_b", "a__", &"z".repeat(48)] {
            assert_eq!(good.parse::<TenantSlug>().unwrap().as_str(), good);
        }
        use SlugProblem::*;
        for (bad, problem) in [
            ("", Empty),
            ("Acme", Start),
            ("1a", Start),
            ("_a", Start),
            ("a-b", Character { found: '-' }),
            ("a b", Character { found: ' ' }),
            ("a\n", Character { found: '\n' }),
            ("aB", Character { found: 'B' }),
            ("x, tenant_b", Character { found: ',' }),
            ("x\"; drop schema public", Character { found: '"' }),
            ("ünï", Start),
            ("aü", Character { found: 'ü' }),
            (&"a".repeat(49), TooLong { bytes: 49 }),
        ] {
            assert_eq!(bad.parse::<TenantSlug>().unwrap_err().problem, problem, "{bad:?}");
        }
    }

    #[test]
    fn it_is_its_text_elsewhere_too() {
        let slug = TenantSlug::try_from(String::from("acme")).unwrap();
        assert_eq!(serde_json::to_string(&slug).unwrap(), "\"acme\"");
        assert_eq!(serde_json::from_str::<TenantSlug>("\"acme\"").unwrap(), slug);
        let error = serde_json::from_str::<TenantSlug>("\"Acme\"").unwrap_err().to_string();
        assert!(error.starts_with("\"Acme\" is not a tenant slug: it must start with a letter"), "{error}");
        assert_eq!((slug.as_ref(), String::from(slug.clone())), ("acme", "acme".to_owned()));
    }

    proptest! {
        #[test]
        fn a_slug_is_its_text_and_no_other(text in "\\PC{0,80}") {
            if let Ok(slug) = text.parse::<TenantSlug>() {
                prop_assert_eq!(slug.as_str(), &text);
                prop_assert!(text.len() <= 48 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            }
        }
    }
}
