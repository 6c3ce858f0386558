//! Plans the drop of a tenant and suspends it, cancels a planned drop, and drops the tenants that are due. The time is
//! stored in the comment on the schema, beside the organization's id: a rename does not change it, and only the
//! schema's owner can.

use super::{Doomed, DropObserver, DropOptions, Dropped, Occasion, Run, StepOutcome, inspect};
use crate::{
    binding::{self, PlannedDrop},
    db::Operator,
    error::{Error, MissingPart, Result, TenantError, while_doing},
    ident::SchemaName,
    registry,
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use std::time::{Duration, SystemTime};

/// A tenant whose drop is planned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScheduledDrop {
    /// The tenant after the call, suspended.
    pub tenant: Tenant,
    /// The time from which [`drop_due`] drops it, by the server's clock.
    pub after: SystemTime,
    /// The time that was planned before.
    pub was_after: Option<SystemTime>,
}

/// A tenant whose planned drop was cancelled.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Undropped {
    /// The tenant after the call.
    pub tenant: Tenant,
    /// The time that was planned. `None` if no drop was planned; then nothing was changed.
    pub was_after: Option<SystemTime>,
}

/// A planned drop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DropSchedule {
    /// The tenant.
    pub tenant: Tenant,
    /// The time from which it may be dropped.
    pub after: SystemTime,
    /// Whether that time has passed, by the server's clock.
    pub is_due: bool,
}

/// The result of [`drop_due`] for one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct DueDrop {
    /// The tenant before the call, and the planned time.
    pub schedule: DropSchedule,
    /// The result, or the error.
    pub result: Result<Dropped>,
}

/// Suspends a tenant, and plans its drop: from the given time on, [`drop_due`] drops it. Until then, [`undrop`] cancels
/// the plan. A second call changes the time.
///
/// # Locks
///
/// The schema's migration lock and the registry row, during one short transaction. Each attempt to take a lock waits at
/// most 200 ms.
///
/// # Committed when
///
/// The status and the time together. After the commit, it waits for the transactions in the tenant, as
/// [`suspend`](crate::lifecycle::suspend) does.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `Conflict`: the tenant is being dropped, its schema belongs to another organization, or an object outside of
///   the tenant depends on it ([`TenantError::DropBlocked`]). Nothing is changed.
/// - Kind `NotReady`: the tenant is still being created, or its schema does not exist.
/// - Kind `Suspended` ([`TenantError::StatusUnknown`]): cgk does not know the tenant's status.
/// - Kind `Locked` ([`TenantError::InUse`]): transactions are still in the tenant when the wait ends. **The tenant is
///   suspended and its drop is planned.**
/// - Kind `Locked` ([`MigrationError::Locked`](crate::MigrationError::Locked)): other sessions hold its locks for
///   longer than the wait. Nothing is changed.
/// - Kind `Unavailable` ([`TenantError::Changed`]): another session changed the tenant meanwhile.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still commit. Call it again.
pub async fn schedule_drop(
    operator: &Operator,
    slug: &TenantSlug,
    after: Duration,
    options: &DropOptions,
) -> Result<ScheduledDrop> {
    operator.facts().require_writable()?;
    let doomed = inspect(operator, slug).await?;
    let was_active = requires_use(&doomed)?;
    let was_after = doomed.facts.drop_after();
    let planned = PlannedDrop::of(doomed.facts.schema_comment.as_deref());
    let after = now(operator).await?.saturating_add(after.as_secs()).min(AFTER_MAX);
    let planned = PlannedDrop { after, was_active: planned.map_or(was_active, |planned| planned.was_active) };
    let run = Run::of(operator, options, doomed, Occasion::Asked);
    run.require_rights()?;
    run.refuse_blocked().await?;
    operator.reset_session().await.map_err(run.doing())?;
    run.try_to_delete().await?;
    run.plan(Some(planned), "suspended").await?;
    registry::wait_until_left(operator, slug, run.wait).await?;
    let (tenant, after) = run.now().await?;
    let after = after.ok_or_else(|| run.changed())?;
    Ok(ScheduledDrop { tenant, after, was_after })
}

