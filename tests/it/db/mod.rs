//! Connections.

pub(crate) mod connection;
pub(crate) mod debug;
pub(crate) mod encrypted;
pub(crate) mod extension_schemas;
pub(crate) mod public_functions;
pub(crate) mod split_answers;
pub(crate) mod standby;
pub(crate) mod test_builder;
pub(crate) mod writable_public;
