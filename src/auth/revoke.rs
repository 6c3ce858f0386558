//! Ends the sessions of a user.

use super::{SessionId, UserId};
use crate::{tenancy::PlatformTx, tenant::OrganizationId};

// The rows of a user are locked one by one in the order of their ids. A row that another transaction deleted or revoked
// meanwhile is skipped.
const REVOKE_ALL: &str = "update public.sessions s set revoked_at = current_timestamp
      from (select id from public.sessions
             where user_id = $2 and ($1::pg_catalog.uuid is null or organization_id = $1) and revoked_at is null
               and ($3::pg_catalog.uuid is null or id <> $3)
             order by id for update) mine
     where s.id = mine.id";

/// Revokes every session of a user, in one organization or in all of them, except `except`; returns their number.
pub(super) async fn all(
    tx: &PlatformTx<'_>,
    organization: Option<OrganizationId>,
    user: UserId,
    except: Option<SessionId>,
) -> crate::error::Result<u64> {
    tx.execute(
        REVOKE_ALL,
        &[&organization.map(|organization| organization.0), &user.0, &except.map(|session| session.0)],
    )
    .await
}
