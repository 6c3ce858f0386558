//! Organizations: the table `public.organizations`, for members and operators.
//!
//! ```no_run
//! use cgk::{TenantSlug, UserId, platform::{Actor, OrganizationChange, Organizations, PlatformError}};
//! use cgk::provisioning::NewOrganization;
//!
//! async fn second_workspace(db: &cgk::Db, ada: UserId, slug: TenantSlug) -> Result<(), PlatformError> {
//!     let organizations = Organizations::new(db).acting_as(Actor::User(ada));
//!     let created = organizations.create(&NewOrganization::new(slug).name("Acme Labs"), ada).await?;
//!     // `cgk provision` creates the tenant; `cgk::provisioning::Provisioning::wait` waits for it.
//!     let change = OrganizationChange::default().name("Acme Laboratories");
//!     organizations.update(created.organization.id, &change).await?;
//!     Ok(())
//! }
//! ```

mod change;
mod lock;

pub use change::{CreatedOrganization, OrganizationChange};
pub(crate) use change::{create_in, of_provisioning};
pub(crate) use lock::lock;

use super::{
    Actor, PlatformError,
    error::Result,
    page::{Cursor, Page, PageRequest},
    permissions::{Permission, demand, explain_nothing},
};
use crate::{
    slug::TenantSlug,
    tenancy::{Db, PlatformTx},
    tenant::{OrganizationId, TenantStatus},
    user::UserId,
};
use std::time::SystemTime;
use tokio_postgres::Row;

/// An organization, without its secrets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Organization {
    /// The id of the organization.
    pub id: OrganizationId,
    /// The slug of its tenant.
    pub slug: String,
    /// The name that people read.
    pub name: String,
    /// Whether its tenant can be entered.
    pub status: TenantStatus,
    /// The product's own settings, a JSON object.
    pub settings: serde_json::Value,
    /// When it was created.
    pub created_at: SystemTime,
    /// When its row was last changed.
    pub updated_at: SystemTime,
}

/// The operations on organizations. Cheap to clone.
///
/// Each operation is one transaction of [`Db::platform`].
#[derive(Clone, Debug)]
pub struct Organizations {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

/// A query of organizations, with the columns that [`read`] reads.
macro_rules! organizations {
    ($rest:literal) => {
        concat!(
            "select o.id, o.slug::pg_catalog.text, o.name, o.status::pg_catalog.text, o.settings, o.created_at, o.updated_at
               from public.organizations o ",
            $rest
        )
    };
}

const FIND: &str = organizations!("where o.id = $1");
const BY_SLUG: &str = organizations!("where o.slug = $1");
const LIST: &str = organizations!("where (o.created_at, o.id) > ($1, $2) order by o.created_at, o.id limit $3");
const OF_USER: &str = organizations!(
    "join public.memberships m on m.organization_id = o.id join public.users u on u.id = m.user_id
     where (o.created_at, o.id) > ($1, $2) and u.id = $4 and u.status <> 'disabled' and m.confirmed_at is not null
     order by o.created_at, o.id limit $3"
);

/// The permission to create an organization for another user. No role and no scope has it.
const CREATE: &str = "organizations:create";

impl Organizations {
    /// Creates the handle for the organizations of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    /// Returns an organization.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: no organization has this id, or the actor is not a member. `Forbidden`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn get(&self, id: OrganizationId) -> Result<Organization> {
        let actor = self.actor();
        let platform = self.db.platform();
        let found = platform.transaction(async |tx| {
            demand(tx, &actor, id, Permission::OrganizationRead).await?;
            find(tx, id).await
        });
        found.await
    }

    /// Returns an organization by the slug of its tenant.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Same as [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn by_slug(&self, slug: &TenantSlug) -> Result<Organization> {
        let actor = self.actor();
        let platform = self.db.platform();
        let found = platform.transaction(async |tx| {
            let found = tx.query_opt(BY_SLUG, &[&slug.as_str()]).await?.as_ref().map(read).ok_or_else(unknown)?;
            demand(tx, &actor, found.id, Permission::OrganizationRead).await?;
            Ok(found)
        });
        found.await
    }

    /// Returns a page of organizations, oldest first. A user gets the organizations of its confirmed memberships. The
    /// service and operators get all.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is an API key or not known. `UserDisabled`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<Organization>> {
        let ((at, id), limit) = (page.start(), page.rows());
        let (platform, actor) = (self.db.platform(), self.actor());
        let rows = match &actor {
            Actor::User(user) => platform.query(OF_USER, &[&at, &id, &limit, user]).await?,
            Actor::System | Actor::Operator(_) => platform.query(LIST, &[&at, &id, &limit]).await?,
            Actor::ApiKey(_) | Actor::Anonymous => {
                return Err(PlatformError::forbidden(&actor, "organizations:list"));
            }
        };
        if rows.is_empty() {
            explain_nothing(&self.db, &actor).await?;
        }
        Ok(page.page(rows.iter().map(read).collect(), |row| Cursor::at(row.created_at, row.id)))
    }

    /// Returns an error if the user may not own an organization that this actor creates.
    fn demand_creator(&self, owner: UserId) -> Result<Actor> {
        match self.actor() {
            actor @ (Actor::ApiKey(_) | Actor::Anonymous) => Err(PlatformError::forbidden(&actor, CREATE)),
            Actor::User(user) if user != owner => Err(PlatformError::forbidden(&Actor::User(user), CREATE)),
            actor => Ok(actor),
        }
    }
}

/// Returns an organization, in a transaction.
async fn find(tx: &PlatformTx<'_>, id: OrganizationId) -> Result<Organization> {
    tx.query_opt(FIND, &[&id]).await?.as_ref().map(read).ok_or_else(unknown)
}

fn unknown() -> PlatformError {
    PlatformError::NotFound { what: "organization" }
}

fn read(row: &Row) -> Organization {
    Organization {
        id: row.get(0),
        slug: row.get(1),
        name: row.get(2),
        status: row.get::<_, &str>(3).into(),
        settings: row.get(4),
        created_at: row.get(5),
        updated_at: row.get(6),
    }
}
