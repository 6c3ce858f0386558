//! The commands about sessions.

pub(crate) mod list;
pub(crate) mod revoke;
