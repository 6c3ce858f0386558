//! The commands about the audit log.

pub(crate) mod list;
pub(crate) mod retain;
