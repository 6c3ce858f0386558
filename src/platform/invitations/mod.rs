//! Invitations into organizations, sent by e-mail: the table `public.invitations`.
//!
//! The token of an invitation is random (256 bits). It is returned once, as a [`SecretToken`]. Only its SHA-256 is
//! stored.
//!
//! ```no_run
//! use cgk::{auth::UserRole, platform::{Actor, Invitations, Invitee, NewInvitation, PlatformError}};
//!
//! # fn mail(to: &str, token: &str) {}
//! async fn invite(db: &cgk::Db, acme: cgk::OrganizationId, ada: cgk::UserId) -> Result<(), PlatformError> {
//!     let invitations = Invitations::new(db);
//!     let new = NewInvitation::of_address("ben@example.com").role(UserRole::Admin);
//!     let (invitation, token) = invitations.clone().acting_as(Actor::User(ada)).create(acme, &new).await?;
//!     mail(&invitation.email, token.reveal());
//!     // Ben follows the link. Whoever has its token reads the mail of the address.
//!     let accepted = invitations.accept(token.reveal(), &Invitee::Address(invitation.email)).await?;
//!     println!("{} is {}", accepted.member.email, accepted.member.role);
//!     Ok(())
//! }
//! ```

mod accept;
mod closed;
mod create;

pub use accept::{Accepted, Invitee};
pub(super) use closed::{revoke_of_user, revoke_written_by};

use super::{
    Actor, PlatformError,
    error::Result,
    page::{Cursor, Page, PageRequest},
    permissions::{Permission, demand, demand_open},
};
use crate::{
    auth::{ApiKeyId, SecretToken, TokenBrand, TokenHash, TokenKind, UserRole},
    row_id::row_id,
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
    user::UserId,
};
use std::time::{Duration, SystemTime};
use tokio_postgres::Row;

row_id!(
    /// The id of an invitation, a row of `public.invitations`.
    InvitationId
);

/// The default time for which an invitation may be accepted.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// The maximum time for which an invitation may be accepted.
const LIFETIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The state of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvitationState {
    /// It may be accepted.
    Open,
    /// It has expired. It can be sent again.
    Expired,
    /// It was accepted.
    Accepted,
    /// It was revoked.
    Revoked,
}

impl InvitationState {
    /// Returns the name of the state, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Expired => "expired",
            Self::Accepted => "accepted",
            Self::Revoked => "revoked",
        }
    }

    /// Returns an error if the invitation cannot be accepted.
    fn demand_open(self) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Expired => Err(PlatformError::InvitationExpired),
            Self::Accepted => Err(PlatformError::InvitationUsed),
            Self::Revoked => Err(PlatformError::InvitationRevoked),
        }
    }
}

/// An invitation. It does not contain the token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Invitation {
    /// The id of the invitation.
    pub id: InvitationId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// The address that it was sent to.
    pub email: String,
    /// The role of the future member.
    pub role: UserRole,
    /// Its state, by the server's clock when it was read.
    pub state: InvitationState,
    /// When it expires.
    pub expires_at: SystemTime,
    /// The user who sent the invitation. `None`: an API key, the service or an operator sent it, or the user was deleted.
    pub invited_by: Option<UserId>,
    /// The API key that sent the invitation.
    pub invited_by_key: Option<ApiKeyId>,
    /// The user who accepted it. `None`: it is not accepted, or that user was deleted.
    pub accepted_by: Option<UserId>,
    /// When it was created.
    pub created_at: SystemTime,
}

/// The invitation to create.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    email: String,
    role: UserRole,
    lifetime: Duration,
}

impl NewInvitation {
    /// Invites the person of an address as a member, for seven days.
    pub fn of_address(email: &str) -> Self {
        Self { email: email.to_owned(), role: UserRole::Member, lifetime: LIFETIME }
    }

    /// Sets the role.
    pub fn role(mut self, role: UserRole) -> Self {
        self.role = role;
        self
    }

    /// Sets how long it may be accepted, at most 366 days.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }
}

/// The operations on invitations. Cheap to clone.
///
/// Each operation is one transaction of [`Db::platform`]. Operations that change something lock the organization's row
/// first. An invitation ends only once: it is accepted or revoked.
#[derive(Clone, Debug)]
pub struct Invitations {
    db: Db<PlatformError>,
    actor: Option<Actor>,
    brand: TokenBrand,
}

