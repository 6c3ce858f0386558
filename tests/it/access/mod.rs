//! Roles and logins.

pub(crate) mod admission_failures;
mod completion;
pub(crate) mod harden;
pub(crate) mod limits;
pub(crate) mod login_rights;
pub(crate) mod row_security;
pub(crate) mod service_login;
