//! Texts in a specified format.

use super::InvalidValue;

/// Defines a text that is checked when it is created.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $holds:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidValue;

            fn try_from(text: String) -> Result<Self, InvalidValue> {
                let holds: fn(&str) -> bool = $holds;
                if holds(&text) { Ok(Self(text)) } else { Err(InvalidValue::new($what, $rule)) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                text.to_owned().try_into()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// The name of a column of a dataset: a-z, 0-9 and _, at most 63 characters. The first character is not a digit.
    ColumnName,
    "the name of a column",
    "is a-z, 0-9 and _, at most 63, and does not begin with a digit",
    |text| {
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=63).contains(&text.len()) && text.bytes().all(rest) && !text.as_bytes()[0].is_ascii_digit()
    }
);

text!(
    /// A text for people, of 1 to 200 characters.
    Label,
    "a label",
    "has 1 to 200 characters, none of them NUL",
    |text| (1..=200).contains(&text.chars().count()) && !text.contains('\0')
);

text!(
    /// A text of 1 to 10,000 characters.
    Markdown,
    "a text",
    "has 1 to 10,000 characters, none of them NUL",
    |text| (1..=10_000).contains(&text.chars().count()) && !text.contains('\0')
);

text!(
    /// An e-mail address: ASCII, at most 320 characters, with one @.
    EmailAddress,
    "an e-mail address",
    "is ASCII without spaces, at most 320, with one @ between two parts",
    |text| {
        let part = |part: &str| !part.is_empty() && is_printable(part) && !part.contains('@');
        text.len() <= 320 && text.split_once('@').is_some_and(|(name, host)| part(name) && part(host))
    }
);

text!(
    /// A URL to call: https, ASCII, at most 2,000 characters.
    HttpsUrl,
    "a URL",
    "begins with https:// and is ASCII without spaces, at most 2,000",
    |text| text.len() <= 2000 && text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && is_printable(rest))
);

text!(
    /// The name of a time zone, such as `Europe/Berlin`. Whether the zone exists is not checked.
    TimeZoneName,
    "the name of a time zone",
    "is ASCII letters, digits, _, +, - and /, at most 64, and begins with a letter",
    |text| {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_+/-".contains(&byte);
        (1..=64).contains(&text.len()) && text.bytes().all(rest) && text.as_bytes()[0].is_ascii_alphabetic()
    }
);

/// Returns whether the text contains only visible ASCII characters and no space.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
