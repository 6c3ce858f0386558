//! What a job is.

use crate::http::etag::ETag;
use cgk::{FromRow, OrganizationId, ownership::Owned, tokio_postgres::Row};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

/// A job on a repository.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Job {
    pub id: Uuid,
    pub organization_id: Uuid,
    pub repository_id: Uuid,
    pub kind: JobKind,
    pub status: JobStatus,
    /// How often it was begun.
    pub attempts: i32,
    /// It is not begun before this time.
    #[serde(with = "time::serde::rfc3339")]
    pub run_at: OffsetDateTime,
    /// What it found, when it has succeeded.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// What the last attempt failed with.
    pub error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(required)]
    pub finished_at: Option<OffsetDateTime>,
    /// Counts the changes; the ETag.
    pub version: i64,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A job to be done.
#[derive(Clone, Debug, Deserialize, Serialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[garde(allow_unvalidated)]
pub struct NewJob {
    pub kind: JobKind,
}

/// Defines an enum of texts, as the table's checks have them.
macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The table's checks allow no other text.
            fn read(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

texts!(
    /// What is done.
    JobKind {
        /// Counts the words of the description.
        Analyze = "analyze",
        /// Fails while the repository has no description.
        Verify = "verify",
    }
);

texts!(
    /// How far it is.
    JobStatus {
        Queued = "queued",
        Running = "running",
        Succeeded = "succeeded",
        Failed = "failed",
    }
);

impl Job {
    pub fn etag(&self) -> ETag {
        ETag::of(self.version)
    }

    pub fn path(&self) -> String {
        format!("/organizations/{}/jobs/{}", self.organization_id, self.id)
    }
}

impl Owned for Job {
    const RESOURCE: &'static str = "job";

    fn organization_id(&self) -> OrganizationId {
        OrganizationId(self.organization_id)
    }
}

impl FromRow for Job {
    fn from_row(row: &Row) -> Result<Self, cgk::tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            organization_id: row.try_get("organization_id")?,
            repository_id: row.try_get("repository_id")?,
            kind: JobKind::read(row.try_get("kind")?).expect("a check allows no other kind"),
            status: JobStatus::read(row.try_get("status")?).expect("a check allows no other status"),
            attempts: row.try_get("attempts")?,
            run_at: row.try_get("run_at")?,
            result: row.try_get("result")?,
            error: row.try_get("error")?,
            finished_at: row.try_get("finished_at")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}
