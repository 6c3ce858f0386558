//! Work over many tenants: which tenants, in which order, and how it is interrupted.

pub(crate) mod interrupt;
pub(crate) mod queue;
pub(crate) mod selection;
