//! What an organization is.

use crate::http::{body::no_zero, etag::ETag};
use cgk::{FromRow, OrganizationId, ownership::Owned, tokio_postgres::Row};
use garde::Validate;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// An organization.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Organization {
    pub id: Uuid,
    /// Names it in hosts; never changes.
    pub slug: String,
    pub name: String,
    pub status: OrganizationStatus,
    #[serde(skip)]
    version: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrganizationStatus {
    /// It is being made.
    Onboarding,
    Active,
    /// It lets nobody in.
    Suspended,
}

/// An organization to be made.
#[derive(Clone, Debug, Deserialize, Serialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrganization {
    #[garde(length(bytes, max = 48), pattern(r"^[a-z][a-z0-9_]{0,47}$"))]
    #[schema(pattern = "^[a-z][a-z0-9_]{0,47}$", example = "initech")]
    pub slug: String,
    #[garde(length(chars, min = 1, max = 200), custom(no_zero), custom(not_blank))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub name: String,
}

/// What may be changed of an organization.
#[derive(Clone, Debug, Deserialize, Serialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganizationFields {
    #[garde(length(chars, min = 1, max = 200), custom(no_zero), custom(not_blank))]
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
    pub name: String,
}

fn not_blank(text: &str, _: &()) -> garde::Result {
    match text.trim().is_empty() {
        true => Err(garde::Error::new("is blank")),
        false => Ok(()),
    }
}

impl Organization {
    pub fn etag(&self) -> ETag {
        ETag::of(self.version)
    }

    pub fn path(&self) -> String {
        format!("/organizations/{}", self.id)
    }
}

impl Owned for Organization {
    const RESOURCE: &'static str = "organization";

    fn organization_id(&self) -> OrganizationId {
        OrganizationId(self.id)
    }
}

impl FromRow for Organization {
    fn from_row(row: &Row) -> Result<Self, cgk::tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            slug: row.try_get("slug")?,
            name: row.try_get("name")?,
            status: match row.try_get("status")? {
                "active" => OrganizationStatus::Active,
                "onboarding" => OrganizationStatus::Onboarding,
                _ => OrganizationStatus::Suspended,
            },
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}
