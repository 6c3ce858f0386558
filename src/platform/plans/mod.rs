//! Plans: what customers can buy, and what each plan includes.

mod model;

pub use model::{Entitlement, Issuance, Plan, PlanDefinition, PlanId, UsageType};

use super::{
    actor::Actor,
    allowance::{Allowance, PlanKey, QuotaKind},
    error::{PlatformError, Result},
    record::Change,
};
use crate::tenancy::{Db, PlatformTx};
use serde_json::json;
use tokio_postgres::Row;

/// The operations on plans. Cheap to clone.
///
/// The bundled migrations define `hobby`, `team`, `scale` and `enterprise`, which include `seats`, `runs` and `credits`; a product
/// [defines](Self::define) its own, or these anew.
///
/// ```no_run
/// use cgk::platform::{Allowance, Entitlement, PlanDefinition, Plans, PlatformError, QuotaKind, UsageType};
///
/// async fn define(db: &cgk::Db) -> Result<(), PlatformError> {
///     let plans = Plans::new(db);
///     let exports: QuotaKind = "exports".parse()?;
///     plans.define_kind(&exports, UsageType::Consumed).await?;
///     let studio = PlanDefinition::new("studio".parse()?)
///         .name("Studio")
///         .includes(Entitlement::each_period(QuotaKind::SEATS, 20))
///         .includes(Entitlement::each_period(exports, Allowance::Unlimited))
///         .includes(Entitlement::once(QuotaKind::CREDITS, 500));
///     plans.define(&studio).await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Plans {
    db: Db<PlatformError>,
    actor: Option<Actor>,
}

/// A query of plans with the columns that [`read`] reads.
macro_rules! plans {
    ($rest:literal) => {
        concat!(
            "select p.id, p.key, p.name, p.archived_at, p.created_at,
                    pg_catalog.array_agg(e.kind order by e.kind, e.renewal) filter (where e.kind is not null),
                    pg_catalog.array_agg(e.renewal::pg_catalog.text order by e.kind, e.renewal) filter (where e.kind is not null),
                    pg_catalog.array_agg(e.amount order by e.kind, e.renewal) filter (where e.kind is not null)
               from public.plans p left join public.plan_entitlements e on e.plan_id = p.id ",
            $rest,
            " group by p.id order by p.created_at, p.key collate pg_catalog.\"C\" limit 1000"
        )
    };
}

const LIST: &str = plans!("where p.archived_at is null or $1");
const FIND: &str = plans!("where p.key = $1");

const DEFINE: &str = "insert into public.plans (key, name) values ($1, $2)
    on conflict (key) do update set name = excluded.name, archived_at = null returning id";
const FORGET_ENTITLEMENTS: &str = "delete from public.plan_entitlements where plan_id = $1";
const INCLUDE: &str = "insert into public.plan_entitlements (plan_id, kind, renewal, amount)
    select $1, k.name, e.renewal::public.plan_renewal, e.amount
      from rows from (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[]),
                      pg_catalog.unnest($4::pg_catalog.int8[])) as e (kind, renewal, amount)
      join public.quota_kinds k on k.name = e.kind";

const ARCHIVE: &str =
    "update public.plans set archived_at = pg_catalog.now() where key = $1 and archived_at is null returning id";

const DEFINE_KIND: &str = "insert into public.quota_kinds (name, usage_type)
    values ($1, $2::pg_catalog.text::public.quota_usage_type) on conflict (name) do nothing";
const KIND: &str = "select usage_type::pg_catalog.text from public.quota_kinds where name = $1";

