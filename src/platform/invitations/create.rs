//! Creates, resends and revokes invitations.

use super::{Invitation, InvitationId, InvitationState, Invitations, LIFETIME, LIFETIME_MAX, NewInvitation, find};
use crate::{
    auth::{ApiKeyId, SecretToken, check_email},
    platform::{
        Actor, PlatformError, RecordedChange,
        error::{Result, refuse_unknown_role},
        organizations,
        permissions::{Permission, demand, demand_in_open, demand_open},
        values::check_role,
    },
    tenancy::PlatformTx,
    tenant::OrganizationId,
    user::UserId,
};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::types::ToSql;

const IS_MEMBER: &str = r#"select from public.memberships m join public.users u on u.id = m.user_id
     where m.organization_id = $1 and m.confirmed_at is not null
       and pg_catalog.lower(u.email collate pg_catalog."C") = pg_catalog.lower($2 collate pg_catalog."C")"#;

/// Ends an expired invitation, so that a new one can be created.
const END_EXPIRED: &str = r#"update public.invitations set revoked_at = pg_catalog.clock_timestamp()
     where organization_id = $1 and accepted_at is null and revoked_at is null and expires_at <= pg_catalog.clock_timestamp()
       and pg_catalog.lower(email collate pg_catalog."C") = pg_catalog.lower($2 collate pg_catalog."C")"#;

const CREATE: &str = "insert into public.invitations (organization_id, email, role, token_hash, expires_at, invited_by,
        invited_by_key)
    values ($1, $2, $3::pg_catalog.text::public.user_role, $4, current_timestamp + pg_catalog.make_interval(secs => $5), $6, $7)
    on conflict do nothing returning id";

const RESEND: &str = "update public.invitations
       set token_hash = $3, expires_at = current_timestamp + pg_catalog.make_interval(secs => $4), invited_by = $5,
           invited_by_key = $6
     where organization_id = $1 and id = $2 and accepted_at is null and revoked_at is null";

const REVOKE: &str = "update public.invitations set revoked_at = current_timestamp
     where organization_id = $1 and id = $2 and accepted_at is null and revoked_at is null";

