//! Quota: what organizations may use, and what they have used.

mod grants;
mod model;
mod seats;

pub use model::{Consumption, Grant, GrantId, GrantSource, NewGrant, QuotaBalance};

pub(crate) use seats::{demand_seat, release_seat};

use super::{
    Actor, RecordedChange,
    allowance::{Allowance, QuotaKind, amount_column, unsigned},
    error::{PlatformError, Result},
    permissions::{Permission, demand, demand_service},
    values::age_seconds,
};
use crate::{
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
};
use seats::SEAT_KEYS;
use serde_json::json;
use std::time::Duration;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Operations on quota. Cheap to clone.
///
/// An organization may use the sum of its active grants of a kind. A grant is active if it has started, has not expired
/// and is not revoked. Grants come from its subscription, from purchases and from promocodes ([`NewGrant`]). An
/// unlimited grant is used first, then the grant that expires soonest.
///
/// ```no_run
/// use cgk::platform::{PlatformError, Quota, QuotaKind};
///
/// async fn start_run(db: &cgk::Db, acme: cgk::OrganizationId, run: uuid::Uuid) -> Result<(), PlatformError> {
///     let quota = Quota::new(db);
///     match quota.consume(acme, &QuotaKind::RUNS, 1, &format!("run:{run}")).await {
///         Ok(consumption) => println!("{} runs are left", consumption.left),
///         // 429; what is left, and when there is more.
///         Err(PlatformError::QuotaExceeded { left, asked, resets_at }) => println!("{left} of {asked}, {resets_at:?}"),
///         Err(error) => return Err(error),
///     }
///     // … it could not be started:
///     quota.release(acme, &format!("run:{run}")).await?;
///     Ok(())
/// }
/// ```
///
/// Consumptions are rows of `quota_consumptions`. They are not written to the audit log or the outbox one by one.
/// Grants are. Consuming and releasing need no permission: the service does it on behalf of its users. Seeing what is
/// left needs `billing:read`. Granting needs `billing:manage`.
///
/// The confirmed members of the organization are counted as seats, however they are added and removed. Your own
/// consumptions of [`QuotaKind::SEATS`] are added to this count. If an organization was never granted seats, the number
/// of its members is not limited.
#[derive(Clone, Debug)]
pub struct Quota {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

const CONSUME: &str = "select outcome, remaining, resets_at from public.cgk_quota_consume($1, $2, $3, $4)";
const CONSUME_TYPES: [Type; 4] = [Type::UUID, Type::TEXT, Type::INT8, Type::TEXT];
const RELEASE: &str = "select public.cgk_quota_release($1, $2)";

const LEFT: &str = "select u.kind, k.usage_type::pg_catalog.text,
           pg_catalog.bool_or(g.id is not null and g.amount is null),
           coalesce(pg_catalog.sum(g.amount), 0)::pg_catalog.int8, coalesce(pg_catalog.sum(g.balance), 0)::pg_catalog.int8,
           coalesce(pg_catalog.sum(g.carried + g.spent), 0)::pg_catalog.int8, u.allocated,
           public.cgk_quota_resets_at(u.organization_id, u.kind)
      from public.quota_usage u
      join public.quota_kinds k on k.name = u.kind
      left join public.grants g on g.organization_id = u.organization_id and g.kind = u.kind and g.revoked_at is null
           and coalesce(g.expires_at, 'infinity') > pg_catalog.now() and g.starts_at <= pg_catalog.now()
     where u.organization_id = $1
     group by u.organization_id, u.kind, u.allocated, k.usage_type order by u.kind collate pg_catalog.\"C\"";

/// Allocated amounts that are not released are never deleted, whatever their age.
const PRUNE: &str = "delete from public.quota_consumptions c using public.quota_kinds k
     where k.name = c.kind and c.created_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)
       and (k.usage_type = 'consumed' or c.released_at is not null)
       and c.ctid = any (array(
           select old.ctid from public.quota_consumptions old join public.quota_kinds kind on kind.name = old.kind
            where old.created_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)
              and (kind.usage_type = 'consumed' or old.released_at is not null)
            limit 10000))";

