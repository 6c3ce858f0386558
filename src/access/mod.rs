//! The rights of roles and logins: of a tenant's role, and of the logins of services.

pub(crate) mod isolation;
pub mod login;
