//! Tenants are created, adopted, changed.

pub(crate) mod baseline;
pub(crate) mod create_many;
pub(crate) mod isolation_direct;
pub(crate) mod isolation_finish;
pub(crate) mod isolation_mode;
pub(crate) mod lost_client;
pub(crate) mod operator_rights;
pub(crate) mod removed_tenants;
pub(crate) mod setup_and_create;