impl Quota {
    /// Creates the handle for the quota of this database's organizations.
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

    /// Takes an amount from what an organization has left of a kind, all of it or nothing, in one round trip. It never
    /// takes more than is left, even with many concurrent calls.
    ///
    /// The key identifies what the amount is used for, such as `run:<id>`. A key counts once in its organization. If
    /// the answer is lost, call again with the same key and the same amount: it changes nothing.
    ///
    /// # Locks
    ///
    /// The organization's row of this kind in `quota_usage`, until the end of one statement. Concurrent consumptions of
    /// the same kind wait.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded`: less is left, and nothing was taken. `IdempotencyConflict`: the key was used for another amount
    /// or kind, or was released. `NotFound`: the organization or the kind does not exist. `Invalid`: the amount is zero
    /// or more than 10^15, or the key is empty, longer than 255 characters or that of a member's seat. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the amount may or may not be taken. The same call again takes it once.
    pub async fn consume(
        &self,
        organization: OrganizationId,
        kind: &QuotaKind,
        amount: u64,
        key: &str,
    ) -> Result<Consumption> {
        let column = checked(amount, key)?;
        let kind = kind.as_str();
        let sent = parameters(&organization, &kind, &column, &key);
        let rows = self.db.platform().query_typed(CONSUME, &sent).await?;
        outcome(rows.first(), amount)
    }

    /// Same as [`consume`](Self::consume), in the caller's transaction. The amount is taken when that transaction
    /// commits. After an error that is not `Database` the transaction can continue.
    ///
    /// # Locks
    ///
    /// Same as [`consume`](Self::consume), until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Same as [`consume`](Self::consume).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, end the transaction: the statement may or may not have run.
    pub async fn consume_in(
        &self,
        tx: &PlatformTx<'_>,
        organization: OrganizationId,
        kind: &QuotaKind,
        amount: u64,
        key: &str,
    ) -> Result<Consumption> {
        let column = checked(amount, key)?;
        let kind = kind.as_str();
        let sent = parameters(&organization, &kind, &column, &key);
        let rows = tx.query_typed(CONSUME, &sent).await?;
        outcome(rows.first(), amount)
    }

    /// Releases what was taken under a key. Returns `false` if nothing was taken under the key, or if it was already
    /// released. If the amount was taken from a grant that has since expired, no other grant gets it back.
    ///
    /// # Locks
    ///
    /// Same as [`consume`](Self::consume).
    ///
    /// # Errors
    ///
    /// `Invalid`: the key is that of a member's seat, which [`Members::remove`](super::Members::remove) releases.
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the amount may or may not be released. The same call again releases it once.
    pub async fn release(&self, organization: OrganizationId, key: &str) -> Result<bool> {
        let Some(key) = stored(key)? else { return Ok(false) };
        let sent: [(&(dyn ToSql + Sync), Type); 2] = [(&organization, Type::UUID), (&key, Type::TEXT)];
        let rows = self.db.platform().query_typed(RELEASE, &sent).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Same as [`release`](Self::release), in the caller's transaction.
    ///
    /// # Locks
    ///
    /// Same as [`consume`](Self::consume), until the end of the transaction.
    ///
    /// # Errors
    ///
    /// Same as [`release`](Self::release).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, end the transaction: the statement may or may not have run.
    pub async fn release_in(&self, tx: &PlatformTx<'_>, organization: OrganizationId, key: &str) -> Result<bool> {
        let Some(key) = stored(key)? else { return Ok(false) };
        let sent: [(&(dyn ToSql + Sync), Type); 2] = [(&organization, Type::UUID), (&key, Type::TEXT)];
        Ok(tx.query_typed(RELEASE, &sent).await?.first().is_some_and(|row| row.get(0)))
    }

    /// Returns what an organization has left of each kind that it was ever granted or has used.
    ///
    /// # Errors
    ///
    /// `NotFound`: the actor is not a member. `Forbidden`: the actor may not see it. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn left(&self, organization: OrganizationId) -> Result<Vec<QuotaBalance>> {
        let actor = self.actor();
        let platform = self.db.platform();
        let rows = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::BillingRead).await?;
            Ok(tx.query(LEFT, &[&organization]).await?)
        });
        Ok(rows.await?.iter().map(QuotaBalance::read).collect())
    }

    /// Deletes consumptions that are older than `age`, at most 10,000 at a time. Returns how many. Allocated amounts
    /// that are not released are not deleted. A deleted key counts again when it is used, so choose an age after which
    /// no call is repeated, such as 90 days.
    ///
    /// # Locks
    ///
    /// The rows that are deleted, until the end of one statement.
    ///
    /// # Errors
    ///
    /// `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the rows may or may not be deleted.
    pub async fn prune(&self, age: Duration) -> Result<u64> {
        let actor = self.actor();
        demand_service(&actor, "quota:prune")?;
        let seconds = age_seconds(age);
        let platform = self.db.platform();
        let pruned = platform.transaction(async |tx| {
            let deleted = tx.execute(PRUNE, &[&seconds]).await?;
            if deleted > 0 {
                let change = RecordedChange {
                    actor: &actor,
                    organization: None,
                    name: "cgk.quota.pruned",
                    resource: ("quota_consumption", "all".into()),
                    before: None,
                    after: Some(json!({ "deleted": deleted, "older_than_seconds": seconds })),
                };
                change.record(tx).await?;
            }
            Ok(deleted)
        });
        pruned.await
    }
}

