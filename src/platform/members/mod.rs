//! The members of an organization and their roles: the table `public.memberships`.
//!
//! A user is one person in all organizations. `users.organization_id` names the home organization. The membership
//! decides whether a user may enter an organization, and with which role.
//!
//! ```no_run
//! use cgk::{auth::UserRole, platform::{Actor, Members, NewMember, PlatformError}};
//!
//! async fn hand_over(db: &cgk::Db, acme: cgk::OrganizationId, ada: cgk::UserId) -> Result<(), PlatformError> {
//!     let members = Members::new(db).acting_as(Actor::User(ada));
//!     let ben = members.add(acme, &NewMember::of_address("ben@example.com").role(UserRole::Owner)).await?;
//!     println!("{} is an owner", ben.email);
//!     members.remove(acme, ada).await // Ada leaves; the last owner could not: LastOwner
//! }
//! ```

mod change;
mod person;

pub(crate) use change::join;
pub(crate) use person::{Person, UnconfirmedHome, accept_person, person_of_address};

use super::{
    Actor, PlatformError,
    error::Result,
    page::{Cursor, Page, PageRequest},
    permissions::{Permission, demand, explain_nothing},
};
use crate::{
    auth::{UserRole, UserStatus},
    row_id::row_id,
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
    user::UserId,
};
use std::time::SystemTime;
use tokio_postgres::Row;

row_id!(
    /// The id of a membership, a row of `public.memberships`.
    ///
    /// The ids of different tables are different types, so one cannot be used in place of another:
    ///
    /// ```compile_fail,E0308
    /// fn remove(organization: cgk::OrganizationId, user: cgk::UserId) {}
    /// # let (organization, user): (cgk::OrganizationId, cgk::UserId) = todo!();
    /// remove(user, organization);
    /// ```
    ///
    /// ```compile_fail,E0308
    /// fn membership() -> cgk::platform::MembershipId { todo!() }
    /// let user: cgk::UserId = membership();
    /// ```
    ///
    /// ```
    /// fn remove(organization: cgk::OrganizationId, user: cgk::UserId) {}
    /// remove(cgk::OrganizationId(Default::default()), cgk::UserId(Default::default()));
    /// ```
    MembershipId
);

/// A member of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The id of the membership.
    pub id: MembershipId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The user.
    pub user_id: UserId,
    /// The user's address.
    pub email: String,
    /// The user's role in this organization.
    pub role: UserRole,
    /// The status of the user. It says whether the user may sign in at all.
    pub status: UserStatus,
    /// Since when the user may enter the organization. `None`: the user is invited but not confirmed.
    pub confirmed_at: Option<SystemTime>,
    /// When the user was added.
    pub created_at: SystemTime,
}

impl Member {
    /// Returns the key under which the member's seat is counted while the membership is confirmed.
    /// [`Quota::consume`](super::Quota::consume) and [`Quota::release`](super::Quota::release) refuse it: the seat is the
    /// member's as long as it stays.
    pub fn seat_key(&self) -> String {
        format!("membership/{}", self.id)
    }
}

/// The member to add to an organization.
#[derive(Clone, Debug)]
pub struct NewMember {
    pub(super) who: Who,
    pub(super) role: UserRole,
}

#[derive(Clone, Debug)]
pub(super) enum Who {
    User(UserId),
    Address(String),
}

impl NewMember {
    /// Adds an existing user as a member.
    pub fn user(user: UserId) -> Self {
        Self { who: Who::User(user), role: UserRole::Member }
    }

    /// Adds the person of an address as a member. If there is no such person, a user without a password is created
    /// whose home is the organization. The caller must know that the address belongs to the person. If the person still
    /// has to prove it, use an invitation.
    pub fn of_address(email: &str) -> Self {
        Self { who: Who::Address(email.to_owned()), role: UserRole::Member }
    }

    /// Sets the role.
    pub fn role(mut self, role: UserRole) -> Self {
        self.role = role;
        self
    }
}

/// The operations on the members of organizations. Cheap to clone.
///
/// Each operation is one transaction of [`Db::platform`]. Operations that change something lock the organization's row
/// first, so the operations of one organization run one after the other. If two owners leave at the same time, the
/// second one gets `LastOwner`.
#[derive(Clone, Debug)]
pub struct Members {
    pub(super) db: Db<PlatformError>,
    pub(super) actor: Option<Actor>,
}

