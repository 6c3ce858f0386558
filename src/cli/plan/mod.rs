//! The commands about plans.

pub(crate) mod list;
