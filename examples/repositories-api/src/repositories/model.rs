//! What a repository is.

use crate::http::{body::no_zero, etag::ETag};
use cgk::{FromRow, OrganizationId, ownership::Owned, tokio_postgres::Row};
use garde::Validate;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A repository.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Repository {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub name: String,
    pub description: String,
    pub default_branch: String,
    /// Counts the changes; the ETag.
    pub version: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// What a client says of a repository.
#[derive(Clone, Debug, Deserialize, Serialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepositoryFields {
    /// Unique in the organization.
    #[garde(length(bytes, max = 100), pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"))]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", example = "website")]
    pub name: String,
    #[serde(default)]
    #[garde(length(chars, max = 500), custom(no_zero))]
    #[schema(max_length = 500, pattern = r"^[^\u0000]*$")]
    pub description: String,
    #[serde(default = "main_branch")]
    #[garde(length(bytes, max = 100), pattern(r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$"))]
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$", default = "main")]
    pub default_branch: String,
}

fn main_branch() -> String {
    "main".to_owned()
}

impl Repository {
    pub fn etag(&self) -> ETag {
        ETag::of(self.version)
    }

    pub fn path(&self) -> String {
        format!("/organizations/{}/repositories/{}", self.organization_id, self.id)
    }
}

impl Owned for Repository {
    const RESOURCE: &'static str = "repository";

    fn organization_id(&self) -> OrganizationId {
        OrganizationId(self.organization_id)
    }
}

impl FromRow for Repository {
    fn from_row(row: &Row) -> Result<Self, cgk::tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            organization_id: row.try_get("organization_id")?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            default_branch: row.try_get("default_branch")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}
