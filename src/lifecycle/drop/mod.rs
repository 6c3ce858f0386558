//! Drops a tenant: its tables in batches, then schema, role and registry row. Each step is a transaction of its own, and
//! whichever was the last, the same call goes on.

mod batches;
mod expected;
mod inventory;
mod large_objects;
mod later;
mod row;

use crate::{
    access::isolation,
    binding,
    db::{Operator, milliseconds},
    error::{Error, MigrationError, Result, TenantError, while_doing},
    ident::{DatabaseTag, RoleName, SchemaName, literal},
    migrate::execute::schema_lock::{self, Hold},
    registry::{self, EnteredSession, SHORT_LOCK_WAIT, TenantFacts},
    slug::TenantSlug,
    tenant::{OrganizationId, Tenant},
};
pub use later::{DropSchedule, DueDrop, ScheduledDrop, Undropped, drop_due, planned_drops, schedule_drop, undrop};

use batches::{Relation, RelationKind};
use expected::Expected;
use inventory::{Dropped as DroppedObjects, dependents_sql};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// The part of the server's lock table that one batch may take.
const LOCKS_PART: i64 = 8;
const MORE_LOCKS: &str = "it takes more locks than the server has: raise max_locks_per_transaction";
/// Between two tries at what somebody else has locked.
const PAUSE: Duration = Duration::from_millis(100);

/// What would be lost with a tenant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DropPreview {
    /// The tenant.
    pub tenant: Tenant,
    /// Its schema; `None` where there is none.
    pub schema: Option<SchemaName>,
    /// Its role; `None` where there is none.
    pub role: Option<RoleName>,
    /// How many tables it has.
    pub tables: u64,
    /// How many rows, as the server estimates them.
    pub rows_estimated: u64,
    /// What tables and indexes take on disk.
    pub bytes: u64,
    /// Large objects that belong to its role.
    pub large_objects: u64,
    /// What keeps it from being dropped, in words: objects outside of its schema that depend on it, objects that its role owns
    /// elsewhere, rows of shared tables that keep the registry's row.
    pub blocked_by: Vec<String>,
    /// Sessions that are inside it now.
    pub sessions: Vec<EnteredSession>,
    /// Whether an earlier call began to drop it.
    pub has_begun: bool,
    row_version: Option<String>,
    schema_comment: Option<String>,
}

/// How a tenant is dropped.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DropOptions {
    /// How long each step waits for what others hold: transactions inside the tenant, locks on its tables. Default: the
    /// operator's `session.migration_wait`.
    pub wait: Option<Duration>,
    /// How many locks one transaction may take; a table takes about nine, and at least one is dropped at once. Default: an eighth
    /// of what the server has.
    pub locks_per_batch: Option<usize>,
    expected: Option<Expected>,
}

impl DropOptions {
    /// Sets how many locks one transaction may take.
    pub fn locks_per_batch(mut self, locks: usize) -> Self {
        self.locks_per_batch = Some(locks);
        self
    }

    /// Sets how long each step waits for what others hold.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// A tenant that is gone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dropped {
    /// The tenant as it was.
    pub tenant: Tenant,
    /// How many tables and views this call dropped.
    pub relations: usize,
    /// In how many transactions.
    pub batches: usize,
    /// Whether an earlier call had begun.
    pub was_begun: bool,
}

/// Told how far a tenant is dropped.
pub trait DropObserver: Send {
    /// So many of its tables and views are gone; so many were there.
    fn dropped(&mut self, relations: usize, of: usize) {
        let _ = (relations, of);
    }
}

/// Hears nothing.
impl DropObserver for crate::migrate::Silent {}

/// What is known of a tenant that is to be dropped.
struct Doomed {
    tenant: Tenant,
    facts: TenantFacts,
    schema: SchemaName,
    role: Option<RoleName>,
}

/// Looks what would be lost with a tenant. Writes nothing.
///
/// # Errors
///
/// Kind `NotFound`: there is no such tenant. `Conflict`: its schema belongs to another organization, or is not cgk's.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn preview_drop(operator: &Operator, slug: &TenantSlug) -> Result<DropPreview> {
    let doomed = look(operator, slug).await?;
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

/// Drops a tenant with all its rows, for good: the tables in batches below the server's limit of locks, then schema, role, rights
/// and the registry's row. Other tenants and the shared tables are not touched, but for the rows that go with the organization's
/// row by `on delete cascade`.
///
/// # Locks
///
/// For each step the schema's migration lock, and `access exclusive` on the tables of one batch; where a table has a foreign key to
/// a shared one, PostgreSQL locks that as well, to the end of the batch. Before the first step the registry's row and all rows that go
/// with it, for as long as it takes to delete them. No lock is waited for longer than 200 ms at once.
///
/// # Committed when
///
/// Before anything is done, the registry's row is deleted in a transaction that is rolled back, to see whether that is possible.
/// First the tenant is suspended and its schema marked; from then on every entry is refused, and it cannot be activated. The
/// transactions inside are waited for. Then each batch of tables, and in the end the schema, the role and the registry's row
/// together. Stopped anywhere, the same call goes on; once begun it is not undone.
///
/// # Errors
///
/// Kind `NotFound`: there is no such tenant; after an interruption that may mean it is gone. `Conflict`: something outside of the
/// tenant depends on it, or the registry's row cannot be deleted ([`TenantError::DropBlocked`]; before the first step nothing is
/// done), or its schema belongs to another organization. `Locked`: others hold it or its tables for longer than the wait. `Denied`: the operator may not drop the role.
/// `Unavailable` ([`TenantError::Changed`]): another session changed it meanwhile.
///
/// # Cancel safety
///
/// Dropped, the server may still finish the step under way; calling it again goes on.
pub async fn drop_tenant(
    operator: &Operator,
    slug: &TenantSlug,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Dropped> {
    let doomed = look(operator, slug).await?;
    if let Some(expected) = &options.expected {
        expected.refuse_other(&doomed)?;
    }
    Run::of(operator, options, doomed, Occasion::Asked).drop(observer).await
}

/// Why a tenant is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// It was named.
    Asked,
    /// The planned time has come; if the plan changes meanwhile, the tenant is kept.
    Due,
}

