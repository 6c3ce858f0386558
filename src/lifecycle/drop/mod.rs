//! Drops a tenant: its tables in batches, then the schema, the role and the registry row. Each step is a transaction of
//! its own. If a call is interrupted, the same call continues after the last finished step.

mod batches;
mod expected;
mod inventory;
mod large_objects;
mod later;
mod options;
mod rights;
mod row;

use crate::{
    access::isolation,
    binding,
    db::{
        Operator,
        message_head::{Hold, MessageHead},
    },
    error::{Error, MigrationError, Result, TenantError, while_doing},
    ident::{DatabaseTag, RoleName, SchemaName},
    migrate::execute::schema_lock,
    registry::{self, EnteredSession, SHORT_LOCK_WAIT, TenantFacts},
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant},
};
pub use later::{DropSchedule, DueDrop, ScheduledDrop, Undropped, drop_due, planned_drops, schedule_drop, undrop};
pub use options::{DropObserver, DropOptions, Dropped};

use batches::{Relation, RelationKind};
use expected::Expected;
use inventory::{DroppedObjects, dependents_sql};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// The fraction of the server's lock table that one batch may use: one part of this many.
const LOCKS_PART: i64 = 8;
/// The number of locks of one batch, on a server with a larger lock table: about ten tables. The sessions of other
/// tenants compete with a batch for a processor, and each of them removes the dropped objects from its caches.
const LOCKS_PER_BATCH: i64 = 100;
/// How many times longer than a batch the pause after it is.
const PAUSE_FACTOR: u32 = 4;
/// How many objects of one kind an error lists.
const NAMED_MAX: i64 = 10;
const MORE_LOCKS: &str = "it takes more locks than the server has: raise max_locks_per_transaction";
/// The pause between two attempts to take a lock that another session holds.
const PAUSE: Duration = Duration::from_millis(100);

/// The data and objects that are lost when a tenant is dropped.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DropPreview {
    /// The tenant.
    pub tenant: Tenant,
    /// Its schema; `None` if there is none.
    pub schema: Option<SchemaName>,
    /// Its role; `None` if there is none.
    pub role: Option<RoleName>,
    /// How many tables it has.
    pub tables: u64,
    /// The number of rows, as the server estimates it.
    pub rows_estimated: u64,
    /// The size of its tables and indexes on disk.
    pub bytes: u64,
    /// The number of large objects that its role owns.
    pub large_objects: u64,
    /// The objects that prevent the drop: objects outside of the schema that depend on it, members of an extension in
    /// it, objects that its role owns in other schemas, policies for its role alone, rights of its role that the operator
    /// may not revoke, and rows of shared tables that prevent the deletion of the registry row.
    pub blocked_by: Vec<String>,
    /// The sessions that are in the tenant now.
    pub sessions: Vec<EnteredSession>,
    /// Whether an earlier call has started to drop it.
    pub has_begun: bool,
    row_version: Option<String>,
    schema_comment: Option<String>,
}

/// The facts about a tenant that is to be dropped.
struct Doomed {
    tenant: Tenant,
    facts: TenantFacts,
    schema: SchemaName,
    role: Option<RoleName>,
}

/// Returns what is lost when a tenant is dropped. Writes nothing.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `Conflict`: its schema belongs to another organization, or not to cgk.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn preview_drop(operator: &Operator, slug: &TenantSlug) -> Result<DropPreview> {
    let doomed = inspect(operator, slug).await?;
    let role = doomed.role.as_ref();
    let schemas = std::slice::from_ref(&doomed.schema);
    let contents = registry::contents_of(operator, schemas).await?.remove(doomed.schema.as_str()).unwrap_or_default();
    Ok(DropPreview {
        schema: doomed.facts.owner.is_some().then(|| doomed.schema.clone()),
        role: doomed.role.clone(),
        tables: contents.tables,
        rows_estimated: contents.rows_estimated,
        bytes: contents.bytes,
        large_objects: inventory::large_objects(operator, role).await?,
        blocked_by: inventory::blockers(operator, &doomed).await?,
        sessions: registry::entered_sessions(operator, slug).await?,
        has_begun: doomed.has_begun(),
        row_version: registry::row_version(operator, doomed.id()).await?,
        schema_comment: doomed.facts.schema_comment,
        tenant: doomed.tenant,
    })
}

