//! Errors of a tenant: unknown, suspended, or different from its row in the registry.

use super::{ErrorKind, MissingPart};
use crate::{
    ident::SchemaName,
    slug::TenantSlug,
    tenant::{OrganizationId, TenantStatus},
};
use std::time::{Duration, SystemTime};

/// Why a tenant cannot be entered, or its schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The registry has no tenant with this slug.
    #[error("tenant {tenant} does not exist")]
    NotFound {
        /// The slug.
        tenant: TenantSlug,
    },
    /// The tenant is suspended.
    #[error("tenant {tenant} is suspended")]
    Suspended {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// This version does not know the tenant's status. Only an `active` tenant can be entered.
    #[error("tenant {tenant} has the status {status}; only active tenants can be entered")]
    StatusUnknown {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry, a [`TenantStatus::Other`].
        status: TenantStatus,
    },
    /// The tenant is registered, but a part of it is missing.
    #[error("tenant {tenant} is not ready: {missing}")]
    NotReady {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry.
        status: TenantStatus,
        /// The missing part.
        missing: MissingPart,
    },
    /// The server refused to enter the tenant. Only the closure sees this error. `with_tenant` itself finds the cause
    /// and returns it.
    #[error("could not enter tenant {tenant}")]
    EntryRefused {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The tenant could not be entered, but a moment later the cause no longer existed, because another session was
    /// changing its status or its schema. Nothing was changed. A retry is likely to succeed.
    #[error("tenant {tenant} was changed by another session")]
    Changed {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// A schema of this name exists, but cgk did not create it.
    #[error("schema {schema:?} exists and is not cgk's: {why}", schema = schema.as_str())]
    SchemaNotOurs {
        /// The schema.
        schema: SchemaName,
        /// The reason for this conclusion.
        why: String,
    },
    /// The tenant's schema belongs to a different organization than the slug in the registry.
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
    /// The slug belongs to a different organization than the one in the context, which was created before a rename, or
    /// for another purpose. Nothing was changed.
    #[error("tenant {tenant} is organization {found}, and the context was made for organization {expected}")]
    ContextStale {
        /// The tenant.
        tenant: TenantSlug,
        /// The organization of the context.
        expected: OrganizationId,
        /// The organization that has the slug in the registry.
        found: OrganizationId,
    },
    /// The code needs a [`TenantContext`](crate::TenantContext) but runs outside of one.
    #[error(
        "there is no tenant context: the caller runs outside of TenantContext::scope, or in a task that was spawned without it"
    )]
    NoContext,
    /// A role with the new organization's role name exists, and owns or may access objects, because another
    /// organization had the slug before. Nothing was created.
    #[error("role {role:?} exists and is not free for a new organization: {holds}")]
    RoleInUse {
        /// The tenant.
        tenant: TenantSlug,
        /// The role.
        role: String,
        /// The objects that the role owns or may access, and their databases.
        holds: String,
    },
    /// According to the registry the tenant is in use, but its schema is missing. Nothing was created.
    #[error("tenant {tenant} is {status}, but its schema {schema:?} does not exist", schema = schema.as_str())]
    SchemaGone {
        /// The tenant.
        tenant: TenantSlug,
        /// Its status in the registry.
        status: TenantStatus,
        /// The schema.
        schema: SchemaName,
    },
    /// Transactions of the tenant are still running, and the operation must wait for them.
    #[error("tenant {tenant} is still in use after {waited:?}: {sessions}")]
    InUse {
        /// The tenant.
        tenant: TenantSlug,
        /// How long the operation waited.
        waited: Duration,
        /// The sessions in the tenant, as text.
        sessions: String,
    },
    /// The tenant is being dropped. A part of it may be missing.
    #[error("tenant {tenant} is being dropped")]
    BeingDropped {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// The tenant is suspended, and its drop is planned for a given time.
    #[error("tenant {tenant} is suspended and is to be dropped")]
    DropPlanned {
        /// The tenant.
        tenant: TenantSlug,
        /// The time from which it may be dropped.
        after: SystemTime,
    },
    /// The tenant must not be dropped now. Nothing was dropped.
    #[error("tenant {tenant} is not dropped: {why}")]
    DropNotDue {
        /// The tenant.
        tenant: TenantSlug,
        /// The reason, as text.
        why: String,
    },
    /// The tenant has changed since the preview of its drop. Nothing is dropped.
    #[error("tenant {tenant} is not dropped: {why}")]
    DropOutdated {
        /// The tenant.
        tenant: TenantSlug,
        /// The change.
        why: String,
    },
    /// The tenant cannot have the new slug. Nothing was changed.
    #[error("tenant {tenant} cannot be renamed: {}", by.join("; "))]
    RenameBlocked {
        /// The tenant.
        tenant: TenantSlug,
        /// The reasons, as text.
        by: Vec<String>,
    },
    /// An object outside of the tenant depends on it or belongs to its role. Nothing was dropped.
    #[error("tenant {tenant} cannot be dropped: {}", by.join("; "))]
    DropBlocked {
        /// The tenant.
        tenant: TenantSlug,
        /// The objects, as text.
        by: Vec<String>,
    },
    /// The tenant has another slug now, and is found by this one for some time. Nothing was executed; the next call of the
    /// same handle enters the tenant.
    #[error("tenant {tenant} was renamed: it is {now}")]
    Renamed {
        /// The former slug.
        tenant: TenantSlug,
        /// The slug now.
        now: TenantSlug,
        /// The organization.
        id: OrganizationId,
    },
    /// Another tenant is still found by the slug, which was its own.
    #[error("slug {tenant} is a former slug of tenant {now}, which is still found by it")]
    FormerSlug {
        /// The slug.
        tenant: TenantSlug,
        /// The slug of the other tenant.
        now: TenantSlug,
    },
    /// No schema can be kept ready for new tenants. Tenants are created without one.
    #[error("no schema can be kept ready for new tenants: {why}")]
    NotWarm {
        /// The reason, as text.
        why: String,
    },
    /// More schemas than one database keeps ready. Nothing was changed.
    #[error(
        "{wanted} schemas cannot be kept ready, only {max}: each has all tables of a tenant, and every migration replaces all of them"
    )]
    TooManyWarm {
        /// The number that was asked for.
        wanted: usize,
        /// The largest number.
        max: usize,
    },
}

impl TenantError {
    /// Returns code and kind of each variant.
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
            Self::Renamed { .. } => ("CGK0413", Unavailable),
            Self::FormerSlug { .. } => ("CGK0414", Conflict),
            Self::InUse { .. } => ("CGK0860", Locked),
            Self::BeingDropped { .. } => ("CGK0861", Conflict),
            Self::DropPlanned { .. } => ("CGK0920", Conflict),
            Self::DropNotDue { .. } => ("CGK0921", Conflict),
            Self::DropOutdated { .. } => ("CGK0922", Conflict),
            Self::RenameBlocked { .. } => ("CGK0863", Conflict),
            Self::DropBlocked { .. } => ("CGK0862", Conflict),
            Self::NotWarm { .. } => ("CGK0970", Refused),
            Self::TooManyWarm { .. } => ("CGK0971", Invalid),
        }
    }
}
