//! How much an organization may use, and the short names of plans and quota kinds.

use super::error::{PlatformError, Result};
use std::{borrow::Cow, fmt};

/// The maximum amount of one grant or one consumption. It keeps sums far below the limit of `bigint`.
pub(super) const AMOUNT_MAX: u64 = 1_000_000_000_000_000;

/// How much may be used: a number, or unlimited. In JSON it is a number or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allowance {
    /// At most this amount.
    Limited(u64),
    /// No limit.
    Unlimited,
}

impl Allowance {
    /// Returns the limit, or `None` if there is no limit.
    pub fn limit(self) -> Option<u64> {
        match self {
            Self::Limited(limit) => Some(limit),
            Self::Unlimited => None,
        }
    }

    pub(super) fn of_column(value: Option<i64>) -> Self {
        value.map_or(Self::Unlimited, |limit| Self::Limited(unsigned(limit)))
    }

    pub(super) fn column(self) -> Result<Option<i64>> {
        self.limit().map(amount_column).transpose()
    }
}

impl From<u64> for Allowance {
    fn from(limit: u64) -> Self {
        Self::Limited(limit)
    }
}

/// Parses a number, or `unlimited`.
impl std::str::FromStr for Allowance {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let why = "it is a number, or `unlimited`".to_owned();
        text.parse().map(Self::Limited).map_err(|_| PlatformError::Invalid { what: "the amount", why })
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited(limit) => limit.fmt(f),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

impl serde::Serialize for Allowance {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.limit().serialize(serializer)
    }
}

/// Converts a number from the database. A constraint ensures that it is zero or more.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// # Errors
///
/// `Invalid`: the amount is more than 10^15.
pub(super) fn amount_column(amount: u64) -> Result<i64> {
    match i64::try_from(amount) {
        Ok(column) if amount <= AMOUNT_MAX => Ok(column),
        _ => Err(PlatformError::Invalid { what: "the amount", why: "it is more than 10^15".into() }),
    }
}

/// Checks a short name against the format that the tables' constraints require.
fn check(what: &'static str, text: &str) -> Result<()> {
    let fits = text.len() <= 48
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if fits {
        return Ok(());
    }
    let why = "it is 1 to 48 lower-case letters, digits and underscores, a letter first".into();
    Err(PlatformError::Invalid { what, why })
}

macro_rules! short_name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to 48 lower-case letters, digits and underscores. The first character is a letter.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Cow<'static, str>);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Creates the name from a row. The constraint of the table has checked it.
            pub(super) fn of_row(text: &str) -> Self {
                Self(text.to_owned().into())
            }
        }

        impl std::str::FromStr for $name {
            type Err = PlatformError;

            fn from_str(text: &str) -> Result<Self> {
                check($what, text).map(|()| Self(text.to_owned().into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

short_name! {
    /// The key of a plan, such as `team`. Code and the command line use it.
    PlanKey, "the key of a plan"
}

short_name! {
    /// A kind of quota, such as `seats`.
    QuotaKind, "the kind of quota"
}

impl QuotaKind {
    /// Members of an organization.
    pub const SEATS: Self = Self(Cow::Borrowed("seats"));
    /// Runs of the product's jobs.
    pub const RUNS: Self = Self(Cow::Borrowed("runs"));
    /// Credits of a prepaid account.
    pub const CREDITS: Self = Self(Cow::Borrowed("credits"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_of_the_tables() {
        let longest = "a".repeat(48);
        for text in ["a", "team", "team_2", longest.as_str()] {
            assert_eq!(text.parse::<PlanKey>().unwrap().as_str(), text);
        }
        let longer = "a".repeat(49);
        for text in ["", "2a", "_a", "Team", "te-am", "té", "a\n", longer.as_str()] {
            assert!(matches!(text.parse::<QuotaKind>(), Err(PlatformError::Invalid { .. })), "{text}");
        }
    }

    #[test]
    fn amounts_have_an_end() {
        assert_eq!(amount_column(AMOUNT_MAX).unwrap(), 1_000_000_000_000_000);
        for amount in [AMOUNT_MAX + 1, u64::MAX] {
            assert!(matches!(amount_column(amount), Err(PlatformError::Invalid { .. })));
        }
        assert_eq!("7".parse::<Allowance>().unwrap(), Allowance::Limited(7));
        assert_eq!("unlimited".parse::<Allowance>().unwrap(), Allowance::Unlimited);
        assert!("-1".parse::<Allowance>().is_err() && "".parse::<Allowance>().is_err());
        assert_eq!(serde_json::to_string(&[Allowance::Limited(3), Allowance::Unlimited]).unwrap(), "[3,null]");
        assert_eq!(format!("{} {}", Allowance::Limited(3), Allowance::Unlimited), "3 unlimited");
    }
}
