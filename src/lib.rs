//! Schema-per-tenant PostgreSQL: provision tenant schemas, migrate the whole fleet, and run queries that see one tenant
//! and nothing else.

#[cfg(feature = "testing")]
pub mod testing;
