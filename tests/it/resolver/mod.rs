//! What a service remembers of tenants and credentials, and how it learns that it has changed.

mod lost;
pub(crate) mod memory;
mod model;
mod notices;
mod questions;
mod received;
mod triggers;
