//! The database layer: connections and what travels over them. Knows no tenants.

pub(crate) mod tls;
