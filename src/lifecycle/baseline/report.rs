//! Options for the adoption of a schema, and the result.

use crate::{
    drift::Difference,
    ident::SchemaName,
    migrate::{MigrationId, Version},
    slug::TenantSlug,
};

/// Options for the adoption of a schema.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BaselineOptions {
    /// The newest migration that the schema contains. Default: the version in `from_table`, or without one the newest
    /// file.
    pub version: Option<Version>,
    /// The table in which another tool recorded its applied migrations.
    pub from_table: Option<String>,
    /// Why the schema is adopted in spite of the differences in [`accept`](Self::accept). The ledger stores this text.
    pub accept_differences: Option<String>,
    /// The accepted differences, each as kind and name (`index orders_at`) or as the whole line. A right with which
    /// roles other than the tenant's can access the tenant's rows is only accepted by its whole line.
    pub accept: Vec<String>,
    /// The tenant's display name, if the registry does not contain the tenant. Default: the slug.
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
    /// What the call changed.
    pub baselining: Baselining,
    /// The accepted differences.
    pub accepted: Vec<Difference>,
}

/// What the call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baselining {
    /// The ledger was written.
    Adopted,
    /// The ledger existed already. The missing parts of the tenant were created.
    Finished,
    /// The schema already had a ledger of cgk. Nothing was changed.
    Existed,
}
