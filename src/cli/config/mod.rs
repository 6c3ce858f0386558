//! The commands about the configuration.

pub(crate) mod show;
