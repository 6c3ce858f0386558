//! The record of a tenant that every layer shares.

use crate::slug::TenantSlug;
use std::{fmt, time::SystemTime};
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TenantStatus {
    /// In use.
    Active,
    /// Locked: `with_tenant` refuses.
    Suspended,
    /// Registered, not yet provisioned: `with_tenant` refuses.
    Onboarding,
    /// A status that this version does not know, of a newer version or of your own: `with_tenant` refuses, and the schema is
    /// migrated and compared as every other.
    Other(String),
}

impl TenantStatus {
    /// The value in the column `status` of the registry.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Onboarding => "onboarding",
            Self::Other(text) => text,
        }
    }

    /// Whether a tenant of this status must have its schema. One that is being set up has none yet; what a status means that
    /// this version does not know cannot be said.
    pub(crate) fn needs_schema(&self) -> bool {
        matches!(self, Self::Active | Self::Suspended)
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Somebody else's text goes into messages: what could end a line or move a cursor is written out.
            Self::Other(text) => write!(f, "{}", text.escape_debug()),
            known => f.write_str(known.as_str()),
        }
    }
}

impl From<&str> for TenantStatus {
    fn from(text: &str) -> Self {
        [Self::Active, Self::Suspended, Self::Onboarding]
            .into_iter()
            .find(|status| status.as_str() == text)
            .unwrap_or_else(|| Self::Other(text.into()))
    }
}

/// A row of the registry that is no tenant to cgk. It is reported and never touched, and stops nothing for the others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StrangeRow {
    /// Its id as text, if it has one.
    pub id: Option<String>,
    /// Its slug as it stands there, if it has one: any text.
    pub slug: Option<String>,
    /// Its status as it stands there, if it has one: any text.
    pub status: Option<String>,
    /// Why it cannot be read as a tenant.
    pub why: String,
}

/// One line, with the texts of the row escaped.
impl fmt::Display for StrangeRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("organization")?;
        if let Some(id) = &self.id {
            write!(f, " {}", id.escape_debug())?;
        }
        match &self.slug {
            Some(slug) => write!(f, ", slug {slug:?}: {}", self.why),
            None => write!(f, ": {}", self.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_read_and_an_unknown_one_keeps_its_text() {
        for text in ["active", "suspended", "onboarding", "archived", "", "Active"] {
            assert_eq!(TenantStatus::from(text).as_str(), text);
        }
        assert_eq!(TenantStatus::from("Active"), TenantStatus::Other("Active".into()));
        assert_eq!(TenantStatus::from("a\n\u{1b}[2Jb").to_string(), "a\\n\\u{1b}[2Jb");
    }

    #[test]
    fn a_strange_row_is_one_line() {
        let row = StrangeRow { id: None, slug: Some("a\nb\u{1b}".into()), status: None, why: "no slug".into() };
        assert_eq!(row.to_string(), "organization, slug \"a\\nb\\u{1b}\": no slug");
    }
}
