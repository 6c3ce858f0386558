//! The identities of the shared tables' rows, each a type of its own so that none stands in another's place.

pub use crate::user::UserId;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Defines the identity of one table's rows.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// The identity of a session, a row of `public.sessions`.
    SessionId
);
id!(
    /// The identity of an API key, a row of `public.api_keys`.
    ApiKeyId
);
id!(
    /// The identity of a magic link, a row of `public.magic_links`.
    MagicLinkId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_and_read_as_its_uuid() {
        let text = "0190a0b0-0000-7000-8000-000000000001";
        assert_eq!(text.parse::<UserId>().unwrap().to_string(), text);
        assert!("acme".parse::<ApiKeyId>().is_err());
    }
}
