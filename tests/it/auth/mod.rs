//! Who asks: users, sessions, API keys and magic links.

mod addresses;
mod api_keys;
mod concurrency;
mod magic_links;
mod passwords;
pub(crate) mod platform;
mod sessions;
mod tokens;
