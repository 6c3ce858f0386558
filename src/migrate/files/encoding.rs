//! Decodes bytes as UTF-8. An error contains the actual encoding or the position.

/// Why bytes are not text.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::migrate) struct NoText {
    pub(in crate::migrate) line: Option<usize>,
    pub(in crate::migrate) problem: String,
}

pub(in crate::migrate) fn decode(bytes: Vec<u8>) -> Result<String, NoText> {
    let whole = |problem: &str| Err(NoText { line: None, problem: problem.into() });
    match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return whole("is UTF-16, by its first two bytes; save it as UTF-8");
        }
        // In UTF-16, one byte of each ASCII letter is zero.
        [first, second, ..] if (*first == 0) != (*second == 0) => {
            return whole("looks like UTF-16 without a byte-order mark; save it as UTF-8");
        }
        _ => {}
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let text = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let place = crate::migration::Place::of(&text, text.len());
        let problem = format!(
            "is not UTF-8: byte 0x{:02x} at column {} is no part of a character; save the file as UTF-8",
            bytes[at], place.column
        );
        NoText { line: Some(place.line), problem }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_is_named_with_its_place() {
        let problem = |bytes: &[u8]| decode(bytes.to_vec()).unwrap_err();
        assert_eq!(decode("\u{feff}select 'ü'".into()).unwrap(), "\u{feff}select 'ü'");
        for utf16 in [&b"\xff\xfes\0"[..], b"\xfe\xff\0s", b"s\0e\0", b"\0s\0e"] {
            assert!(problem(utf16).problem.contains("UTF-16"), "{utf16:?}");
        }
        let latin = problem(b"select 1;\r\nselect '\xc3\xbc', '\xe9'");
        assert_eq!(latin.line, Some(2));
        assert!(latin.problem.contains("byte 0xe9 at column 14"), "{latin:?}");
    }
}
