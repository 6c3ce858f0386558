//! Schema-per-tenant PostgreSQL: provision tenant schemas, migrate the whole fleet, and run queries that see one tenant
//! and nothing else.

pub mod config;
pub(crate) mod db;