/// Cancels a planned drop. The tenant gets the status that it had before.
///
/// # Locks
///
/// Those of [`schedule_drop`].
///
/// # Committed when
///
/// The status and the time together.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `Conflict`: its drop has started, or its schema belongs to another organization.
/// - Kind `Locked`: a migration of the tenant takes longer than the wait.
/// - Kind `Unavailable` ([`TenantError::Changed`]): another session changed the tenant meanwhile.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still commit. Call it again.
pub async fn undrop(operator: &Operator, slug: &TenantSlug, options: &DropOptions) -> Result<Undropped> {
    operator.facts().require_writable()?;
    let doomed = inspect(operator, slug).await?;
    doomed.facts.refuse_being_dropped()?;
    let was_after = doomed.facts.drop_after();
    let Some(planned) = PlannedDrop::of(doomed.facts.schema_comment.as_deref()) else {
        return Ok(Undropped { tenant: doomed.tenant, was_after });
    };
    let run = Run::of(operator, options, doomed, Occasion::Asked);
    operator.reset_session().await.map_err(run.doing())?;
    run.plan(None, if planned.was_active { "active" } else { "suspended" }).await?;
    let (tenant, _) = run.now().await?;
    Ok(Undropped { tenant, was_after })
}

/// Returns the planned drops, sorted by slug. Writes nothing.
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kinds `Unavailable` and `Failed`: an error of the server.
///
/// # Cancel safety
///
/// Writes nothing.
pub async fn planned_drops(operator: &Operator) -> Result<Vec<DropSchedule>> {
    registry::require(operator).await?;
    let facts = registry::facts_of_fleet(operator).await?;
    let now = time(now(operator).await?);
    let planned = |facts: registry::TenantFacts| {
        let after = facts.drop_after()?;
        Some(DropSchedule { tenant: facts.tenant?, after, is_due: after <= now })
    };
    Ok(facts.tenants.into_values().filter_map(planned).collect())
}

