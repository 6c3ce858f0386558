//! A tenant as such: unknown, suspended, or not as its row in the registry says.

use super::ErrorKind;
use crate::{
    ident::SchemaName,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};

/// Why a tenant cannot be entered, or its schema not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The registry knows no tenant of this name.
    #[error("tenant {tenant} does not exist")]
    NotFound {
        /// The name.
        tenant: TenantSlug,
    },
    /// The tenant is suspended.
    #[error("tenant {tenant} is suspended")]
    Suspended {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The tenant's status is one that this version does not know; only `active` lets anybody in.
    #[error("tenant {tenant} has the status {status}; only active tenants can be entered")]
    StatusUnknown {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry, a [`TenantStatus::Other`].
        status: TenantStatus,
    },
    /// The tenant is registered, and something it needs is not there.
    #[error("tenant {tenant} is not ready: {missing}")]
    NotReady {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry.
        status: TenantStatus,
        /// What is not there.
        missing: String,
    },
    /// The server refused the way into the tenant. Seen by the closure only: `with_tenant` itself finds out why and returns
    /// that.
    #[error("could not enter tenant {tenant}")]
    EntryRefused {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The tenant could not be entered, and a moment later nothing stood in the way: its status or its schema was being
    /// changed. Nothing was done; trying again may well succeed.
    #[error("tenant {tenant} was changing while it was entered")]
    Changed {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// A schema of this name exists, and cgk did not make it.
    #[error("schema {schema:?} exists and is not cgk's: {why}", schema = schema.as_str())]
    SchemaNotOurs {
        /// The schema.
        schema: SchemaName,
        /// How that shows.
        why: String,
    },
    /// The tenant's schema belongs to another organization than the one that has the slug in the registry.
    #[error("schema {schema:?} belongs to organization {found}, and in the registry {tenant} is organization {expected}", schema = schema.as_str())]
    OrganizationMismatch {
        /// The tenant.
        tenant: TenantSlug,
        /// Its schema.
        schema: SchemaName,
        /// The organization that has the slug in the registry.
        expected: OrganizationId,
        /// The organization that the comment on the schema names.
        found: String,
    },
    /// The tenant's slug belongs to another organization than the context in which it was entered says: the context is older than
    /// a change of names, or was made for something else. Nothing was done.
    #[error("tenant {tenant} is organization {found}, and the context was made for organization {expected}")]
    ContextStale {
        /// The tenant.
        tenant: TenantSlug,
        /// The organization of the context.
        expected: OrganizationId,
        /// The organization that has the slug in the registry.
        found: OrganizationId,
    },
    /// The code that needs a [`TenantContext`](crate::TenantContext) runs outside of one.
    #[error(
        "there is no tenant context: the caller runs outside of TenantContext::scope, or in a task that was spawned without it"
    )]
    NoContext,
    /// A role has the name that the new organization's role would have, and has something already: another organization had the
    /// slug. Nothing was made.
    #[error("role {role:?} exists and is not free for a new organization: {holds}")]
    RoleInUse {
        /// The tenant.
        tenant: TenantSlug,
        /// The role.
        role: String,
        /// What it has, and in which databases.
        holds: String,
    },
    /// The registry says that the tenant is in use, and its schema is gone. Nothing was made in its place.
    #[error("tenant {tenant} is {status}, but its schema {schema:?} does not exist", schema = schema.as_str())]
    SchemaGone {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry.
        status: TenantStatus,
        /// The schema.
        schema: SchemaName,
    },
}

impl TenantError {
    /// Code and kind of every variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::NotFound { .. } => ("CGK0401", NotFound),
            Self::Suspended { .. } => ("CGK0402", Suspended),
            Self::StatusUnknown { .. } => ("CGK0409", Suspended),
            Self::NotReady { .. } => ("CGK0403", NotReady),
            Self::EntryRefused { .. } => ("CGK0405", NotReady),
            Self::Changed { .. } => ("CGK0408", Unavailable),
            Self::SchemaNotOurs { .. } => ("CGK0404", Conflict),
            Self::OrganizationMismatch { .. } => ("CGK0406", Conflict),
            Self::ContextStale { .. } => ("CGK0410", Conflict),
            Self::NoContext => ("CGK0411", Refused),
            Self::SchemaGone { .. } => ("CGK0407", NotReady),
            Self::RoleInUse { .. } => ("CGK0412", Conflict),
        }
    }
}
