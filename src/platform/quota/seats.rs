//! The seats of members. A trigger on the memberships counts them. This module checks whether a seat was left.

use crate::{
    platform::{
        allowance::unsigned,
        error::{PlatformError, Result},
    },
    tenancy::PlatformTx,
    tenant::OrganizationId,
};

/// What the keys begin with under which a trigger counts the seats of members.
pub(super) const SEAT_KEYS: &str = "membership/";

const RELEASE: &str = "select public.cgk_quota_release($1, $2)";

const SEATS: &str = "select u.allocated, pg_catalog.count(g.id) > 0,
           coalesce(pg_catalog.bool_or(g.amount is null) filter (where live.is_live), false),
           coalesce(pg_catalog.sum(g.amount) filter (where live.is_live), 0)::pg_catalog.int8
      from public.quota_usage u
      left join public.grants g on g.organization_id = u.organization_id and g.kind = u.kind
     cross join lateral (select g.revoked_at is null and coalesce(g.expires_at, 'infinity') > pg_catalog.now()
                                and g.starts_at <= pg_catalog.now()) as live (is_live)
     where u.organization_id = $1 and u.kind = 'seats'
     group by u.allocated";

/// Returns an error if the organization was ever granted seats and has more members than seats. The caller has just
/// added a confirmed member, and that member is counted.
///
/// # Errors
///
/// `QuotaExceeded`. `Database`.
pub(crate) async fn demand_seat(tx: &PlatformTx<'_>, organization: OrganizationId) -> Result<()> {
    let Some(row) = tx.query_opt(SEATS, &[&organization]).await? else { return Ok(()) };
    let (allocated, limited, unlimited, granted): (i64, bool, bool, i64) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    if !limited || unlimited || allocated <= granted {
        return Ok(());
    }
    Err(PlatformError::QuotaExceeded { left: unsigned((granted - allocated + 1).max(0)), asked: 1, resets_at: None })
}

/// Releases the seat of a member who was not confirmed, if the service has consumed it. The trigger has released that of a
/// confirmed one.
///
/// # Errors
///
/// `Database`.
pub(crate) async fn release_seat(tx: &PlatformTx<'_>, organization: OrganizationId, key: &str) -> Result<()> {
    tx.query(RELEASE, &[&organization, &key]).await?;
    Ok(())
}
