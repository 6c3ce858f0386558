//! Tenants that a service requests and another process creates.
//!
//! Creating a tenant requires rights that a service should not have: to create schemas and roles. So the service writes
//! a request into the table `provisioning_requests` of the shared schema, in one transaction with the organization,
//! whose status is `onboarding`. A process with the operator's URL processes the queue: `cgk provision --watch`, or
//! [`serve()`].
//!
//! ```text
//! service                                 operator
//! request(tx, …)   organization + request
//! commit           NOTIFY ──────────────▶ serve: locks the request, creates the tenant
//! wait(id, 10 s)   ◀────────────── NOTIFY status done, the tenant is active
//! ```
//!
//! ```no_run
//! use cgk::{Db, TenantSlug, provisioning::{self, NewOrganization, Provisioning, ProvisioningError, ProvisioningStatus}};
//! use std::time::Duration;
//!
//! async fn sign_up(db: &Db, slug: TenantSlug, email: &str) -> Result<bool, ProvisioningError> {
//!     let db: Db<ProvisioningError> = db.errors();
//!     let requested = db
//!         .platform()
//!         .transaction(async |tx| {
//!             let requested = provisioning::request(tx, &NewOrganization::new(slug).name("Acme Inc.")).await?;
//!             // Whatever belongs to it is committed with it, or not at all.
//!             let owner = "insert into public.users (organization_id, email, role, status) values ($1, $2, 'owner', 'active')";
//!             tx.execute(owner, &[&requested.organization_id, &email]).await?;
//!             Ok(requested)
//!         })
//!         .await?;
//!     let provisioning = Provisioning::new(&db); // one for the whole service
//!     let request = provisioning.wait(requested.id, Duration::from_secs(10)).await?;
//!     Ok(request.status == ProvisioningStatus::Done) // `Pending`: it is still on its way
//! }
//! ```
//!
//! The login of the service needs rights on the shared tables (`cgk setup:database --app-role NAME --app-tables all`),
//! and no others. The roles of tenants have no rights on the queue.

mod error;
mod request;
#[cfg(feature = "migrate")]
mod serve;
mod waiting;

pub use error::{ProvisioningError, Result};
pub use request::{NewOrganization, Requested, request};
pub(crate) use request::{check_name, check_settings};
#[cfg(feature = "migrate")]
pub use serve::{Attempt, AttemptOutcome, ServeOptions, ServeReport, serve, serve_due};

use crate::{slug::TenantSlug, tenancy::Db, tenant::OrganizationId};
use std::{fmt, str::FromStr, sync::Arc, time::SystemTime};
use tokio_postgres::Row;
use uuid::Uuid;
use waiting::Waiting;

/// The channel of migration 011: `<status> <id of the request>`.
const CHANNEL: &str = "cgk_provisioning";

/// The id of a request for a tenant, a row of `public.provisioning_requests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProvisioningId(pub Uuid);

impl fmt::Display for ProvisioningId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ProvisioningId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// The status of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProvisioningStatus {
    /// It waits for an attempt, or an attempt is running.
    Pending,
    /// The tenant is created.
    Done,
    /// The last attempt failed, and no other follows until [`Provisioning::retry`] is called.
    Failed,
    /// A status that this version does not know.
    Other(String),
}

impl ProvisioningStatus {
    /// Returns the value in the database.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Pending => "pending",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for ProvisioningStatus {
    fn from(text: &str) -> Self {
        match text {
            "pending" => Self::Pending,
            "done" => Self::Done,
            "failed" => Self::Failed,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ProvisioningStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_str().escape_debug())
    }
}

/// A request for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProvisioningRequest {
    /// The id of the request.
    pub id: ProvisioningId,
    /// The organization that was created with the request.
    pub organization_id: OrganizationId,
    /// The organization's slug, as the registry has it.
    pub slug: String,
    /// The status of the request.
    pub status: ProvisioningStatus,
    /// How many attempts were started.
    pub attempts: u32,
    /// No attempt is made before this time.
    pub attempt_at: SystemTime,
    /// The error of the last attempt.
    pub failure: Option<ProvisioningFailure>,
    /// When it was done or finally failed.
    pub finished_at: Option<SystemTime>,
    /// When it was created.
    pub created_at: SystemTime,
}

/// The error of an attempt, for the operator and the log: it names roles, schemas and files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProvisioningFailure {
    /// The code of the error, such as `CGK0412`.
    pub code: String,
    /// The error and its causes.
    pub message: String,
}

