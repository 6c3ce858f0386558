//! How a schema is adopted, and the result.

use crate::{
    drift::Difference,
    ident::SchemaName,
    migrate::{MigrationId, Version},
    slug::TenantSlug,
};

/// How a schema is adopted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BaselineOptions {
    /// The newest migration that the schema holds. Default: the version in `from_table`, else the newest file.
    pub version: Option<Version>,
    /// The table in which another tool recorded its applied migrations.
    pub from_table: Option<String>,
    /// Why the schema is adopted although it differs as [`accept`](Self::accept) says; kept in the ledger.
    pub accept_differences: Option<String>,
    /// The differences that are accepted, each as kind and name (`index orders_at`) or as the whole line. A right of others than
    /// the tenant's role, which lets them reach the tenant's rows, is accepted by its whole line only.
    pub accept: Vec<String>,
    /// The tenant's name for people, where the registry does not know it. Default: the slug.
    pub name: Option<String>,
}

/// The result of an adoption.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Baselined {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// The newest migration in its ledger.
    pub head: Option<MigrationId>,
    /// What was done.
    pub baselining: Baselining,
    /// What differs from the migrations and was accepted.
    pub accepted: Vec<Difference>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baselining {
    /// The ledger was written.
    Adopted,
    /// The ledger existed; the rest that a tenant needs was created.
    Finished,
    /// The schema had a ledger of cgk; nothing was done.
    Existed,
}