/// Drops the tenants whose planned time has passed, one after another, as
/// [`drop_tenant`](crate::lifecycle::drop_tenant) does. It also continues a drop that was interrupted.
///
/// A tenant is not dropped if the plan is cancelled or its time is changed before the drop of this tenant starts. Then
/// it is not in the result, and neither is a tenant that another call has dropped meanwhile. A tenant that is not
/// suspended is not dropped either ([`TenantError::DropNotDue`]). A tenant that fails does not stop the others.
///
/// # Errors
///
/// Those of [`planned_drops`]. An error of one tenant is in its [`DueDrop`].
///
/// # Cancel safety
///
/// That of [`drop_tenant`](crate::lifecycle::drop_tenant). Call it again to continue.
pub async fn drop_due(
    operator: &Operator,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Vec<DueDrop>> {
    operator.facts().require_writable()?;
    let mut done = Vec::new();
    for schedule in planned_drops(operator).await?.into_iter().filter(|planned| planned.is_due) {
        match drop_while_planned(operator, &schedule, options, observer).await? {
            Some(result) => done.push(DueDrop { schedule, result }),
            None => {
                tracing::info!(tenant = %schedule.tenant.slug, "the planned drop was cancelled, changed or done meanwhile");
            }
        }
    }
    Ok(done)
}

/// How often a drop is tried if another session changes the tenant meanwhile. The next attempt continues the drop.
const TRIES_MAX: u32 = 5;

/// Returns `None` if the drop is no longer planned: it was cancelled, or another call has finished it.
async fn drop_while_planned(
    operator: &Operator,
    schedule: &DropSchedule,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Option<Result<Dropped>>> {
    let mut tries = 1;
    loop {
        let result = drop_one_due(operator, schedule, options, observer).await;
        if !matches!(&result, Err(Error::Tenant(TenantError::Changed { .. } | TenantError::NotFound { .. }))) {
            return Ok(Some(result));
        }
        if !is_planned(operator, schedule).await? {
            return Ok(None);
        }
        if tries == TRIES_MAX {
            return Ok(Some(result));
        }
        tries += 1;
    }
}

/// Whether a planned drop is still the same.
async fn is_planned(operator: &Operator, schedule: &DropSchedule) -> Result<bool> {
    let facts = registry::facts_of(operator, &schedule.tenant.slug).await?;
    let is_same = facts.tenant.as_ref().is_some_and(|tenant| tenant.id == schedule.tenant.id);
    Ok(is_same && facts.drop_after() == Some(schedule.after))
}

async fn drop_one_due(
    operator: &Operator,
    schedule: &DropSchedule,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Dropped> {
    let tenant = schedule.tenant.slug.clone();
    let doomed = inspect(operator, &tenant).await?;
    if doomed.id() != schedule.tenant.id || doomed.facts.drop_after() != Some(schedule.after) {
        return Err(Error::Tenant(TenantError::Changed { tenant }));
    }
    if doomed.tenant.status != TenantStatus::Suspended {
        let why = format!("its time has come, and its status is {}", doomed.tenant.status);
        return Err(Error::Tenant(TenantError::DropNotDue { tenant, why }));
    }
    Run::of(operator, options, doomed, Occasion::Due).drop(observer).await
}

/// The end of the year 9999 in seconds since 1970: the latest time that a date can express.
const AFTER_MAX: u64 = 253_402_300_799;

/// Returns the server's time, in seconds since 1970.
async fn now(operator: &Operator) -> Result<u64> {
    let doing = || while_doing("read the server's clock");
    let sql = "select pg_catalog.floor(extract(epoch from pg_catalog.clock_timestamp()))::pg_catalog.int8";
    let row = operator.client().query_typed_one(sql, &[]).await.map_err(doing())?;
    let seconds: i64 = row.try_get(0).map_err(doing())?;
    Ok(u64::try_from(seconds).unwrap_or(0))
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(AFTER_MAX))
}

/// Whether the tenant is active. Refuses a tenant that is neither active nor suspended, or that has no schema.
fn requires_use(doomed: &Doomed) -> Result<bool> {
    doomed.facts.refuse_being_dropped()?;
    let (tenant, status) = (doomed.tenant.slug.clone(), doomed.tenant.status.clone());
    if status == TenantStatus::Onboarding {
        let missing = MissingPart::Creation;
        return Err(Error::Tenant(TenantError::NotReady { tenant, status, missing }));
    }
    if doomed.facts.owner.is_none() {
        let schema = SchemaName::of_tenant(&tenant);
        return Err(Error::Tenant(TenantError::SchemaGone { tenant, status, schema }));
    }
    match status {
        TenantStatus::Active => Ok(true),
        TenantStatus::Suspended => Ok(false),
        status => Err(Error::Tenant(TenantError::StatusUnknown { tenant, status })),
    }
}

impl Run<'_> {
    /// Writes the plan and the status. Fails if another session has changed the plan meanwhile.
    async fn plan(&self, planned: Option<PlannedDrop>, status: &str) -> Result<()> {
        let Doomed { tenant, facts, schema, .. } = &self.doomed;
        let comment = facts.schema_comment.as_deref();
        let mut sql = self.opening();
        sql.push_str(&binding::demand_comment_sql(schema, comment));
        sql.push_str(&registry::set_status_sql(tenant.id, &["active", "suspended"], status));
        sql.push_str(&self.as_owner());
        sql.push_str(&binding::plan_drop_sql(schema, tenant.id, comment, planned));
        match self.send(&sql).await? {
            StepOutcome::Done => Ok(()),
            StepOutcome::Stale(error) => Err(self.doing()(error)),
            StepOutcome::TooManyLocks => Err(self.changed()),
        }
    }

    /// Returns the tenant with its current data, and the time of its planned drop.
    async fn now(&self) -> Result<(Tenant, Option<SystemTime>)> {
        let facts = registry::facts_of(self.operator, self.slug()).await?;
        let after = facts.drop_after();
        match facts.tenant {
            Some(tenant) if tenant.id == self.doomed.id() => Ok((tenant, after)),
            _ => Err(self.changed()),
        }
    }
}
