//! Percent-encoding, as connection URLs use it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Every character that has a special meaning somewhere in a URL.
const SPECIAL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A `%` without two hexadecimal digits after it, or an escaped NUL, which PostgreSQL does not accept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Encodes every byte except those that have no special meaning anywhere in a URL.
pub(crate) fn encode(text: &str) -> String {
    utf8_percent_encode(text, SPECIAL).to_string()
}

/// Decodes `%41` to `A`. A `+` stays a `+`, as in libpq.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, BadEscape> {
    let decoded: Vec<u8> = percent_decode_str(text).collect();
    // The crate keeps a `%` without two digits. Each `%` that it decodes makes the text two bytes shorter.
    let kept_one = text.len() - decoded.len() != 2 * text.matches('%').count();
    if kept_one || decoded.contains(&0) { Err(BadEscape) } else { Ok(decoded) }
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