/// Reads requests, waits for them, and requests another attempt. Cheap to clone.
///
/// Create one for the whole service: all calls of [`wait`](Self::wait) share one connection that listens.
#[derive(Clone, Debug)]
pub struct Provisioning {
    db: Db<ProvisioningError>,
    waiting: Arc<Waiting>,
}

/// A query of requests with the columns that [`read`] reads.
macro_rules! requests {
    ($rest:literal) => {
        concat!(
            "select r.id, r.organization_id, o.slug::pg_catalog.text, r.status::pg_catalog.text, r.attempts, r.attempt_at,
                    r.error_code, r.error, r.finished_at, r.created_at
               from public.provisioning_requests r join public.organizations o on o.id = r.organization_id ",
            $rest
        )
    };
}

const FIND: &str = requests!("where r.id = $1");
const OF_TENANT: &str = requests!("where o.slug = $1");
const LIST: &str = requests!("where r.status <> 'done' or $1 order by r.created_at desc, r.id limit 1000");

const RETRY: &str = "update public.provisioning_requests
    set status = 'pending', attempts = 0, attempt_at = pg_catalog.now(), finished_at = null
    where id = $1 and status in ('failed', 'pending')";

impl Provisioning {
    /// Creates the operations for this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), waiting: Arc::new(Waiting::default()) }
    }

    /// Returns a request.
    ///
    /// # Errors
    ///
    /// `NotFound`, also after the organization is deleted; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn find(&self, id: ProvisioningId) -> Result<ProvisioningRequest> {
        let row = self.db.platform().query_opt(FIND, &[&id.0]).await?;
        row.as_ref().map(read).ok_or(ProvisioningError::NotFound)
    }

    /// Returns the request of a tenant, by its slug.
    ///
    /// # Errors
    ///
    /// `NotFound`: the tenant does not exist, or it was created without a request. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn of_tenant(&self, slug: &TenantSlug) -> Result<ProvisioningRequest> {
        let row = self.db.platform().query_opt(OF_TENANT, &[&slug.as_str()]).await?;
        row.as_ref().map(read).ok_or(ProvisioningError::NotFound)
    }

    /// Returns the newest thousand requests that are pending or failed.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn unfinished(&self) -> Result<Vec<ProvisioningRequest>> {
        self.list(false).await
    }

    /// Returns the newest thousand requests, including those that are done.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn all(&self) -> Result<Vec<ProvisioningRequest>> {
        self.list(true).await
    }

    async fn list(&self, done_too: bool) -> Result<Vec<ProvisioningRequest>> {
        Ok(self.db.platform().query(LIST, &[&done_too]).await?.iter().map(read).collect())
    }

    /// Makes a failed request pending again, with all its attempts. If the request waits for its next attempt, it
    /// becomes due now.
    ///
    /// # Locks
    ///
    /// The request's row, for one statement. The call waits for a running attempt, at most for the lock timeout.
    ///
    /// # Errors
    ///
    /// `NotFound`: the request does not exist, or it is done. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the request may or may not be made pending.
    pub async fn retry(&self, id: ProvisioningId) -> Result<()> {
        match self.db.platform().execute(RETRY, &[&id.0]).await? {
            0 => Err(ProvisioningError::NotFound),
            _ => Ok(()),
        }
    }
}

fn read(row: &Row) -> ProvisioningRequest {
    let error: Option<String> = row.get(7);
    ProvisioningRequest {
        id: ProvisioningId(row.get(0)),
        organization_id: row.get(1),
        slug: row.get(2),
        status: row.get::<_, &str>(3).into(),
        attempts: row.get::<_, i32>(4).unsigned_abs(),
        attempt_at: row.get(5),
        failure: error
            .map(|message| ProvisioningFailure { code: row.get::<_, Option<String>>(6).unwrap_or_default(), message }),
        finished_at: row.get(8),
        created_at: row.get(9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_keep_their_text() {
        for text in ["pending", "done", "failed", "paused"] {
            assert_eq!(ProvisioningStatus::from(text).as_str(), text);
        }
        assert_eq!(ProvisioningStatus::from("a\n").to_string(), "a\\n");
        let id = "0190a0b0-0000-7000-8000-000000000001";
        assert_eq!(id.parse::<ProvisioningId>().unwrap().to_string(), id);
    }
}
