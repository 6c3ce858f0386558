//! Accepts an invitation, once.

use super::{Invitation, Invitations, OF_TOKEN, of_token};
use crate::{
    auth::TokenHash,
    platform::{
        Actor, Member, PlatformError, RecordedChange,
        error::Result,
        members::{Person, accept_person, join, person_of_address},
        organizations,
        permissions::{Permission, demand, demand_open},
    },
    tenancy::PlatformTx,
    user::UserId,
};
use serde_json::json;

/// Who accepts an invitation.
#[derive(Clone, Debug)]
pub enum Invitee {
    /// A signed-in user. The user's address must be that of the invitation.
    User(UserId),
    /// A person who has proved that this address is theirs, for example by the token that was sent to it. If no user
    /// has the address, one is created without a password. Its home is the organization.
    Address(String),
}

/// The result of accepting an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The new member.
    pub member: Member,
    /// Whether the user was created by this call.
    pub is_new_user: bool,
}

// Conditions on time use clock_timestamp(), because the transaction may have waited for a lock.
const CLAIM: &str = "update public.invitations set accepted_at = pg_catalog.clock_timestamp()
     where id = $1 and token_hash = $2 and accepted_at is null and revoked_at is null
       and expires_at > pg_catalog.clock_timestamp()";

const SET_ACCEPTED_BY: &str = "update public.invitations set accepted_by = $2 where id = $1";

impl Invitations {
    /// Accepts an invitation. Of any number of calls with its token, only one succeeds. The user becomes a confirmed
    /// member with the invitation's role.
    ///
    /// # Locks
    ///
    /// The rows of the organization, the invitation, the user and the membership, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: no invitation has this token, or the user does not exist. `InvitationExpired`, `InvitationUsed`,
    /// `InvitationRevoked`: the invitation has ended, or the user or the API key that sent it may not give its role any
    /// more.
    /// `OtherAddress`: it was sent to another address. `AlreadyMember`: the user is a member of the organization.
    /// `UserDisabled`: the user may not sign in. `OrganizationSuspended`. `QuotaExceeded`: the organization has no seat
    /// left. In all of these cases the invitation does not change. `Busy`; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either everything is committed or nothing. If it was committed, the same call returns
    /// `InvitationUsed`.
    pub async fn accept(&self, token: &str, invitee: &Invitee) -> Result<Accepted> {
        let hash = self.hash(token)?;
        let platform = self.db.platform();
        let accepted = platform.transaction(async |tx| {
            let found = open_invitation(tx, &hash).await?;
            organizations::lock(tx, found.organization_id).await?;
            demand_open(tx, found.organization_id).await?;
            if tx.execute(CLAIM, &[&found.id, &hash.bytes()]).await? == 0 {
                // Another call accepted it first, or it has a new token now.
                open_invitation(tx, &hash).await?;
                return Err(PlatformError::Busy);
            }
            demand_sender(tx, &found).await?;
            let (Person { id: user, is_new: is_new_user }, replaces) =
                invited_user(tx, self.actor.as_ref(), &found, invitee).await?;
            let actor = self.actor.clone().unwrap_or(Actor::User(user));
            let member = join(tx, &actor, found.organization_id, user, &found.role, replaces).await?;
            tx.execute(SET_ACCEPTED_BY, &[&found.id, &user]).await?;
            let change = RecordedChange {
                actor: &actor,
                organization: Some(found.organization_id),
                name: "cgk.invitation.accepted",
                resource: ("invitation", found.id.to_string()),
                before: None,
                after: Some(json!({ "user_id": user, "role": found.role.as_str() })),
            };
            change.record(tx).await?;
            Ok(Accepted { member, is_new_user })
        });
        accepted.await
    }
}

/// Returns the invitation of a token, if it may be accepted.
pub(super) async fn open_invitation(tx: &PlatformTx<'_>, hash: &TokenHash) -> Result<Invitation> {
    let invitation = of_token(tx.query_opt(OF_TOKEN, &[&hash.bytes()]).await?, hash)?;
    invitation.state.demand_open()?;
    Ok(invitation)
}

/// Returns an error if the user or the API key that sent the invitation may not give its role any more. Otherwise a removed
/// admin could come back under a second address, and a key that was revoked could still make owners.
pub(super) async fn demand_sender(tx: &PlatformTx<'_>, invitation: &Invitation) -> Result<()> {
    let user = invitation.invited_by.map(Actor::User);
    let Some(sender) = user.or(invitation.invited_by_key.map(Actor::ApiKey)) else { return Ok(()) };
    let permission = Permission::to_manage(&invitation.role);
    match demand(tx, &sender, invitation.organization_id, permission).await {
        Err(PlatformError::Forbidden { .. } | PlatformError::NotFound { .. }) => Err(PlatformError::InvitationRevoked),
        outcome => outcome,
    }
}

/// Returns the user who accepts, after checking the address. Also returns whether the membership may already exist,
/// created with the user.
async fn invited_user(
    tx: &PlatformTx<'_>,
    actor: Option<&Actor>,
    invitation: &Invitation,
    invitee: &Invitee,
) -> Result<(Person, bool)> {
    let person = match invitee {
        Invitee::User(user) => Person { id: *user, is_new: false },
        Invitee::Address(address) if !address.eq_ignore_ascii_case(&invitation.email) => {
            return Err(PlatformError::OtherAddress);
        }
        Invitee::Address(address) => {
            // Before there is the user who accepts, the service acts for the person.
            person_of_address(tx, actor.unwrap_or(&Actor::System), address, invitation.organization_id).await?
        }
    };
    let replaces = accept_person(tx, person, &invitation.email, invitation.organization_id).await?;
    Ok((person, replaces))
}
