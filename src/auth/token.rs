//! The format of tokens: how they are created, how invalid ones are detected without a query, and what is stored.

use super::error::{AuthError, Result};
use rand::{RngExt, distr::Alphanumeric};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr, sync::Arc};
use subtle::ConstantTimeEq;

/// 43 characters of 62 are 256 bits.
const RANDOM_CHARS: usize = 43;
/// Six characters of 62 hold 32 bits.
const CHECKSUM_CHARS: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The prefix of a service's tokens, so that a scanner for leaked secrets recognizes them: `^[a-z][a-z0-9]{1,15}$`.
///
/// ```
/// use cgk::auth::TokenBrand;
/// assert!("acme".parse::<TokenBrand>().is_ok());
/// assert!("Acme_".parse::<TokenBrand>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBrand(Arc<str>);

impl Default for TokenBrand {
    fn default() -> Self {
        Self("cgk".into())
    }
}

impl FromStr for TokenBrand {
    type Err = AuthError;

    fn from_str(text: &str) -> Result<Self> {
        let fits = (2..=16).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        match fits {
            true => Ok(Self(text.into())),
            false => {
                Err(AuthError::Invalid { what: "the brand of tokens", why: "it must match ^[a-z][a-z0-9]{1,15}$" })
            }
        }
    }
}

/// The purpose of a token. Each kind has its own prefix, and no kind is accepted instead of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenKind {
    /// `<brand>_ses_…`
    Session,
    /// `<brand>_key_…`
    ApiKey,
    /// `<brand>_lnk_…`
    MagicLink,
    /// `<brand>_inv_…`
    Invitation,
}

impl TokenKind {
    const ALL: [Self; 4] = [Self::Session, Self::ApiKey, Self::MagicLink, Self::Invitation];

    fn prefix(self, brand: &TokenBrand) -> String {
        let kind = match self {
            Self::Session => "ses",
            Self::ApiKey => "key",
            Self::MagicLink => "lnk",
            Self::Invitation => "inv",
        };
        format!("{}_{kind}_", brand.0)
    }

    /// Returns the kind of a token by its prefix alone.
    ///
    /// ```
    /// use cgk::auth::{TokenBrand, TokenKind};
    /// assert_eq!(TokenKind::of("cgk_key_…", &TokenBrand::default()), Some(TokenKind::ApiKey));
    /// assert_eq!(TokenKind::of("eyJhbGciOi…", &TokenBrand::default()), None);
    /// ```
    pub fn of(text: &str, brand: &TokenBrand) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| text.starts_with(&kind.prefix(brand)))
    }
}

/// A token in clear text: `<brand>_<kind>_`, 43 random characters of `0-9A-Za-z` (256 bits), and six characters with
/// the CRC-32 of everything before them. It is available only when it is created; the database stores its SHA-256.
///
/// It has no `Display`, and its `Debug` shows the prefix only:
///
/// ```compile_fail,E0277
/// fn log(token: &cgk::auth::SecretToken) {
///     println!("{token}");
/// }
/// ```
#[derive(Clone)]
pub struct SecretToken {
    text: String,
    prefix_bytes: usize,
}

impl SecretToken {
    pub(crate) fn generate(kind: TokenKind, brand: &TokenBrand) -> Self {
        let mut text = kind.prefix(brand);
        let prefix_bytes = text.len();
        text.extend(rand::rng().sample_iter(Alphanumeric).take(RANDOM_CHARS).map(char::from));
        let checksum = checksum(&text);
        text.push_str(&checksum);
        Self { text, prefix_bytes }
    }

    /// Returns the token itself, to send it to its holder.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    pub(crate) fn hash(&self) -> TokenHash {
        TokenHash::of(&self.text)
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretToken({}…)", &self.text[..self.prefix_bytes])
    }
}

/// The stored form of a token: its SHA-256. The token has 256 random bits, so no slow hash is needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Returns the hash of a text, if it has the format of this kind of token. Any other text is not a token, and no
    /// query is needed.
    pub(crate) fn of_presented(text: &str, kind: TokenKind, brand: &TokenBrand) -> Result<Self> {
        let prefix = kind.prefix(brand);
        let Some(rest) = text.strip_prefix(&prefix) else { return Err(AuthError::Malformed) };
        if rest.len() != RANDOM_CHARS + CHECKSUM_CHARS || !rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(AuthError::Malformed);
        }
        let (before, found) = text.split_at(text.len() - CHECKSUM_CHARS);
        match checksum(before) == found {
            true => Ok(Self::of(text)),
            false => Err(AuthError::Malformed),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether this is the stored hash. The row was found through the index; this comparison does not rely on
    /// the index.
    pub(crate) fn is(&self, stored: &[u8]) -> bool {
        self.0.ct_eq(stored).into()
    }
}

/// Returns the CRC-32 of a text (IEEE 802.3) in six digits of base 62. It detects typing errors and helps scanners; it
/// is not a protection.
fn checksum(text: &str) -> String {
    let mut left = crc32(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(left % 62) as usize];
        left /= 62;
    }
    digits.map(char::from).iter().collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_checksum_is_crc32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
        // 0xFFFFFFFF is the largest value, and fits in six digits.
        assert!(62_u64.pow(6) > u64::from(u32::MAX));
    }

    #[test]
    fn a_token_is_of_its_kind_and_brand_alone() {
        let (own, other) = (TokenBrand::default(), "acme".parse::<TokenBrand>().unwrap());
        for kind in TokenKind::ALL {
            let token = SecretToken::generate(kind, &own);
            let text = token.reveal();
            assert_eq!(text.len(), "cgk_ses_".len() + 49);
            assert!(TokenHash::of_presented(text, kind, &own).unwrap().is(token.hash().bytes()));
            assert_eq!(TokenKind::of(text, &own), Some(kind));
            assert!(TokenHash::of_presented(text, kind, &other).is_err());
            for wrong in TokenKind::ALL.into_iter().filter(|wrong| *wrong != kind) {
                assert!(TokenHash::of_presented(text, wrong, &own).is_err());
                // Another prefix does not make it valid either: the checksum covers the prefix.
                let moved = text.replacen(&kind.prefix(&own), &wrong.prefix(&own), 1);
                assert!(TokenHash::of_presented(&moved, wrong, &own).is_err());
            }
            assert!(!format!("{token:?}").contains(&text[8..]), "{token:?}");
            assert_eq!(format!("{token:?}"), format!("SecretToken({}…)", kind.prefix(&own)));
        }
    }

    #[test]
    fn two_tokens_are_not_the_same() {
        let brand = TokenBrand::default();
        let tokens: std::collections::BTreeSet<String> =
            (0..1000).map(|_| SecretToken::generate(TokenKind::ApiKey, &brand).text).collect();
        assert_eq!(tokens.len(), 1000);
    }

    proptest! {
        #[test]
        fn an_altered_token_is_told_without_the_database(at in 0_usize..57, to in "[ -~]") {
            let brand = TokenBrand::default();
            let token = SecretToken::generate(TokenKind::Session, &brand);
            let mut altered = token.reveal().to_owned();
            altered.replace_range(at..=at, &to);
            let accepted = TokenHash::of_presented(&altered, TokenKind::Session, &brand).is_ok();
            prop_assert_eq!(accepted, altered == token.reveal());
            prop_assert!(TokenHash::of_presented(&token.reveal()[..at], TokenKind::Session, &brand).is_err());
        }

        #[test]
        fn no_other_text_is_a_token(text in "\\PC{0,80}") {
            prop_assert!(TokenHash::of_presented(&text, TokenKind::Session, &TokenBrand::default()).is_err());
        }
    }
}