/// Drops a tenant with all its rows. This cannot be undone. It drops the tables in batches below the server's limit of
/// locks, then the schema, the role, the rights and the registry row. Other tenants and the shared tables are not
/// changed, except for rows that `on delete cascade` deletes together with the organization's row.
///
/// # Locks
///
/// - Each step: the schema's migration lock, and `access exclusive` on the tables of one batch. If a table has a
///   foreign key to a shared table, PostgreSQL also locks the shared table until the end of the batch.
/// - Before the first step: the registry row and all rows that are deleted with it, during a test of the deletion.
///
/// Each attempt to take a lock waits at most 200 ms.
///
/// # Committed when
///
/// 1. Before the first step, the registry row is deleted in a transaction that is rolled back. This tests whether the
///    deletion is possible.
/// 2. The first step suspends the tenant and marks its schema. After this commit, every entry is refused and the tenant
///    cannot be activated. The call then waits for the transactions in the tenant.
/// 3. Each batch of tables commits separately.
/// 4. The last step drops the schema, the role and the registry row in one transaction.
///
/// If it stops at any point, the same call continues. A drop that has started cannot be undone.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant. After an interruption, this can mean that the drop has finished.
/// - Kind `Conflict` ([`TenantError::DropBlocked`]): an object outside of the tenant depends on it, or the registry row
///   cannot be deleted. If this happens before the first step, nothing is changed.
/// - Kind `Conflict` ([`TenantError::DropOutdated`]): the tenant has changed since the preview in the options.
/// - Kind `Conflict`: its schema belongs to another organization.
/// - Kind `Locked`: other sessions hold the tenant or its tables for longer than the wait.
/// - Kind `Denied`: the operator may not drop the role.
/// - Kind `Unavailable` ([`TenantError::Changed`]): another session changed the tenant meanwhile.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still finish the current step. Call it again to continue.
pub async fn drop_tenant(
    operator: &Operator,
    slug: &TenantSlug,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Dropped> {
    let doomed = inspect(operator, slug).await?;
    if let Some(expected) = &options.expected {
        expected.refuse_other(&doomed)?;
    }
    Run::of(operator, options, doomed, Occasion::Asked).drop(observer).await
}

/// Why a tenant is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// The caller named it.
    Asked,
    /// Its planned time has passed. If the plan changes meanwhile, the tenant is not dropped.
    Due,
}

async fn inspect(operator: &Operator, slug: &TenantSlug) -> Result<Doomed> {
    let facts = registry::facts_of(operator, slug).await?;
    let Some(tenant) = facts.tenant.clone() else {
        registry::require(operator).await?;
        return Err(registry::not_found(operator, slug).await);
    };
    facts.refuse_other_organization()?;
    let schema = SchemaName::of_tenant(slug);
    if facts.owner.is_some() && facts.is_unbound() && !facts.has_ledger {
        let why = "it belongs to no organization and has no ledger".into();
        return Err(Error::Tenant(TenantError::SchemaNotOurs { schema, why }));
    }
    let tag: DatabaseTag = operator.facts().database_tag();
    let role = facts.has_role.then(|| RoleName::of_tenant(slug, &tag));
    Ok(Doomed { tenant, facts, schema, role })
}

impl Doomed {
    fn has_begun(&self) -> bool {
        binding::is_being_dropped(self.facts.schema_comment.as_deref())
    }

    fn id(&self) -> OrganizationId {
        self.tenant.id
    }
}

/// One call of [`drop_tenant`].
struct Run<'o> {
    operator: &'o Operator,
    wait: Duration,
    locks_per_batch: Option<usize>,
    pause_factor: u32,
    doomed: Doomed,
    occasion: Occasion,
    expected: Option<Expected>,
}

/// The result of one transaction.
enum StepOutcome {
    Done,
    /// A table does not exist: another session dropped it, or a trigger of the application used a name without a
    /// schema.
    Stale(tokio_postgres::Error),
    /// The server's lock table is full.
    TooManyLocks,
}

impl<'o> Run<'o> {
    fn of(operator: &'o Operator, options: &DropOptions, doomed: Doomed, occasion: Occasion) -> Self {
        let wait = options.wait.unwrap_or(operator.session().migration_wait);
        let (locks_per_batch, expected) = (options.locks_per_batch, options.expected.clone());
        let pause_factor = options.pause_factor.unwrap_or(PAUSE_FACTOR);
        Self { operator, wait, locks_per_batch, pause_factor, doomed, occasion, expected }
    }

    /// Runs the complete drop.
    async fn drop(self, observer: &mut dyn DropObserver) -> Result<Dropped> {
        self.operator.facts().require_writable()?;
        self.require_rights()?;
        self.refuse_blocked().await?;
        self.operator.reset_session().await.map_err(self.doing())?;
        if !self.doomed.has_begun() {
            self.try_to_delete().await?;
        }
        self.mark().await?;
        registry::wait_until_left(self.operator, self.slug(), self.wait).await?;
        let (relations, batches) = self.drop_relations(observer).await?;
        self.remove_large_objects().await?;
        self.finish().await?;
        let was_begun = self.doomed.has_begun();
        Ok(Dropped { tenant: self.doomed.tenant, relations, batches, was_begun })
    }