async fn look(operator: &Operator, slug: &TenantSlug) -> Result<Doomed> {
    let facts = registry::facts_of(operator, slug).await?;
    let Some(tenant) = facts.tenant.clone() else {
        registry::require(operator).await?;
        return Err(Error::Tenant(TenantError::NotFound { tenant: slug.clone() }));
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
    doomed: Doomed,
    occasion: Occasion,
    expected: Option<Expected>,
}

/// What became of a message.
enum Step {
    Done,
    /// A table is not there: another session dropped it, or a trigger of the application has named one without its schema.
    Stale(tokio_postgres::Error),
    /// The server's lock table has no room for it.
    TooManyLocks,
}

impl<'o> Run<'o> {
    fn of(operator: &'o Operator, options: &DropOptions, doomed: Doomed, occasion: Occasion) -> Self {
        let wait = options.wait.unwrap_or(operator.session().migration_wait);
        let (locks_per_batch, expected) = (options.locks_per_batch, options.expected.clone());
        Self { operator, wait, locks_per_batch, doomed, occasion, expected }
    }

    /// Does all of it.
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

    /// Refuses, before anything is done, where the role could not be dropped in the end.
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

    /// The beginning of every step: its locks, and that the tenant is still the one that was looked up.
    fn opening(&self) -> String {
        format!(
            "set transaction isolation level read committed;
select pg_catalog.set_config('lock_timeout', {}, true), pg_catalog.set_config('statement_timeout', '0', true),
       pg_catalog.set_config('search_path', '', true);
{}{}{}",
            literal(&milliseconds(SHORT_LOCK_WAIT)),
            schema_lock::lock_sql(&self.doomed.schema, Hold::Exclusive),
            registry::sql::lock_row_sql(self.doomed.id()),
            registry::demand_sql(self.doomed.id(), self.slug()),
        )
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
            Ok(Step::Done) => Ok(()),
            Ok(Step::Stale(error)) => Err(self.doing()(error)),
            Ok(Step::TooManyLocks) => Err(self.changed()),
            Err(error @ Error::Tenant(TenantError::Changed { .. })) => Err(self.not_unchanged().unwrap_or(error)),
            Err(error) => Err(error),
        }
    }

    fn changed(&self) -> Error {
        Error::Tenant(TenantError::Changed { tenant: self.slug().clone() })
    }

    /// Drops views and tables, batch by batch.
    async fn drop_relations(&self, observer: &mut dyn DropObserver) -> Result<(usize, usize)> {
        let (mut gone, mut done) = (0, 0);
        let mut budget = match self.locks_per_batch {
            Some(locks) => locks,
            None => self.part_of_locks().await?,
        };
        'looked: loop {
            let (relations, needs) = inventory::relations(self.operator, &self.doomed.schema).await?;
            let all = gone + relations.len();
            for batch in batches::batches(relations, &needs, budget) {
                match self.send(&self.batch_sql(&batch)).await? {
                    Step::Done => {}
                    Step::TooManyLocks if batch.len() > 1 => {
                        budget = (budget / 2).max(1);
                        continue 'looked;
                    }
                    Step::TooManyLocks => {
                        let schema = self.doomed.schema.clone();
                        return Err(Error::Unexpected {
                            doing: format!("drop one table of schema {:?}", schema.as_str()),
                            found: MORE_LOCKS.into(),
                        });
                    }
                    Step::Stale(error) => {
                        let (left, _) = inventory::relations(self.operator, &self.doomed.schema).await?;
                        // All of them are still there, so it is not one of them that was not found.
                        if batch.iter().all(|wanted| left.iter().any(|relation| relation.oid == wanted.oid)) {
                            return Err(self.doing()(error));
                        }
                        continue 'looked;
                    }
                }
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
        Ok(usize::try_from(locks / LOCKS_PART).unwrap_or(1).max(1))
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
        // Whoever makes something that depends on a table locks it.
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

    /// Demands that the schema still has the mark.
    fn demand_marked(&self) -> String {
        let marked = binding::marked_dropped_sql(self.doomed.schema.as_str(), self.doomed.id());
        format!("select 1 / (case when {marked} then 1 else 0 end);\n")
    }

    /// Sends a step until it gets its locks, or the wait is over.
    async fn send(&self, sql: &str) -> Result<Step> {
        let what = || format!("drop tenant {}", self.slug());
        let began = Instant::now();
        loop {
            let refused = match schema_lock::run(self.operator, &self.doomed.schema, sql, SHORT_LOCK_WAIT, what).await {
                Ok(answer) => match answer.error {
                    None => return Ok(Step::Done),
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
                Some(&SqlState::UNDEFINED_TABLE) => return Ok(Step::Stale(refused)),
                Some(&SqlState::OUT_OF_MEMORY) => return Ok(Step::TooManyLocks),
                Some(&SqlState::DIVISION_BY_ZERO) => {
                    self.refuse_blocked().await?;
                    return Err(self.changed());
                }
                _ => return Err(self.doing()(refused)),
            }
        }
    }
}

/// A statement that ends in a division by zero where a query has rows.
fn demand_none(query: &str) -> String {
    format!("select 1 / (case when exists ({query}) then 0 else 1 end);\n")
}
