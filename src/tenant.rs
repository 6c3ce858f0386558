//! The record of a tenant that every layer shares.

use crate::slug::TenantSlug;
use std::{fmt, str::FromStr, time::SystemTime};
use uuid::Uuid;

/// The identity of an organization, the registry row behind a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrganizationId(pub Uuid);

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the registry says of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenant {
    /// The organization's identity.
    pub id: OrganizationId,
    /// The tenant's name, which names the schema too.
    pub slug: TenantSlug,
    /// The name for people.
    pub name: String,
    /// Whether the tenant may be used.
    pub status: TenantStatus,
    /// When the registry row was written.
    pub created_at: SystemTime,
}

/// Whether a tenant may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantStatus {
    /// In use.
    Active,
    /// Locked: `with_tenant` refuses.
    Suspended,
    /// Registered, not yet provisioned: `with_tenant` refuses.
    Onboarding,
}

impl TenantStatus {
    /// The value of the enum `organization_status` in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Onboarding => "onboarding",
        }
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        [Self::Active, Self::Suspended, Self::Onboarding]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownStatus { text: text.into() })
    }
}

/// A status that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown tenant status {text:?}")]
pub struct UnknownStatus {
    /// The value found.
    pub text: String,
}
