//! The commands about domain events.

pub(crate) mod list;
pub(crate) mod relay;
pub(crate) mod retry;