impl Invitations {
    /// Invites the person of an address. The token is returned only here. If it is lost, [send the invitation
    /// again](Self::resend).
    ///
    /// The number of invitations is not limited. The caller must limit it.
    ///
    /// # Locks
    ///
    /// The organization's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `AlreadyInvited`: an open invitation of this address exists. `AlreadyMember`: the person is a member.
    /// `OrganizationSuspended`. `NotFound`: the organization does not exist, or the actor is not a member. `Forbidden`:
    /// the actor may not give this role. `Invalid`: the address, the role or the lifetime. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, an invitation may exist whose token is lost. Send it again to get a new token.
    pub async fn create(&self, organization: OrganizationId, new: &NewInvitation) -> Result<(Invitation, SecretToken)> {
        let lifetime = check(new)?;
        let (actor, token) = (self.actor(), self.new_token());
        let (hash, role) = (token.hash(), new.role.as_str());
        let (by, by_key) = sender(&actor);
        let platform = self.db.platform();
        let created = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            demand_in_open(tx, &actor, organization, Permission::to_manage(&new.role)).await?;
            if tx.query_opt(IS_MEMBER, &[&organization, &new.email]).await?.is_some() {
                return Err(PlatformError::AlreadyMember);
            }
            tx.execute(END_EXPIRED, &[&organization, &new.email]).await?;
            let seconds = lifetime.as_secs_f64();
            let values: [&(dyn ToSql + Sync); 7] =
                [&organization, &new.email, &role, &hash.bytes(), &seconds, &by, &by_key];
            let row = tx.query_opt(CREATE, &values).await?;
            let id = row.ok_or(PlatformError::AlreadyInvited)?.get(0);
            let invitation = find(tx, organization, id).await?;
            record(tx, &actor, "cgk.invitation.created", &invitation).await?;
            Ok(invitation)
        });
        Ok((created.await.map_err(refuse_unknown_role)?, token))
    }

    /// Gives an open or expired invitation a new token and seven more days. The old token stops working. The actor becomes
    /// the sender.
    ///
    /// # Locks
    ///
    /// The rows of the organization and the invitation, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `InvitationUsed`, `InvitationRevoked`: the invitation has ended. `OrganizationSuspended`. `NotFound`: the
    /// organization has no such invitation, or the actor is not a member. `Forbidden`. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the invitation may have a new token that is lost.
    pub async fn resend(&self, organization: OrganizationId, id: InvitationId) -> Result<(Invitation, SecretToken)> {
        let (actor, token) = (self.actor(), self.new_token());
        let hash = token.hash();
        let platform = self.db.platform();
        let sent = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            let before = find_to_manage(tx, &actor, organization, id).await?;
            demand_open(tx, organization).await?;
            let ((by, by_key), seconds) = (sender(&actor), LIFETIME.as_secs_f64());
            if tx.execute(RESEND, &[&organization, &id, &hash.bytes(), &seconds, &by, &by_key]).await? == 0 {
                return Err(ended(before.state));
            }
            let invitation = find(tx, organization, id).await?;
            record(tx, &actor, "cgk.invitation.resent", &invitation).await?;
            Ok(invitation)
        });
        Ok((sent.await?, token))
    }

    /// Revokes an invitation. A revoked invitation does not change.
    ///
    /// # Locks
    ///
    /// Same as [`resend`](Self::resend).
    ///
    /// # Errors
    ///
    /// `InvitationUsed`: the invitation was accepted. `NotFound`; `Forbidden`; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn revoke(&self, organization: OrganizationId, id: InvitationId) -> Result<()> {
        let actor = self.actor();
        let platform = self.db.platform();
        let revoked = platform.transaction(async |tx| {
            organizations::lock(tx, organization).await?;
            let invitation = find_to_manage(tx, &actor, organization, id).await?;
            if tx.execute(REVOKE, &[&organization, &id]).await? == 0 {
                return match invitation.state {
                    InvitationState::Revoked => Ok(()),
                    other => Err(ended(other)),
                };
            }
            record(tx, &actor, "cgk.invitation.revoked", &invitation).await
        });
        revoked.await
    }
}

/// Returns the user or the API key that sends an invitation; neither for the service.
fn sender(actor: &Actor) -> (Option<UserId>, Option<ApiKeyId>) {
    match actor {
        Actor::User(user) => (Some(*user), None),
        Actor::ApiKey(key) => (None, Some(*key)),
        _ => (None, None),
    }
}

/// Returns the lifetime of an invitation, if it can be stored.
fn check(new: &NewInvitation) -> Result<Duration> {
    let invalid = |what, why: &str| PlatformError::Invalid { what, why: why.to_owned() };
    check_email(&new.email).map_err(|_| invalid("the e-mail address", "it must be name@domain, without spaces"))?;
    check_role(&new.role)?;
    match new.lifetime {
        short if short < Duration::from_secs(1) => Err(invalid("the lifetime", "it must be a second or more")),
        long if long > LIFETIME_MAX => Err(invalid("the lifetime", "it must be at most a year")),
        fits => Ok(fits),
    }
}

async fn find_to_manage(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    id: InvitationId,
) -> Result<Invitation> {
    demand(tx, actor, organization, Permission::MembersManage).await?;
    let invitation = find(tx, organization, id).await?;
    demand(tx, actor, organization, Permission::to_manage(&invitation.role)).await?;
    Ok(invitation)
}

fn ended(state: InvitationState) -> PlatformError {
    match state {
        InvitationState::Revoked => PlatformError::InvitationRevoked,
        _ => PlatformError::InvitationUsed,
    }
}

pub(super) async fn record(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    name: &'static str,
    invitation: &Invitation,
) -> Result<()> {
    let change = RecordedChange {
        actor,
        organization: Some(invitation.organization_id),
        name,
        resource: ("invitation", invitation.id.to_string()),
        before: None,
        after: Some(json!({ "email": invitation.email, "role": invitation.role.as_str() })),
    };
    Ok(change.record(tx).await?)
}
