//! The keys, and encryption with them.

use super::{Result, SecretError};
use crate::{config::Config, tenant::OrganizationId};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use std::{fmt, str::FromStr, sync::Arc};
use uuid::Uuid;

/// The first byte of an encrypted value: its format.
const FORMAT: u8 = 1;
/// Separates these values from those that other programs encrypt with the same key.
const DOMAIN: &[u8] = b"cgk secret 1";
/// The maximum length of a key's id, in bytes.
const ID_BYTES_MAX: usize = 32;
const TAG_BYTES: usize = 16;

/// The keys for secrets. The first key encrypts (seals), and every key can decrypt (open).
///
/// Their text format is that of `CGK_SECRET_KEYS`: keys are separated by commas. Each key is its id, a colon, and 32
/// random bytes in base64. An id has 1 to 32 letters, digits, `-` and `_`.
///
/// ```
/// use cgk::{OrganizationId, secret::{SecretKeys, SecretPlace}};
/// let keys: SecretKeys = "2026:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse()?;
/// let acme = OrganizationId(Default::default());
/// let place = SecretPlace::new("accounts.refresh_token", acme);
/// let sealed = keys.seal(place, b"1//0g-secret")?;
/// assert_eq!(keys.open(place, &sealed)?.reveal(), b"1//0g-secret");
/// // What was sealed for one place opens in no other.
/// assert!(keys.open(SecretPlace::new("accounts.access_token", acme), &sealed).is_err());
/// assert_eq!(format!("{keys:?}"), r#"SecretKeys(["2026"])"#);
/// # Ok::<(), cgk::secret::SecretError>(())
/// ```
#[derive(Clone)]
pub struct SecretKeys {
    keys: Arc<[(String, LessSafeKey)]>,
}

/// Shows only the ids.
impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretKeys").field(&self.keys.iter().map(|(id, _)| id).collect::<Vec<_>>()).finish()
    }
}

/// The place where a secret is stored: a column, and the owner of the row. The secret is encrypted for this place. If
/// the encrypted value is copied to another column or another organization, it cannot be decrypted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretPlace<'a> {
    column: &'a str,
    owner: Uuid,
}

impl<'a> SecretPlace<'a> {
    /// Creates the place of a column, such as `accounts.refresh_token`, of an organization's row. If the column is
    /// renamed, use the old name here: its secrets were encrypted for that name.
    pub fn new(column: &'a str, organization: OrganizationId) -> Self {
        Self { column, owner: organization.0 }
    }

    /// Creates the place of a column of a row that belongs to no organization, by the row's id.
    pub fn of_row(column: &'a str, row: Uuid) -> Self {
        Self { column, owner: row }
    }

    /// Returns the authenticated data: each part with its length, so that no part can be mistaken for a part of
    /// another.
    fn bound_to(&self, key_id: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [DOMAIN, key_id.as_bytes(), self.owner.as_bytes(), self.column.as_bytes()] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

/// A decrypted secret. Only [`reveal`](Self::reveal) shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct PlainSecret(Vec<u8>);

impl fmt::Debug for PlainSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainSecret(…)")
    }
}

impl PlainSecret {
    /// Returns the secret.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for SecretKeys {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self> {
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        for (index, part) in text.split(',').map(str::trim).enumerate() {
            // The text may be a key, so the error does not show it.
            let invalid = |why| SecretError::InvalidKeys { number: index + 1, why };
            let (id, key) = part.split_once(':').ok_or_else(|| invalid("it is not an id, a colon and a key"))?;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(plain) {
                return Err(invalid("its id must have 1 to 32 letters, digits, - and _"));
            }
            if keys.iter().any(|(other, _)| other == id) {
                return Err(invalid("its id is that of another key"));
            }
            let bytes = STANDARD.decode(key).map_err(|_| invalid("the key is not base64"))?;
            let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| invalid("the key must have 32 bytes"))?;
            keys.push((id.to_owned(), LessSafeKey::new(key)));
        }
        Ok(Self { keys: keys.into() })
    }
}

impl SecretKeys {
    /// Reads the keys of a configuration, from `CGK_SECRET_KEYS` in the environment or in `.env`.
    ///
    /// # Errors
    ///
    /// `NoKeys`: the variable is not set. `InvalidKeys`: it has a wrong format.
    pub fn of(config: &Config) -> Result<Self> {
        config.secret_keys().ok_or(SecretError::NoKeys)?.parse()
    }

    /// Returns the id of the key that encrypts.
    pub fn current(&self) -> &str {
        &self.keys[0].0
    }

