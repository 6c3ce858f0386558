//! From a request to a tenant, on a database: every way to name one, with every kind of credential.

mod domains;
mod tenants;
