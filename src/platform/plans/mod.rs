//! Plans: what customers can buy, and what each plan includes.

mod model;

pub use model::{Entitlement, Issuance, Plan, PlanDefinition, PlanId, UsageType};

use super::{
    Actor, RecordedChange,
    allowance::{Allowance, PlanKey, QuotaKind},
    error::{PlatformError, Result},
    permissions::demand_service,
};
use crate::tenancy::{Db, PlatformTx};
use serde_json::json;
use tokio_postgres::Row;

/// Operations on plans. Cheap to clone.
///
/// Everybody may read the plans. They belong to no organization, so only the service itself and its operators may
/// define and archive them.
///
/// The bundled migrations define `hobby`, `team`, `scale` and `enterprise`. They include `seats`, `runs` and `credits`.
/// A product [defines](Self::define) its own plans, or redefines these.
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

/// A query of plans, with the columns that [`read`] reads.
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
    /// Creates the handle for the plans of this database.
    pub fn new<E>(db: &Db<E>) -> Self {
        Self { db: db.errors(), actor: None }
    }

    /// Sets the actor of the operations. Default: [`Actor::current`].
    pub fn acting_as(mut self, actor: Actor) -> Self {
        self.actor = Some(actor);
        self
    }

    /// Returns the plans on sale, oldest first, at most 1,000.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list(&self) -> Result<Vec<Plan>> {
        Ok(self.db.platform().query(LIST, &[&false]).await?.iter().map(read).collect())
    }

    /// Same as [`list`](Self::list), but includes the plans that were withdrawn from sale.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn list_all(&self) -> Result<Vec<Plan>> {
        Ok(self.db.platform().query(LIST, &[&true]).await?.iter().map(read).collect())
    }

    /// Returns a plan, on sale or not.
    ///
    /// # Errors
    ///
    /// `NotFound`; `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn find(&self, key: &PlanKey) -> Result<Plan> {
        let row = self.db.platform().query_opt(FIND, &[&key.as_str()]).await?;
        row.as_ref().map(read).ok_or(PlatformError::NotFound { what: "plan" })
    }

    /// Defines or redefines a plan. The plan is on sale, and includes exactly what is given here. Existing
    /// subscriptions keep what they were granted. They get grants by the new definition from their next period or
    /// change of plan.
    ///
    /// # Locks
    ///
    /// The plan's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `Invalid`: the name, or a kind is included twice with the same issuance. `NotFound`: the kind of quota does not
    /// exist. `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`. In these cases nothing is
    /// committed.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn define(&self, plan: &PlanDefinition) -> Result<Plan> {
        let actor = self.demand_service()?;
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
                self.record(tx, &actor, "cgk.plan.defined", before.as_ref(), &after).await?;
                Ok(after)
            })
            .await
    }

    /// Withdraws a plan from sale. Existing subscriptions to it continue and are renewed.
    ///
    /// # Locks
    ///
    /// The plan's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`. `Forbidden`: the actor is not the service or an operator. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed.
    pub async fn archive(&self, key: &PlanKey) -> Result<Plan> {
        let actor = self.demand_service()?;
        self.db
            .platform()
            .transaction(async |tx| {
                let archived = tx.query_opt(ARCHIVE, &[&key.as_str()]).await?.is_some();
                let row = tx.query_opt(FIND, &[&key.as_str()]).await?;
                let plan = row.as_ref().map(read).ok_or(PlatformError::NotFound { what: "plan" })?;
                if archived {
                    self.record(tx, &actor, "cgk.plan.archived", None, &plan).await?;
                }
                Ok(plan)
            })
            .await
    }

    /// Defines a kind of quota. The type of use of a kind cannot be changed.
    ///
    /// # Locks
    ///
    /// None except those of the statement.
    ///
    /// # Errors
    ///
    /// `Invalid`: the kind exists with the other type of use. `Forbidden`: the actor is not the service or an operator.
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn define_kind(&self, kind: &QuotaKind, usage: UsageType) -> Result<()> {
        let actor = self.demand_service()?;
        let platform = self.db.platform();
        let defined = platform.transaction(async |tx| {
            if tx.execute(DEFINE_KIND, &[&kind.as_str(), &usage.as_str()]).await? == 1 {
                let change = RecordedChange {
                    actor: &actor,
                    organization: None,
                    name: "cgk.quota_kind.defined",
                    resource: ("quota_kind", kind.to_string()),
                    before: None,
                    after: Some(json!({ "usage": usage.as_str() })),
                };
                change.record(tx).await?;
                return Ok(None);
            }
            Ok(tx.query_opt(KIND, &[&kind.as_str()]).await?)
        });
        match defined.await?.map(|row| UsageType::of_row(row.get(0))) {
            Some(found) if found != usage => {
                let why = format!("{kind} is a kind whose use is {}", found.as_str());
                Err(PlatformError::Invalid { what: "the type of use", why })
            }
            _ => Ok(()),
        }
    }

    fn demand_service(&self) -> Result<Actor> {
        let actor = self.actor.clone().unwrap_or_else(Actor::current);
        demand_service(&actor, "plans:manage").map(|()| actor)
    }

    async fn record(
        &self,
        tx: &PlatformTx<'_>,
        actor: &Actor,
        name: &'static str,
        before: Option<&Plan>,
        after: &Plan,
    ) -> Result<()> {
        let change = RecordedChange {
            actor,
            organization: None,
            name,
            resource: ("plan", after.id.to_string()),
            before: before.map(facts),
            after: Some(facts(after)),
        };
        Ok(change.record(tx).await?)
    }
}

/// Returns a plan in the format of the audit log.
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
