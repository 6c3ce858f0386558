//! The name and the password of a service login.

use crate::ident::Ident;
use rand::distr::{Alphanumeric, SampleString as _};
use std::{fmt, str::FromStr};

/// The name of a service login: 1 to 48 of a–z, 0–9 and `_`, starting with a letter. It cannot start with `pg_` or
/// `cgk_`: these are reserved for the server and for tenants' roles.
///
/// ```
/// use cgk::login::LoginName;
/// assert_eq!("shop_app".parse::<LoginName>()?.as_str(), "shop_app");
/// assert!("pg_app".parse::<LoginName>().is_err() && "App".parse::<LoginName>().is_err());
/// # Ok::<(), cgk::login::InvalidLogin>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginName(Ident);

/// The text cannot be the name of a service login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot name a login: 1 to 48 of a-z, 0-9 and _ can, beginning with a letter and not with pg_ or cgk_; \
     nor can `public`, `none` or `current_user`"
)]
pub struct InvalidLogin {
    /// The text.
    pub text: String,
}

/// The maximum length in bytes: with the prefix of its policies it is still a valid identifier.
const NAME_BYTES_MAX: usize = 48;
/// Words with a special meaning in SQL where a role is expected, some even in quotes.
const RESERVED: [&str; 5] = ["public", "none", "current_user", "current_role", "session_user"];

impl LoginName {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn ident(&self) -> &Ident {
        &self.0
    }
}

impl fmt::Display for LoginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LoginName {
    type Err = InvalidLogin;

    fn from_str(text: &str) -> Result<Self, InvalidLogin> {
        let invalid = || InvalidLogin { text: text.into() };
        let fits = text.len() <= NAME_BYTES_MAX
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && !text.starts_with("pg_")
            && !text.starts_with("cgk_")
            && !RESERVED.contains(&text);
        if !fits {
            return Err(invalid());
        }
        Ident::new(text).map(Self).map_err(|_| invalid())
    }
}

/// A random password; `Debug` hides it.
pub struct Password(String);

impl Password {
    /// 40 letters and digits: 238 bits, and no character that needs encoding in a URL.
    pub(crate) fn random() -> Self {
        Self(Alphanumeric.sample_string(&mut rand::rng(), 40))
    }

    /// Returns the password, to show it once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the form that the server stores. It is sent instead of the password, because the log may contain failing
    /// or slow statements.
    pub(crate) fn verifier(&self) -> String {
        postgres_protocol::password::scram_sha_256(self.0.as_bytes())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for bad in
            ["", "1a", "A", "a-b", "a b", "a\"", "ä", "_a", "pg_x", "cgk_x", "public", "none", &"a".repeat(49), "a\0"]
        {
            assert!(bad.parse::<LoginName>().is_err(), "{bad:?}");
        }
        for good in ["a", "app", "shop_app_2", &"a".repeat(48)] {
            assert_eq!(good.parse::<LoginName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_password_is_random_and_hidden() {
        let (one, other) = (Password::random(), Password::random());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), 40);
        assert!(one.verifier().starts_with("SCRAM-SHA-256$4096:"));
        assert!(!one.verifier().contains(one.reveal()) && !format!("{one:?}").contains(one.reveal()));
    }
}
