//! The ids of the rows of the shared tables, each with its own type, so that they cannot be confused.

use crate::row_id::row_id;
pub use crate::user::{ApiKeyId, UserId};

row_id!(
    /// The id of a session, a row of `public.sessions`.
    SessionId
);
row_id!(
    /// The id of a magic link, a row of `public.magic_links`.
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
