//! An invitation is accepted, once.

use super::{Invitation, Invitations, OF_TOKEN, of_token};
use crate::{
    auth::TokenHash,
    platform::{
        Actor, Member, PlatformError,
        error::Result,
        members::{Person, accept_person, join, person_of_address},
        organizations,
        record::Change,
    },
    tenancy::PlatformTx,
    user::UserId,
};
use serde_json::json;

/// Who accepts an invitation.
#[derive(Clone, Debug)]
pub enum Invitee {
    /// A user who is signed in. Its address must be that of the invitation.
    User(UserId),
    /// Whoever has shown that this address is theirs, if only by the token that was sent there. Where it has no user yet, one is made,
    /// without a password, whose home is the organization.
    Address(String),
}

/// What has come of an invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The new member.
    pub member: Member,
    /// Whether its user was made by this.
    pub is_new_user: bool,
}

// Whatever looks at the clock looks at that of the moment: the transaction may have waited.
const CLAIM: &str = "update public.invitations set accepted_at = pg_catalog.clock_timestamp()
     where id = $1 and token_hash = $2 and accepted_at is null and revoked_at is null
       and expires_at > pg_catalog.clock_timestamp()";

const SET_ACCEPTED_BY: &str = "update public.invitations set accepted_by = $2 where id = $1";

impl Invitations {
    /// Accepts an invitation: of any number of calls with its token, at whatever time, one succeeds. The user is a confirmed member
    /// then, with the invitation's role.
    ///
    /// # Locks
    ///
    /// The organization's row, the invitation's, the user's and the membership's, to the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: no invitation has this token, or there is no such user. `InvitationExpired`, `InvitationUsed`,
    /// `InvitationRevoked`. `OtherAddress`: it was sent to another address. `AlreadyMember`. `UserDisabled`. In all of these the
    /// invitation stays as it is. `Busy`; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all of it may have been done or nothing; the same call says `InvitationUsed` where it was.
    pub async fn accept(&self, token: &str, invitee: &Invitee) -> Result<Accepted> {
        let hash = self.hash(token)?;
        let platform = self.db.platform();
        let accepted = platform.transaction(async |tx| {
            let found = look(tx, &hash).await?;
            organizations::lock(tx, found.organization_id).await?;
            if tx.execute(CLAIM, &[&found.id, &hash.bytes()]).await? == 0 {
                // Somebody else was quicker, or it has another token since.
                look(tx, &hash).await?;
                return Err(PlatformError::Busy);
            }
            let (Person { id: user, is_new: is_new_user }, replaces) = invited_user(tx, &found, invitee).await?;
            let actor = self.actor.clone().unwrap_or(Actor::User(user));
            let member = join(tx, &actor, found.organization_id, user, &found.role, replaces).await?;
            tx.execute(SET_ACCEPTED_BY, &[&found.id, &user]).await?;
            let change = Change {
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

/// The invitation of a token, if it may be accepted.
async fn look(tx: &PlatformTx<'_>, hash: &TokenHash) -> Result<Invitation> {
    let invitation = of_token(tx.query_opt(OF_TOKEN, &[&hash.bytes()]).await?, hash)?;
    invitation.state.demand_open()?;
    Ok(invitation)
}

/// The user who accepts, who has the invitation's address, and whether its membership may be there already, made with the user.
async fn invited_user(tx: &PlatformTx<'_>, invitation: &Invitation, invitee: &Invitee) -> Result<(Person, bool)> {
    let person = match invitee {
        Invitee::User(user) => Person { id: *user, is_new: false },
        Invitee::Address(address) if !address.eq_ignore_ascii_case(&invitation.email) => {
            return Err(PlatformError::OtherAddress);
        }
        Invitee::Address(address) => person_of_address(tx, address, invitation.organization_id).await?,
    };
    let replaces = accept_person(tx, person, &invitation.email, invitation.organization_id).await?;
    Ok((person, replaces))
}
