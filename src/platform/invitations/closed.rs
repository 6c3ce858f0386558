//! Revokes the open invitations of a person, when it becomes a member or stops being one.

use super::{create::record, find};
use crate::{
    platform::{Actor, error::Result},
    tenancy::PlatformTx,
    tenant::OrganizationId,
    user::UserId,
};

const REVOKE_WRITTEN_BY: &str = "update public.invitations i set revoked_at = pg_catalog.clock_timestamp()
     where i.organization_id = $1 and i.invited_by = $2 and i.accepted_at is null and i.revoked_at is null
 returning i.id";

const REVOKE_OF_USER: &str = r#"update public.invitations i set revoked_at = pg_catalog.clock_timestamp()
      from public.users u
     where i.organization_id = $1 and u.id = $2 and i.accepted_at is null and i.revoked_at is null
       and pg_catalog.lower(i.email collate pg_catalog."C") = pg_catalog.lower(u.email collate pg_catalog."C")
 returning i.id"#;

/// Revokes the invitations of the user's address to the organization. Otherwise a removed member could come back with an
/// old token. The caller has locked the organization.
pub(in crate::platform) async fn revoke_of_user(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    user: UserId,
) -> Result<()> {
    revoke(tx, actor, organization, user, REVOKE_OF_USER).await
}

/// Revokes the invitations that the user has sent. Otherwise a removed admin could come back under a second address.
pub(in crate::platform) async fn revoke_written_by(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    user: UserId,
) -> Result<()> {
    revoke(tx, actor, organization, user, REVOKE_WRITTEN_BY).await
}

async fn revoke(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    organization: OrganizationId,
    user: UserId,
    sql: &str,
) -> Result<()> {
    for row in tx.query(sql, &[&organization, &user]).await? {
        let invitation = find(tx, organization, row.get(0)).await?;
        record(tx, actor, "cgk.invitation.revoked", &invitation).await?;
    }
    Ok(())
}
