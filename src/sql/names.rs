//! Decodes names with Unicode escapes: `U&"d\0061t\+000061"`, and the escape character of UESCAPE.

use super::token::{SqlTokenKind, Token};

/// A text with its escapes decoded, or unchanged if that is not possible.
pub(super) enum Unescaped {
    Done(String),
    /// The server refuses it, for this reason.
    Invalid(String),
}

impl Unescaped {
    pub(super) fn or_raw(self) -> String {
        match self {
            Self::Done(text) | Self::Invalid(text) => text,
        }
    }
}

/// Decodes `\0061`, `\+000061` and `\\`, or with another escape character if one is given.
pub(super) fn unescape(raw: &str, escape: char) -> Unescaped {
    let mut done = String::with_capacity(raw.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        let code = if c != escape {
            None
        } else if chars.next_if_eq(&escape).is_some() {
            flush(&mut units, &mut done);
            done.push(escape);
            continue;
        } else {
            let digits = if chars.next_if_eq(&'+').is_some() { 6 } else { 4 };
            let text: String = (0..digits).filter_map(|_| chars.next_if(char::is_ascii_hexdigit)).collect();
            match u32::from_str_radix(&text, 16) {
                Ok(code) if text.len() == digits => Some(code),
                _ => return Unescaped::Invalid(raw.to_owned()),
            }
        };
        match code {
            // A character above U+FFFF may be written as two surrogates.
            Some(code) => match (u16::try_from(code), char::from_u32(code)) {
                (Ok(unit), _) => units.push(unit),
                (_, Some(c)) => {
                    flush(&mut units, &mut done);
                    done.push(c);
                }
                _ => return Unescaped::Invalid(raw.to_owned()),
            },
            None => {
                flush(&mut units, &mut done);
                done.push(c);
            }
        }
    }
    flush(&mut units, &mut done);
    Unescaped::Done(done)
}

fn flush(units: &mut Vec<u16>, done: &mut String) {
    done.push_str(&String::from_utf16_lossy(units));
    units.clear();
}

/// Decodes `U&"…" UESCAPE '!'` when its last token has been read.
pub(super) fn apply_uescape(text: &str, tokens: &mut Vec<Token>) {
    let [.., name, word, string] = tokens.as_slice() else { return };
    let is_escaped = |token: &Token| text.as_bytes().get(token.at).is_some_and(|first| matches!(first, b'u' | b'U'));
    let (SqlTokenKind::Quoted(_), Some("uescape"), Some(escape)) = (&name.kind, word.word(), string.text()) else {
        return;
    };
    if let (true, Some(escape)) = (is_escaped(name), escape.chars().next()) {
        let raw = text[name.at + 3..name.end - 1].replace("\"\"", "\"");
        let joined =
            Token { at: name.at, end: string.end, kind: SqlTokenKind::Quoted(unescape(&raw, escape).or_raw()) };
        tokens.truncate(tokens.len() - 3);
        tokens.push(joined);
    }
}
