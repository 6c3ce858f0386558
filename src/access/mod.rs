//! What roles and logins may do: the rights of a tenant's role, and the logins of services.

pub(crate) mod isolation;
pub mod login;