impl Plans {
    /// The plans of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// The same operations, done by somebody else than [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// The plans on sale, oldest first; at most a thousand.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn list(&self) -> Result<Vec<Plan>> {
        Ok(self.db.platform().query(LIST, &[&false]).await?.iter().map(read).collect())
    }

    /// As [`list`](Self::list), those included that were withdrawn from sale.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn list_all(&self) -> Result<Vec<Plan>> {
        Ok(self.db.platform().query(LIST, &[&true]).await?.iter().map(read).collect())
    }

    /// A plan, on sale or not.
    ///
    /// # Errors
    ///
    /// `NotFound`; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn find(&self, key: &PlanKey) -> Result<Plan> {
        let row = self.db.platform().query_opt(FIND, &[&key.as_str()]).await?;
        row.as_ref().map(read).ok_or(PlatformError::NotFound { what: "plan" })
    }

    /// Defines a plan, or defines it anew: it is on sale, and includes what is said here and nothing else. Subscriptions to it keep what
    /// they were granted, and are granted by the new definition from their next period or change of plan on.
    ///
    /// # Locks
    ///
    /// The plan's row, for the transaction.
    ///
    /// # Errors
    ///
    /// `Invalid`: the name, or a kind is included twice in the same way. `NotFound`: there is no such kind of quota. `TablesMissing`;
    /// `Database`. Nothing is committed then.
    ///
    /// # Cancel safety
    ///
    /// Dropped before COMMIT is sent, nothing is committed.
    pub async fn define(&self, plan: &PlanDefinition) -> Result<Plan> {
        let name = plan.checked_name()?;
        let kinds: Vec<&str> = plan.entitlements.iter().map(|e| e.kind.as_str()).collect();
        let renewals: Vec<&str> = plan.entitlements.iter().map(|e| e.issuance.as_str()).collect();
        let amounts = plan.entitlements.iter().map(|e| e.amount.column()).collect::<Result<Vec<_>>>()?;
        self.db
            .platform()
            .transaction(async |tx| {
                let before = tx.query_opt(FIND, &[&plan.key.as_str()]).await?.as_ref().map(read);
                let id: PlanId = tx.query_one(DEFINE, &[&plan.key.as_str(), &name]).await?.get(0);
                tx.execute(FORGET_ENTITLEMENTS, &[&id]).await?;
                let included = tx.execute(INCLUDE, &[&id, &kinds, &renewals, &amounts]).await?;
                if included != kinds.len() as u64 {
                    return Err(PlatformError::NotFound { what: "kind of quota" });
                }
                let after = read(&tx.query_one(FIND, &[&plan.key.as_str()]).await?);
                self.record(tx, "cgk.plan.defined", before.as_ref(), &after).await?;
                Ok(after)
            })
            .await
    }

    /// Withdraws a plan from sale. Subscriptions to it go on and are renewed.
    ///
    /// # Locks
    ///
    /// The plan's row, for the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped before COMMIT is sent, nothing is committed.
    pub async fn archive(&self, key: &PlanKey) -> Result<Plan> {
        self.db
            .platform()
            .transaction(async |tx| {
                let archived = tx.query_opt(ARCHIVE, &[&key.as_str()]).await?.is_some();
                let row = tx.query_opt(FIND, &[&key.as_str()]).await?;
                let plan = row.as_ref().map(read).ok_or(PlatformError::NotFound { what: "plan" })?;
                if archived {
                    self.record(tx, "cgk.plan.archived", None, &plan).await?;
                }
                Ok(plan)
            })
            .await
    }

    /// Defines a kind of quota. It stays what it is: a kind that exists with the other type of use is an error.
    ///
    /// # Locks
    ///
    /// None of its own.
    ///
    /// # Errors
    ///
    /// `Invalid`: the kind exists with the other type of use. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been defined or not.
    pub async fn define_kind(&self, kind: &QuotaKind, usage: UsageType) -> Result<()> {
        let platform = self.db.platform();
        if platform.execute(DEFINE_KIND, &[&kind.as_str(), &usage.as_str()]).await? == 1 {
            return Ok(());
        }
        let row = platform.query_opt(KIND, &[&kind.as_str()]).await?;
        match row.map(|row| UsageType::of_row(row.get(0))) {
            Some(found) if found != usage => {
                let why = format!("{kind} is a kind whose use is {}", found.as_str());
                Err(PlatformError::Invalid { what: "the type of use", why })
            }
            _ => Ok(()),
        }
    }

    async fn record(&self, tx: &PlatformTx<'_>, name: &'static str, before: Option<&Plan>, after: &Plan) -> Result<()> {
        let actor = self.actor.clone().unwrap_or_else(Actor::current);
        let change = Change {
            actor: &actor,
            organization: None,
            name,
            resource: ("plan", after.id.to_string()),
            before: before.map(facts),
            after: Some(facts(after)),
        };
        change.record(tx).await
    }
}

/// A plan as the audit log keeps it.
fn facts(plan: &Plan) -> serde_json::Value {
    let entitlement = |e: &Entitlement| json!({ "kind": e.kind, "issuance": e.issuance.as_str(), "amount": e.amount });
    json!({
        "key": plan.key,
        "name": plan.name,
        "on_sale": plan.archived_at.is_none(),
        "entitlements": plan.entitlements.iter().map(entitlement).collect::<Vec<_>>(),
    })
}

fn read(row: &Row) -> Plan {
    let kinds: Vec<&str> = row.get::<_, Option<_>>(5).unwrap_or_default();
    let renewals: Vec<&str> = row.get::<_, Option<_>>(6).unwrap_or_default();
    let amounts: Vec<Option<i64>> = row.get::<_, Option<_>>(7).unwrap_or_default();
    let entitlements = kinds.into_iter().zip(renewals).zip(amounts).map(|((kind, renewal), amount)| Entitlement {
        kind: QuotaKind::of_row(kind),
        issuance: Issuance::of_row(renewal),
        amount: Allowance::of_column(amount),
    });
    Plan {
        id: row.get(0),
        key: PlanKey::of_row(row.get(1)),
        name: row.get(2),
        archived_at: row.get(3),
        created_at: row.get(4),
        entitlements: entitlements.collect(),
    }
}