    fn slug(&self) -> &TenantSlug {
        &self.doomed.tenant.slug
    }

    fn doing(&self) -> impl FnOnce(tokio_postgres::Error) -> Error + use<> {
        while_doing(format!("drop tenant {}", self.slug()))
    }

    /// Refuses, before anything is changed, if the operator could not drop the role in the last step.
    fn require_rights(&self) -> Result<()> {
        let (own, facts) = (self.operator.facts(), &self.doomed.facts);
        match &self.doomed.role {
            Some(role) if !own.superuser && !facts.role_grantable => Err(isolation::lacks_admin(own, role)),
            _ => Ok(()),
        }
    }

    async fn refuse_blocked(&self) -> Result<()> {
        let by = inventory::blockers(self.operator, &self.doomed).await?;
        if by.is_empty() {
            return Ok(());
        }
        Err(self.blocked(by))
    }

    fn blocked(&self, by: Vec<String>) -> Error {
        Error::Tenant(TenantError::DropBlocked { tenant: self.slug().clone(), by })
    }

    /// Returns the start of every step: its locks, and the check that the tenant is still the same.
    fn opening(&self) -> String {
        let head = MessageHead::of(self.operator)
            .lock_timeout(SHORT_LOCK_WAIT)
            .statement_timeout(Duration::ZERO)
            .search_path("")
            .lock_schema(&self.doomed.schema, Hold::Exclusive);
        let row = registry::sql::lock_row_sql(self.doomed.id());
        head.sql() + &row + &registry::demand_sql(self.doomed.id(), self.slug())
    }

    fn as_owner(&self) -> String {
        let own = self.operator.facts().role.as_str();
        let owner = self.doomed.facts.owner.as_ref().filter(|owner| owner.as_str() != own);
        owner.map_or_else(String::new, |owner| format!("set local role {};\n", owner.quoted()))
    }

    /// Suspends the tenant and marks its schema.
    async fn mark(&self) -> Result<()> {
        let Doomed { tenant, facts, schema, .. } = &self.doomed;
        let mut sql = self.opening();
        let status = tenant.status.as_str();
        sql.push_str(&self.demand_unchanged_sql());
        let from = match (self.occasion, self.unchanged_status()) {
            (Occasion::Due, _) => vec!["suspended"],
            (Occasion::Asked, Some(unchanged)) => vec![unchanged],
            (Occasion::Asked, None) => vec![status, "active", "suspended"],
        };
        sql.push_str(&registry::set_status_sql(tenant.id, &from, "suspended"));
        if facts.owner.is_some() {
            if self.occasion == Occasion::Due {
                sql.push_str(&binding::demand_comment_sql(schema, facts.schema_comment.as_deref()));
            }
            sql.push_str(&self.as_owner());
            sql.push_str(&binding::mark_dropped_sql(schema, tenant.id, facts.schema_comment.as_deref()));
        }
        match self.send(&sql).await {
            Ok(StepOutcome::Done) => Ok(()),
            Ok(StepOutcome::Stale(error)) => Err(self.doing()(error)),
            Ok(StepOutcome::TooManyLocks) => Err(self.changed()),
            Err(error @ Error::Tenant(TenantError::Changed { .. })) => Err(self.not_unchanged().unwrap_or(error)),
            Err(error) => Err(error),
        }
    }

    fn changed(&self) -> Error {
        Error::Tenant(TenantError::Changed { tenant: self.slug().clone() })
    }