fn parameters<'p>(
    organization: &'p OrganizationId,
    kind: &'p &str,
    amount: &'p i64,
    key: &'p &str,
) -> [(&'p (dyn ToSql + Sync), Type); 4] {
    let [organization_type, kind_type, amount_type, key_type] = CONSUME_TYPES;
    [(organization, organization_type), (kind, kind_type), (amount, amount_type), (key, key_type)]
}

/// Returns the amount as a column value, if the amount and the key can be stored.
fn checked(amount: u64, key: &str) -> Result<i64> {
    if amount == 0 {
        return Err(PlatformError::Invalid { what: "the amount", why: "it is zero".into() });
    }
    if key.is_empty() || key.chars().count() > 255 || key.contains('\0') {
        let why = "it is empty, longer than 255 characters or has a zero byte".into();
        return Err(PlatformError::Invalid { what: "the idempotency key", why });
    }
    demand_own(key)?;
    amount_column(amount)
}

/// Returns the key, if it can be one that was stored by [`Quota::consume`].
fn stored(key: &str) -> Result<Option<&str>> {
    demand_own(key)?;
    // Text in the database cannot contain NUL.
    Ok(Some(key).filter(|key| !key.contains('\0')))
}

/// Returns an error if the key is that of a member's seat.
fn demand_own(key: &str) -> Result<()> {
    if key.starts_with(SEAT_KEYS) {
        let why = "the seats of members are counted under such keys; use Members::add and Members::remove".into();
        return Err(PlatformError::Invalid { what: "the idempotency key", why });
    }
    Ok(())
}

fn outcome(row: Option<&Row>, asked: u64) -> Result<Consumption> {
    let row = row.ok_or(PlatformError::NotFound { what: "organization" })?;
    let left = Allowance::of_column(row.get(1));
    match row.get(0) {
        "consumed" => Ok(Consumption { left, repeated: false }),
        "repeated" => Ok(Consumption { left, repeated: true }),
        "exceeded" => Err(PlatformError::QuotaExceeded {
            left: unsigned(row.get::<_, Option<i64>>(1).unwrap_or_default()),
            asked,
            resets_at: row.get(2),
        }),
        "mismatch" => Err(PlatformError::IdempotencyConflict { why: "it was used for another amount or kind" }),
        "released" => Err(PlatformError::IdempotencyConflict { why: "what it was used for was given back" }),
        "suspended" => Err(PlatformError::OrganizationSuspended),
        "unknown_kind" => Err(PlatformError::NotFound { what: "kind of quota" }),
        _ => Err(PlatformError::NotFound { what: "organization" }),
    }
}