/// A query of members, with the columns that [`read`] reads.
macro_rules! members {
    ($rest:literal) => {
        concat!(
            "select m.id, m.organization_id, m.user_id, u.email, m.role::pg_catalog.text, u.status::pg_catalog.text,
                    m.confirmed_at, m.created_at
               from public.memberships m join public.users u on u.id = m.user_id ",
            $rest
        )
    };
}

const LIST: &str =
    members!("where m.organization_id = $1 and (m.created_at, m.id) > ($2, $3) order by m.created_at, m.id limit $4");
const FIND: &str = members!("where m.organization_id = $1 and m.user_id = $2");
const OF_USER: &str = members!(
    "where m.user_id = $1 and m.confirmed_at is not null and (m.created_at, m.id) > ($2, $3)
       and (u.status <> 'disabled' or not $5::pg_catalog.bool)
     order by m.created_at, m.id limit $4"
);

impl Members {
    /// Creates the handle for the members of this database's organizations.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    pub(super) fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    /// Returns a page of an organization's members, in the order in which they were added.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member. `Forbidden`: the actor may not see them. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self, organization: OrganizationId, page: &PageRequest) -> Result<Page<Member>> {
        let (actor, (at, id)) = (self.actor(), page.start());
        let platform = self.db.platform();
        let rows = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::MembersRead).await?;
            Ok(tx.query(LIST, &[&organization, &at, &id, &page.rows()]).await?)
        });
        Ok(page.page(rows.await?.iter().map(read).collect(), cursor))
    }

    /// Returns a member of an organization, including one that is only invited.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization has no such member. Also the errors of [`list`](Self::list).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn get(&self, organization: OrganizationId, user: UserId) -> Result<Member> {
        let actor = self.actor();
        let platform = self.db.platform();
        let member = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::MembersRead).await?;
            find(tx, organization, user).await
        });
        member.await
    }

    /// Returns a page of a user's confirmed memberships: the organizations that the user may enter.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is another user, or an API key. `Forbidden`: the actor is not known. `UserDisabled`.
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn of_user(&self, user: UserId, page: &PageRequest) -> Result<Page<Member>> {
        let actor = self.actor();
        match actor {
            Actor::User(actor) if actor != user => return Err(PlatformError::NotFound { what: "user" }),
            Actor::ApiKey(_) => return Err(PlatformError::NotFound { what: "user" }),
            Actor::Anonymous => return Err(PlatformError::forbidden(&Actor::Anonymous, "members:read")),
            _ => {}
        }
        let (at, id) = page.start();
        let is_own = actor == Actor::User(user);
        let rows = self.db.platform().query(OF_USER, &[&user, &at, &id, &page.rows(), &is_own]).await?;
        if rows.is_empty() {
            explain_nothing(&self.db, &actor).await?;
        }
        Ok(page.page(rows.iter().map(read).collect(), cursor))
    }

    /// Returns an error if the actor does not have this permission in the organization. Use it for your service's own
    /// operations.
    ///
    /// # Locks
    ///
    /// None: the permission may change right after the call.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member. `Forbidden`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn demand(&self, organization: OrganizationId, permission: Permission) -> Result<()> {
        let actor = self.actor();
        self.db.platform().transaction(async |tx| demand(tx, &actor, organization, permission).await).await
    }
}

/// Returns a member, in a transaction.
pub(super) async fn find(tx: &PlatformTx<'_>, organization: OrganizationId, user: UserId) -> Result<Member> {
    let row = tx.query_opt(FIND, &[&organization, &user]).await?;
    row.as_ref().map(read).ok_or(PlatformError::NotFound { what: "member" })
}

fn cursor(member: &Member) -> Cursor {
    Cursor::at(member.created_at, member.id)
}

fn read(row: &Row) -> Member {
    Member {
        id: row.get(0),
        organization_id: row.get(1),
        user_id: row.get(2),
        email: row.get(3),
        role: row.get::<_, &str>(4).into(),
        status: row.get::<_, &str>(5).into(),
        confirmed_at: row.get(6),
        created_at: row.get(7),
    }
}