/// A query of invitations, with the columns that [`read`] reads.
macro_rules! invitations {
    ($rest:literal) => {
        concat!(
            "select i.id, i.organization_id, i.email, i.role::pg_catalog.text,
                    case when i.accepted_at is not null then 'accepted'
                         when i.revoked_at is not null then 'revoked'
                         when i.expires_at <= pg_catalog.clock_timestamp() then 'expired'
                         else 'open' end,
                    i.expires_at, i.invited_by, i.accepted_by, i.created_at, i.token_hash, i.invited_by_key
               from public.invitations i ",
            $rest
        )
    };
}

const FIND: &str = invitations!("where i.organization_id = $1 and i.id = $2");
const OF_TOKEN: &str = invitations!("where i.token_hash = $1");
const LIST: &str = invitations!(
    "where i.organization_id = $1 and (i.created_at, i.id) > ($2, $3) order by i.created_at, i.id limit $4"
);

impl Invitations {
    /// Creates the handle for the invitations of this database's organizations.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None, brand: TokenBrand::default() }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`]. When an invitation is accepted, the default is
    /// the user who accepts it.
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Uses tokens that start with this name instead of `cgk`.
    pub fn brand(mut self, brand: TokenBrand) -> Self {
        self.brand = brand;
        self
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    fn new_token(&self) -> SecretToken {
        SecretToken::generate(TokenKind::Invitation, &self.brand)
    }

    /// Returns the hash of a token. A text that cannot be a token belongs to no invitation, so the database is not
    /// asked.
    fn hash(&self, token: &str) -> Result<TokenHash> {
        TokenHash::of_presented(token, TokenKind::Invitation, &self.brand).map_err(|_| unknown())
    }

    /// Returns a page of an organization's invitations, oldest first, including those that have ended.
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
    pub async fn list(&self, organization: OrganizationId, page: &PageRequest) -> Result<Page<Invitation>> {
        let (actor, (at, id)) = (self.actor(), page.start());
        let platform = self.db.platform();
        let rows = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::MembersRead).await?;
            Ok(tx.query(LIST, &[&organization, &at, &id, &page.rows()]).await?)
        });
        Ok(page.page(rows.await?.iter().map(read).collect(), |row| Cursor::at(row.created_at, row.id)))
    }

    /// Returns the invitation of a token, if it may be accepted now. Use it for the page that the link opens. It
    /// changes nothing, because mail scanners open links too.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Same as [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn verify(&self, token: &str) -> Result<Invitation> {
        let hash = self.hash(token)?;
        let platform = self.db.platform();
        let found = platform.transaction(async |tx| {
            let invitation = accept::open_invitation(tx, &hash).await?;
            demand_open(tx, invitation.organization_id).await?;
            accept::demand_sender(tx, &invitation).await?;
            Ok(invitation)
        });
        found.await
    }
}

/// Returns the invitation of a row that was found by its hash.
fn of_token(row: Option<Row>, hash: &TokenHash) -> Result<Invitation> {
    row.filter(|row| hash.is(row.get(9))).as_ref().map(read).ok_or_else(unknown)
}

/// Returns an invitation of an organization, in a transaction.
async fn find(tx: &PlatformTx<'_>, organization: OrganizationId, id: InvitationId) -> Result<Invitation> {
    tx.query_opt(FIND, &[&organization, &id]).await?.as_ref().map(read).ok_or_else(unknown)
}

fn unknown() -> PlatformError {
    PlatformError::NotFound { what: "invitation" }
}

fn read(row: &Row) -> Invitation {
    Invitation {
        id: row.get(0),
        organization_id: row.get(1),
        email: row.get(2),
        role: row.get::<_, &str>(3).into(),
        state: match row.get(4) {
            "accepted" => InvitationState::Accepted,
            "revoked" => InvitationState::Revoked,
            "expired" => InvitationState::Expired,
            _ => InvitationState::Open,
        },
        expires_at: row.get(5),
        invited_by: row.get(6),
        invited_by_key: row.get(10),
        accepted_by: row.get(7),
        created_at: row.get(8),
    }
}
