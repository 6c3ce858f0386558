//! Secrets at rest: columns whose values are sealed by the service, so that the database, its dumps and its replicas hold nothing that opens
//! them.
//!
//! A value is sealed with AES-256-GCM for its place, a column and an organization ([`SecretPlace`]): copied anywhere else it does not
//! open. It holds the id of its key, so keys can be replaced: put the new key first in `CGK_SECRET_KEYS`, run `cgk secret:rotate`,
//! then take the old key away.
//!
//! [`SecretKeys::seal`] and [`SecretKeys::open`] are for columns of your own; [`Secrets`] has those of the shared tables.

mod accounts;
mod error;
mod keys;
mod rotate;

pub use error::{Result, SecretError};
pub use keys::{PlainSecret, SecretKeys, SecretPlace, key_id};
pub use rotate::{Rotation, Secrets};
