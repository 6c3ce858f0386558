//! A tenant's row in the registry, which every layer uses.

use crate::slug::TenantSlug;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use std::{error::Error as StdError, fmt, str::FromStr, time::SystemTime};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

/// The id of an organization, the registry row of a tenant. In SQL a `uuid`, in JSON its text.
///
/// ```
/// let id: cgk::OrganizationId = "0195f0a0-0000-7000-8000-000000000001".parse()?;
/// assert_eq!(id.to_string(), "0195f0a0-0000-7000-8000-000000000001");
/// assert_eq!(cgk::OrganizationId::from(id.uuid()), id);
/// # Ok::<(), cgk::InvalidOrganizationId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrganizationId(pub Uuid);

/// The error for a text that is not an organization's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an organization's id, which is a UUID")]
pub struct InvalidOrganizationId {
    /// The given text, cut after 80 characters.
    pub text: String,
}

impl OrganizationId {
    /// Returns the id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for OrganizationId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl From<OrganizationId> for Uuid {
    fn from(id: OrganizationId) -> Self {
        id.0
    }
}

impl AsRef<Uuid> for OrganizationId {
    fn as_ref(&self) -> &Uuid {
        &self.0
    }
}

impl FromStr for OrganizationId {
    type Err = InvalidOrganizationId;

    fn from_str(text: &str) -> Result<Self, InvalidOrganizationId> {
        match Uuid::parse_str(text) {
            Ok(id) => Ok(Self(id)),
            Err(_) => Err(InvalidOrganizationId { text: text.chars().take(80).collect() }),
        }
    }
}

impl Serialize for OrganizationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OrganizationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl ToSql for OrganizationId {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Uuid as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for OrganizationId {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Uuid::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <Uuid as FromSql>::accepts(ty)
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The registry row of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tenant {
    /// The organization's id.
    pub id: OrganizationId,
    /// The tenant's slug, from which the schema's name is derived.
    pub slug: TenantSlug,
    /// The display name.
    pub name: String,
    /// Whether the tenant may be used.
    pub status: TenantStatus,
    /// When the registry row was created.
    pub created_at: SystemTime,
}

/// Whether a tenant may be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TenantStatus {
    /// The tenant can be used.
    Active,
    /// `with_tenant` refuses the tenant until it is activated.
    Suspended,
    /// The tenant is registered and not yet created. `with_tenant` refuses it.
    Onboarding,
    /// A status that this version does not know, from a newer version or from your own code. `with_tenant` refuses it.
    /// The schema is migrated and compared like every other.
    Other(String),
}

impl TenantStatus {
    /// Returns the value in the column `status` of the registry.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Onboarding => "onboarding",
            Self::Other(text) => text,
        }
    }

    /// Whether a tenant with this status must have a schema. A tenant that is being set up has none yet. For an unknown
    /// status, the answer is no.
    pub(crate) fn needs_schema(&self) -> bool {
        matches!(self, Self::Active | Self::Suspended)
    }
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Other users wrote the text, and messages contain it. So characters that end a line or move a cursor are
            // escaped.
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

/// A row of the registry that is not a valid tenant. It is reported and never changed. It does not affect other
/// tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StrangeRow {
    /// Its id as text; `None` if it has none.
    pub id: Option<String>,
    /// Its slug as stored, which can be any text; `None` if it has none.
    pub slug: Option<String>,
    /// Its status as stored, which can be any text; `None` if it has none.
    pub status: Option<String>,
    /// The reason why it is not a valid tenant.
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
    fn an_id_is_its_text_in_json() {
        let id = OrganizationId(Uuid::from_u128(7));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"00000000-0000-0000-0000-000000000007\"");
        assert_eq!(serde_json::from_str::<OrganizationId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<OrganizationId>("\"7\"").is_err());
        assert_eq!(
            "x".parse::<OrganizationId>().unwrap_err().to_string(),
            "\"x\" is not an organization's id, which is a UUID"
        );
        assert_eq!((Uuid::from(id), id.as_ref()), (id.uuid(), &id.0));
    }

    #[test]
    fn a_strange_row_is_one_line() {
        let row = StrangeRow { id: None, slug: Some("a\nb\u{1b}".into()), status: None, why: "no slug".into() };
        assert_eq!(row.to_string(), "organization, slug \"a\\nb\\u{1b}\": no slug");
    }
}
