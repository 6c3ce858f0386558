//! A context in signed headers, for queues that others can write to.

use super::{
    TenantContext,
    headers::{CALLER, InvalidContext, TENANT},
};
use crate::ident::hex;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;

/// The header with the signature of the other two headers.
const SIGNATURE: &str = "cgk-signature";
/// The version of the format, and a text that no other program signs.
const DOMAIN: &[u8] = b"cgk tenant context 1";
/// The shortest key, in bytes.
const KEY_BYTES_MIN: usize = 32;

/// A secret that services share to sign the contexts of their messages (HMAC-SHA256).
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// Creates a key from 32 random bytes or more; `None` if `secret` is shorter.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= KEY_BYTES_MIN).then(|| Self(secret.to_vec()))
    }

    fn mac(&self, tenant: &str, caller: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is taken");
        // With their lengths, so that a part cannot be shifted between the two headers.
        for part in [DOMAIN, tenant.as_bytes(), caller.as_bytes()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

impl TenantContext {
    /// [`to_headers`](Self::to_headers) with a third header that signs the first two. A worker with the key knows that
    /// a service with the same key created them. The signature does not cover the message and has no expiry time:
    /// anyone who can read the queue can send the same headers again with another message.
    ///
    /// ```
    /// use cgk::{OrganizationId, SigningKey, TenantContext};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = SigningKey::new(&[7; 32]).ok_or("32 bytes or more")?; // from the secrets of the deployment
    /// let context = TenantContext::new(OrganizationId(Default::default()), "acme".parse()?);
    /// let message: std::collections::HashMap<_, _> = context.to_signed_headers(&key).into_iter().collect();
    /// // … in the worker; while a key is replaced, both are given:
    /// let found = TenantContext::from_signed_headers(&[key], |name| message.get(name).map(String::as_str))?;
    /// assert_eq!(found, context);
    /// # Ok(()) }
    /// ```
    pub fn to_signed_headers(&self, key: &SigningKey) -> [(&'static str, String); 3] {
        let [(tenant_name, tenant), (caller_name, caller)] = self.to_headers();
        let signature = hex(&key.mac(&tenant, &caller).finalize().into_bytes());
        [(tenant_name, tenant), (caller_name, caller), (SIGNATURE, signature)]
    }

    /// Reads a context from the three headers of [`to_signed_headers`](Self::to_signed_headers), if one of the keys
    /// signed it.
    ///
    /// # Errors
    ///
    /// A header is missing or malformed, or no key signed the headers.
    pub fn from_signed_headers<'a>(
        keys: &[SigningKey],
        get: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, InvalidContext> {
        let invalid = |header, why| InvalidContext { header, why };
        let tenant = get(TENANT).ok_or(invalid(TENANT, "it is missing"))?;
        let caller = get(CALLER).ok_or(invalid(CALLER, "it is missing"))?;
        let signature = get(SIGNATURE).ok_or(invalid(SIGNATURE, "it is missing"))?;
        let signature = bytes(signature).ok_or(invalid(SIGNATURE, "it is no signature"))?;
        // Compared in constant time; every key is tried.
        let signed = keys.iter().filter(|key| key.mac(tenant, caller).verify_slice(&signature).is_ok()).count();
        if signed == 0 {
            return Err(invalid(SIGNATURE, "no key has signed this"));
        }
        Self::from_headers(get)
    }
}

/// 64 hex digits in lower case.
fn bytes(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::OrganizationId;
    use std::collections::HashMap;
    use uuid::Uuid;

    fn context(number: u128) -> TenantContext {
        TenantContext::new(OrganizationId(Uuid::from_u128(number)), "acme".parse().unwrap())
            .role("owner")
            .request_id("r1")
    }

    fn read(keys: &[SigningKey], headers: &HashMap<&'static str, String>) -> Result<TenantContext, InvalidContext> {
        TenantContext::from_signed_headers(keys, |name| headers.get(name).map(String::as_str))
    }

    #[test]
    fn only_what_a_key_has_signed_is_read() {
        let key = |byte: u8| SigningKey::new(&[byte; 32]).unwrap();
        let one: HashMap<_, _> = context(1).to_signed_headers(&key(1)).into_iter().collect();
        let other: HashMap<_, _> = context(2).request_id("r2").to_signed_headers(&key(1)).into_iter().collect();
        assert_eq!(read(&[key(1)], &one).unwrap(), context(1));
        // While a key is replaced.
        assert!(read(&[key(2), key(1)], &one).is_ok());
        assert!(read(&[key(2)], &one).is_err() && read(&[], &one).is_err());
        for header in [TENANT, CALLER, SIGNATURE] {
            let mut without = one.clone();
            without.remove(header);
            assert_eq!(read(&[key(1)], &without).unwrap_err().header, header);
            // From another message that the same key has signed.
            let mut mixed = one.clone();
            mixed.insert(header, other[header].clone());
            assert_eq!(read(&[key(1)], &mixed).unwrap_err().header, SIGNATURE);
        }
        let signature = &one[SIGNATURE];
        for wrong in [
            "",
            &signature[1..],
            &format!("{signature}00"),
            &signature.to_uppercase(),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            let mut forged = one.clone();
            forged.insert(SIGNATURE, wrong.to_owned());
            assert_eq!(read(&[key(1)], &forged).unwrap_err().header, SIGNATURE, "{wrong}");
        }
        // The two headers, divided at another position.
        let mut shifted = one.clone();
        let (tenant, caller) = (one[TENANT].clone(), one[CALLER].clone());
        shifted.insert(TENANT, format!("{tenant}{}", &caller[..1]));
        shifted.insert(CALLER, caller[1..].to_owned());
        assert_eq!(read(&[key(1)], &shifted).unwrap_err().header, SIGNATURE);
    }

    #[test]
    fn a_key_is_long_and_is_not_shown() {
        assert!(SigningKey::new(&[0; 31]).is_none());
        assert_eq!(format!("{:?}", SigningKey::new(b"0123456789abcdef0123456789abcdef").unwrap()), "SigningKey(…)");
    }
}
