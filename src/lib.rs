//! Schema-per-tenant PostgreSQL: provision tenant schemas, migrate the whole fleet, and run queries that see one tenant
//! and nothing else.

#![warn(missing_docs)]

pub mod config;
mod context;
pub(crate) mod db;
mod error;
pub mod ident;
mod isolation;
pub mod lifecycle;
pub mod lock;
pub mod migrate;
mod migration;
mod registry;
pub mod setup;
mod slug;
mod sqlstate;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod version;

pub use config::Config;
pub use context::{
    Db, Retry, TenantContext, TenantCopyIn, TenantCopyOut, TenantFn, TenantFnMany, TenantHandle, TenantRows,
    TenantSavepoint, TenantTx, TxOptions,
};
pub use db::{Operator, ServerFacts};
pub use error::{Error, ErrorKind, Result};
pub use slug::{InvalidSlug, SlugProblem, TenantSlug};
pub use tenant::{OrganizationId, Tenant, TenantStatus, UnknownStatus};