    /// Encrypts a secret (AES-256-GCM with a random nonce). The result contains the key's id. It is 30 bytes plus the
    /// length of the id longer than the secret.
    ///
    /// # Errors
    ///
    /// `NotSealed`: the system has no random bytes.
    pub fn seal(&self, place: SecretPlace<'_>, secret: &[u8]) -> Result<Vec<u8>> {
        let (id, key) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SecretError::NotSealed)?;
        let mut text = secret.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.bound_to(id)), &mut text)
            .map_err(|_| SecretError::NotSealed)?;
        let id_bytes = u8::try_from(id.len()).expect("an id has 32 bytes at most");
        let mut sealed = vec![FORMAT, id_bytes];
        sealed.extend_from_slice(id.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Decrypts a value that was encrypted for this place.
    ///
    /// # Errors
    ///
    /// `UnknownKey`: it was encrypted with a key that is not among these. `NotOpened`: it was not encrypted by this
    /// module, was encrypted for another place, or was changed.
    pub fn open(&self, place: SecretPlace<'_>, sealed: &[u8]) -> Result<PlainSecret> {
        let (id, rest) = split(sealed).ok_or(SecretError::NotOpened)?;
        let (_, key) = self
            .keys
            .iter()
            .find(|(known, _)| known == id)
            .ok_or_else(|| SecretError::UnknownKey { id: id.to_owned() })?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(SecretError::NotOpened)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::NotOpened)?;
        let mut text = text.to_vec();
        let plain =
            key.open_in_place(nonce, Aad::from(place.bound_to(id)), &mut text).map_err(|_| SecretError::NotOpened)?;
        Ok(PlainSecret(plain.to_vec()))
    }
}

/// Returns the id of the key that a value was encrypted with. `None`: this module has not encrypted it.
pub fn key_id(sealed: &[u8]) -> Option<&str> {
    split(sealed).map(|(id, _)| id)
}

fn split(sealed: &[u8]) -> Option<(&str, &[u8])> {
    let [FORMAT, length, rest @ ..] = sealed else { return None };
    let (id, rest) = rest.split_at_checked((*length).into())?;
    let id = std::str::from_utf8(id).ok().filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)?;
    (rest.len() >= NONCE_LEN + TAG_BYTES).then_some((id, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "one:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    const TWO: &str = "two:YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

    fn keys(text: &str) -> SecretKeys {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_changed_or_moved_does_not_open() {
        let keys = keys(ONE);
        let (acme, globex) = (OrganizationId(uuid::Uuid::from_u128(1)), OrganizationId(uuid::Uuid::from_u128(2)));
        let place = SecretPlace::new("a.b", acme);
        let sealed = keys.seal(place, b"hidden").unwrap();
        assert_eq!(sealed.len(), 6 + 31 + 2);
        assert_eq!(keys.open(place, &sealed).unwrap().reveal(), b"hidden");
        for other in [SecretPlace::new("a.b", globex), SecretPlace::new("a.c", acme)] {
            assert!(matches!(keys.open(other, &sealed), Err(SecretError::NotOpened)));
        }
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(keys.open(place, &changed).is_err(), "{index}");
            assert!(keys.open(place, &sealed[..index]).is_err(), "{index}");
        }
        assert_ne!(keys.seal(place, b"hidden").unwrap(), sealed, "each has a nonce of its own");
    }

    #[test]
    fn the_first_key_seals_and_all_of_them_open() {
        let place = SecretPlace::new("a.b", OrganizationId(uuid::Uuid::nil()));
        let old = keys(ONE).seal(place, b"x").unwrap();
        let both = keys(&format!("{TWO}, {ONE}"));
        assert_eq!(both.open(place, &old).unwrap().reveal(), b"x");
        let new = both.seal(place, b"x").unwrap();
        assert_eq!((key_id(&old), key_id(&new), key_id(b"shpat")), (Some("one"), Some("two"), None));
        assert!(matches!(keys(ONE).open(place, &new), Err(SecretError::UnknownKey { id }) if id == "two"));
    }

    #[test]
    fn keys_that_are_none_are_refused_and_not_shown() {
        let short = "one:c2hvcnQ=";
        for (bad, number) in
            [("", 1), ("hidden", 1), (":AAAA", 1), (short, 1), ("one:hidden!", 1), (&format!("{ONE},{ONE}"), 2)]
        {
            let error = bad.parse::<SecretKeys>().unwrap_err();
            assert!(matches!(error, SecretError::InvalidKeys { number: found, .. } if found == number), "{bad}");
            assert!(!format!("{error} {error:?}").contains("hidden"));
        }
        let shown = format!("{:?} {:?}", keys(ONE), PlainSecret(b"hidden".to_vec()));
        assert_eq!(shown, r#"SecretKeys(["one"]) PlainSecret(…)"#);
    }
}
