//! Percent-encoding, as connection URLs use it.

use std::fmt::Write;

/// A `%` without two hexadecimal digits after it, or an escaped NUL, which PostgreSQL does not accept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Encodes every byte except those that have no special meaning anywhere in a URL.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
    encoded
}

/// Decodes `%41` to `A`. A `+` stays a `+`, as in libpq.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let high = bytes.next().and_then(digit).ok_or(BadEscape)?;
            let low = bytes.next().and_then(digit).ok_or(BadEscape)?;
            high * 16 + low
        } else {
            byte
        };
        if byte == 0 {
            return Err(BadEscape);
        }
        decoded.push(byte);
    }
    Ok(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decodes_what_libpq_decodes() {
        assert_eq!(decode("%2Fvar%2frun+x"), Ok(b"/var/run+x".to_vec()));
        for broken in ["%", "%4", "%zz", "a%2", "%é0", "%00", "\0"] {
            assert_eq!(decode(broken), Err(BadEscape), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text in "[^\0]*") {
            prop_assert_eq!(decode(&encode(&text)), Ok(text.into_bytes()));
        }
    }
}
