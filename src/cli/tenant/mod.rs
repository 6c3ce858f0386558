//! The commands about tenants.

pub(in crate::cli) mod create;
pub(in crate::cli) mod create_many;
pub(in crate::cli) mod list;
pub(in crate::cli) mod slugs;
pub(in crate::cli) mod verify;