    /// Drops views and tables, batch by batch, with a pause between two batches.
    async fn drop_relations(&self, observer: &mut dyn DropObserver) -> Result<(usize, usize)> {
        let (mut gone, mut done) = (0, 0);
        let mut pause = Duration::ZERO;
        let mut budget = match self.locks_per_batch {
            Some(locks) => locks,
            None => self.part_of_locks().await?,
        };
        'looked: loop {
            let (relations, needs) = inventory::relations(self.operator, &self.doomed.schema).await?;
            let all = gone + relations.len();
            for batch in batches::batches(relations, &needs, budget) {
                tokio::time::sleep(std::mem::take(&mut pause)).await;
                let began = Instant::now();
                match self.send(&self.batch_sql(&batch)).await? {
                    StepOutcome::Done => {}
                    StepOutcome::TooManyLocks if batch.len() > 1 => {
                        budget = (budget / 2).max(1);
                        continue 'looked;
                    }
                    StepOutcome::TooManyLocks => {
                        let schema = self.doomed.schema.clone();
                        return Err(Error::Unexpected {
                            doing: format!("drop one table of schema {:?}", schema.as_str()),
                            found: MORE_LOCKS.into(),
                        });
                    }
                    StepOutcome::Stale(error) => {
                        let (left, _) = inventory::relations(self.operator, &self.doomed.schema).await?;
                        // All of them still exist, so the missing table is not one of them.
                        if batch.iter().all(|wanted| left.iter().any(|relation| relation.oid == wanted.oid)) {
                            return Err(self.doing()(error));
                        }
                        continue 'looked;
                    }
                }
                pause = began.elapsed().saturating_mul(self.pause_factor);
                gone += batch.len();
                done += 1;
                observer.dropped(gone, all);
            }
            return Ok((gone, done));
        }
    }

    async fn part_of_locks(&self) -> Result<usize> {
        let sql = "select pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8
            * (pg_catalog.current_setting('max_connections')::pg_catalog.int8 + pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8)";
        let row = self.operator.client().query_typed_one(sql, &[]).await.map_err(self.doing())?;
        let locks: i64 = row.try_get(0).map_err(self.doing())?;
        Ok(usize::try_from((locks / LOCKS_PART).min(LOCKS_PER_BATCH)).unwrap_or(1).max(1))
    }

    fn batch_sql(&self, batch: &[Relation]) -> String {
        let schema = &self.doomed.schema;
        let names = |wanted: &dyn Fn(RelationKind) -> bool, before: &str| -> Option<String> {
            let names: Vec<String> = batch
                .iter()
                .filter(|relation| wanted(relation.kind))
                .map(|relation| format!("{before}{}", schema.qualified(relation.name.as_str())))
                .collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let mut sql = self.opening() + &self.demand_marked() + &self.as_owner();
        // A session that creates an object that depends on a table locks that table.
        if let Some(names) = names(&|kind| kind == RelationKind::Table, "only ") {
            sql.push_str(&format!("lock table {names} in access exclusive mode;\n"));
        }
        sql.push_str(&demand_none(&dependents_sql(schema, &DroppedObjects::Relations(batch))));
        for kind in
            [RelationKind::View, RelationKind::MaterializedView, RelationKind::Table, RelationKind::ForeignTable]
        {
            if let Some(names) = names(&|of| of == kind, "") {
                sql.push_str(&format!("{} {names} cascade;\n", kind.statement()));
            }
        }
        sql
    }

    /// Returns the check that the schema still has the mark.
    fn demand_marked(&self) -> String {
        let marked = binding::marked_dropped_sql(self.doomed.schema.as_str(), self.doomed.id());
        format!("select 1 / (case when {marked} then 1 else 0 end);\n")
    }

    /// Sends a step again until it gets its locks, or the wait ends.
    async fn send(&self, sql: &str) -> Result<StepOutcome> {
        let what = || format!("drop tenant {}", self.slug());
        let began = Instant::now();
        loop {
            let refused = match schema_lock::run(self.operator, &self.doomed.schema, sql, SHORT_LOCK_WAIT, what).await {
                Ok(answer) => match answer.error {
                    None => return Ok(StepOutcome::Done),
                    Some(error) => error,
                },
                Err(Error::Migration(MigrationError::Locked { .. })) if began.elapsed() < self.wait => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match refused.code() {
                Some(&SqlState::LOCK_NOT_AVAILABLE) if began.elapsed() < self.wait => {
                    tokio::time::sleep(PAUSE).await;
                }
                Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    let (schema, waited) = (self.doomed.schema.clone(), self.wait);
                    return Err(Error::Migration(MigrationError::Locked { schema, waited }));
                }
                Some(&SqlState::UNDEFINED_TABLE) => return Ok(StepOutcome::Stale(refused)),
                Some(&SqlState::OUT_OF_MEMORY) => return Ok(StepOutcome::TooManyLocks),
                Some(&SqlState::DIVISION_BY_ZERO) => {
                    self.refuse_blocked().await?;
                    return Err(self.changed());
                }
                Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
                    self.refuse_blocked().await?;
                    return Err(self.doing()(refused));
                }
                _ => return Err(self.doing()(refused)),
            }
        }
    }
}

/// Returns a statement that fails with a division by zero if a query returns rows.
fn demand_none(query: &str) -> String {
    format!("select 1 / (case when exists ({query}) then 0 else 1 end);\n")
}
