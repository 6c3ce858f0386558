//! Encrypted columns. The service encrypts their values, so the database, its dumps and its replicas contain nothing
//! that can decrypt them.
//!
//! A value is encrypted (sealed) with AES-256-GCM for its place: a column and an organization ([`SecretPlace`]). If it
//! is copied to another place, it cannot be decrypted (opened) there. It contains the id of its key, so keys can be
//! replaced: put the new key first in `CGK_SECRET_KEYS`, run `cgk secret:rotate`, then remove the old key.
//!
//! [`SecretKeys::seal`] and [`SecretKeys::open`] are for your own columns. [`Secrets`] is for the columns of the shared
//! tables.

mod accounts;
mod error;
mod keys;
mod rotate;

pub use error::{Result, SecretError};
pub use keys::{PlainSecret, SecretKeys, SecretPlace, key_id};
pub use rotate::{Rotation, Secrets, UnopenedSecret};
