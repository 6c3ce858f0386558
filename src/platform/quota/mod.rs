//! Quota: what organizations may use, and what they have used.

mod grants;
mod model;
mod seats;

pub use model::{Consumption, Grant, GrantId, GrantSource, NewGrant, QuotaBalance};

pub(crate) use seats::demand_seat;

use super::{
    actor::Actor,
    allowance::{Allowance, QuotaKind, amount_column, unsigned},
    error::{PlatformError, Result},
    permissions::{Permission, demand},
};
use crate::{
    tenancy::{Db, PlatformTx},
    tenant::OrganizationId,
};
use std::time::Duration;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// The operations on quota. Cheap to clone.
///
/// What an organization may use of a kind is the sum of its grants of that kind which have started, have not expired and are not revoked:
/// those of its subscription, and those that were bought or came by a promocode ([`NewGrant`]). A grant without a limit is used
/// first, then the one that expires soonest.
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
/// Consumptions are rows of `quota_consumptions`, and not written to the audit log or the outbox one by one. Grants are. To consume and to
/// release takes no permission: the service does it for whoever asks. To see what is left takes `billing:read`, to grant
/// `billing:manage`.
///
/// Seats are counted by the confirmed members of the organization, whichever way they come and go; a consumption of
/// [`QuotaKind::SEATS`] of your own comes on top. An organization that was never granted seats has as many members as it likes.
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

/// What is allocated and not given back is kept, whatever its age.
const PRUNE: &str = "delete from public.quota_consumptions c using public.quota_kinds k
     where k.name = c.kind and c.created_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)
       and (k.usage_type = 'consumed' or c.released_at is not null)
       and c.ctid = any (array(
           select old.ctid from public.quota_consumptions old join public.quota_kinds kind on kind.name = old.kind
            where old.created_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)
              and (kind.usage_type = 'consumed' or old.released_at is not null)
            limit 10000))";

impl Quota {
    /// The quota of this database's organizations.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// The same operations, done by somebody else than [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    fn actor(&self) -> Actor {
        self.actor.clone().unwrap_or_else(Actor::current)
    }

    /// Takes an amount from what an organization has left of a kind, all of it or nothing, in one round trip. Never more than is left,
    /// however many take at the same time.
    ///
    /// The key stands for what the amount is taken for, such as `run:<id>`: it counts once in its organization. A call that is made again
    /// with the same key and the same amount, because its answer was lost, changes nothing.
    ///
    /// # Locks
    ///
    /// The organization's row of this kind in `quota_usage`, for one statement: whoever takes of the same kind at the same time waits.
    ///
    /// # Errors
    ///
    /// `QuotaExceeded`: less is left; nothing was taken. `IdempotencyConflict`: the key was counted for another amount or kind, or was
    /// released. `NotFound`: there is no such organization or kind. `Invalid`: the amount is zero or more than 10^15, or the key is
    /// empty or longer than 255 characters. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been taken or not; the same call again takes it once.
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

    /// As [`consume`](Self::consume), in a transaction of the caller's: it is taken when that commits. After an error that is not of the
    /// database the transaction goes on.
    ///
    /// # Locks
    ///
    /// As [`consume`](Self::consume), to the end of the transaction.
    ///
    /// # Errors
    ///
    /// As [`consume`](Self::consume).
    ///
    /// # Cancel safety
    ///
    /// As any statement of the transaction.
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

    /// Gives back what was taken under a key. `false`: there is nothing to give back under it, or it was given back before. What was
    /// taken from a grant that has expired is not given back to another one.
    ///
    /// # Locks
    ///
    /// As [`consume`](Self::consume).
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been given back or not; the same call again gives it back once.
    pub async fn release(&self, organization: OrganizationId, key: &str) -> Result<bool> {
        let sent: [(&(dyn ToSql + Sync), Type); 2] = [(&organization, Type::UUID), (&key, Type::TEXT)];
        let rows = self.db.platform().query_typed(RELEASE, &sent).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// As [`release`](Self::release), in a transaction of the caller's.
    ///
    /// # Locks
    ///
    /// As [`consume`](Self::consume), to the end of the transaction.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    ///
    /// # Cancel safety
    ///
    /// As any statement of the transaction.
    pub async fn release_in(&self, tx: &PlatformTx<'_>, organization: OrganizationId, key: &str) -> Result<bool> {
        let sent: [(&(dyn ToSql + Sync), Type); 2] = [(&organization, Type::UUID), (&key, Type::TEXT)];
        Ok(tx.query_typed(RELEASE, &sent).await?.first().is_some_and(|row| row.get(0)))
    }

    /// What an organization has left, by kind: every kind that it was ever granted or has used.
    ///
    /// # Errors
    ///
    /// `NotFound` and `Forbidden`: the actor is no member, or may not see it. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn left(&self, organization: OrganizationId) -> Result<Vec<QuotaBalance>> {
        let actor = self.actor();
        let platform = self.db.platform();
        let rows = platform.transaction(async |tx| {
            demand(tx, &actor, organization, Permission::BillingRead).await?;
            Ok(tx.query(LEFT, &[&organization]).await?)
        });
        Ok(rows.await?.iter().map(QuotaBalance::read).collect())
    }

    /// Forgets consumptions that are older than `age`, at most ten thousand of them, and returns how many. What is allocated and was not
    /// given back is kept. A key that is forgotten counts again: choose an age that no repetition of a call reaches, such as 90 days.
    ///
    /// # Locks
    ///
    /// The rows that are deleted, for one statement.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, they may have been forgotten or not.
    pub async fn prune(&self, age: Duration) -> Result<u64> {
        self.db.platform().execute(PRUNE, &[&age.as_secs_f64()]).await
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

/// The amount as a column, if it and the key can be stored.
fn checked(amount: u64, key: &str) -> Result<i64> {
    if amount == 0 {
        return Err(PlatformError::Invalid { what: "the amount", why: "it is zero".into() });
    }
    if key.is_empty() || key.chars().count() > 255 || key.contains('\0') {
        let why = "it is empty, longer than 255 characters or has a zero byte".into();
        return Err(PlatformError::Invalid { what: "the idempotency key", why });
    }
    amount_column(amount)
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
        "unknown_kind" => Err(PlatformError::NotFound { what: "kind of quota" }),
        _ => Err(PlatformError::NotFound { what: "organization" }),
    }
}
