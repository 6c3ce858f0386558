//! Suspends a tenant that is to be dropped later, takes that back, and drops those whose time has come. The time is in the comment on
//! the schema, beside the organization's id: a rename keeps it, and only the schema's owner changes it.

use super::{Doomed, DropObserver, DropOptions, Dropped, Occasion, Run, Step, look};
use crate::{
    binding::{self, PlannedDrop},
    db::Operator,
    error::{Error, Result, TenantError, while_doing},
    ident::SchemaName,
    registry,
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use std::time::{Duration, SystemTime};

/// A tenant that is dropped later.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScheduledDrop {
    /// The tenant as it is now, suspended.
    pub tenant: Tenant,
    /// From when on [`drop_due`] drops it, by the server's clock.
    pub after: SystemTime,
    /// The time that was planned before.
    pub was_after: Option<SystemTime>,
}

/// A tenant whose drop was taken back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Undropped {
    /// The tenant as it is now.
    pub tenant: Tenant,
    /// The time that was planned; `None` if none was, and nothing was changed.
    pub was_after: Option<SystemTime>,
}

/// A planned drop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DropSchedule {
    /// The tenant.
    pub tenant: Tenant,
    /// From when on it may be dropped.
    pub after: SystemTime,
    /// Whether that time has come, by the server's clock.
    pub is_due: bool,
}

/// What [`drop_due`] did with one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct DueDrop {
    /// The tenant as it was, and its time.
    pub schedule: DropSchedule,
    /// What became of it.
    pub result: Result<Dropped>,
}

/// Suspends a tenant now, and plans its drop: from the given time on [`drop_due`] drops it. Until then [`undrop`] takes it back.
/// Called again, it changes the time.
///
/// # Locks
///
/// The schema's migration lock and the registry's row, for one short transaction; no lock is waited for longer than 200 ms at once.
///
/// # Committed when
///
/// Status and time together. Then the transactions inside are waited for, as by [`suspend`](crate::lifecycle::suspend).
///
/// # Errors
///
/// Kind `NotFound`: there is no such tenant. `Conflict`: it is being dropped, its schema belongs to another organization, or something
/// outside of it depends on it ([`TenantError::DropBlocked`]); nothing is changed. `NotReady`: it is still being created, or its schema is
/// gone. `Suspended` ([`TenantError::StatusUnknown`]): its status is one that cgk does not know. `Locked` ([`TenantError::InUse`]):
/// transactions are still inside when the wait is over; **the tenant is suspended and its drop is planned**.
///
/// # Cancel safety
///
/// Dropped, the server may still commit it; run it again.
pub async fn schedule_drop(
    operator: &Operator,
    slug: &TenantSlug,
    after: Duration,
    options: &DropOptions,
) -> Result<ScheduledDrop> {
    operator.facts().require_writable()?;
    let doomed = look(operator, slug).await?;
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

/// Takes a planned drop back: the tenant has the status that it had before.
///
/// # Locks
///
/// Those of [`schedule_drop`].
///
/// # Committed when
///
/// Status and time together.
///
/// # Errors
///
/// Kind `NotFound`: there is no such tenant. `Conflict`: its drop has begun, or its schema belongs to another organization. `Locked`: it is
/// being migrated for longer than the wait. `Unavailable` ([`TenantError::Changed`]): another session changed it meanwhile.
///
/// # Cancel safety
///
/// Dropped, the server may still commit it; run it again.
pub async fn undrop(operator: &Operator, slug: &TenantSlug, options: &DropOptions) -> Result<Undropped> {
    operator.facts().require_writable()?;
    let doomed = look(operator, slug).await?;
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

/// The planned drops, by slug. Writes nothing.
///
/// # Errors
///
/// Kind `NotReady`: there is no registry. Kinds `Unavailable` and `Failed`, from the server.
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

/// Drops the tenants whose planned time has come, one after another, as [`drop_tenant`](crate::lifecycle::drop_tenant) does. A drop that
/// was interrupted is continued.
///
/// A tenant is kept if its drop is taken back or its time is changed before its own drop begins, and if it is not suspended
/// ([`TenantError::DropNotDue`]). One that fails does not stop the others.
///
/// # Errors
///
/// Those of [`planned_drops`]. An error of one tenant is in its [`DueDrop`].
///
/// # Cancel safety
///
/// That of [`drop_tenant`](crate::lifecycle::drop_tenant): called again, it continues.
pub async fn drop_due(
    operator: &Operator,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Vec<DueDrop>> {
    operator.facts().require_writable()?;
    let mut done = Vec::new();
    for schedule in planned_drops(operator).await?.into_iter().filter(|planned| planned.is_due) {
        let result = drop_one_due(operator, &schedule, options, observer).await;
        done.push(DueDrop { schedule, result });
    }
    Ok(done)
}

async fn drop_one_due(
    operator: &Operator,
    schedule: &DropSchedule,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Dropped> {
    let tenant = schedule.tenant.slug.clone();
    let doomed = look(operator, &tenant).await?;
    if doomed.id() != schedule.tenant.id || doomed.facts.drop_after() != Some(schedule.after) {
        return Err(Error::Tenant(TenantError::Changed { tenant }));
    }
    if doomed.tenant.status != TenantStatus::Suspended {
        let why = format!("its time has come, and its status is {}", doomed.tenant.status);
        return Err(Error::Tenant(TenantError::DropNotDue { tenant, why }));
    }
    Run::of(operator, options, doomed, Occasion::Due).drop(observer).await
}

/// Seconds since 1970 in the year 9999: what a date can be written with.
const AFTER_MAX: u64 = 253_402_300_799;

/// The server's clock, in seconds since 1970.
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

/// Whether the tenant is active; one that is neither active nor suspended, or has no schema, is refused.
fn requires_use(doomed: &Doomed) -> Result<bool> {
    doomed.facts.refuse_being_dropped()?;
    let (tenant, status) = (doomed.tenant.slug.clone(), doomed.tenant.status.clone());
    if status == TenantStatus::Onboarding {
        let missing = "it is still being created".into();
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
    /// Writes the plan and the status, unless another session changed the plan meanwhile.
    async fn plan(&self, planned: Option<PlannedDrop>, status: &str) -> Result<()> {
        let Doomed { tenant, facts, schema, .. } = &self.doomed;
        let comment = facts.schema_comment.as_deref();
        let mut sql = self.opening();
        sql.push_str(&binding::demand_comment_sql(schema, comment));
        sql.push_str(&registry::set_status_sql(tenant.id, &["active", "suspended"], status));
        sql.push_str(&self.as_owner());
        sql.push_str(&binding::plan_drop_sql(schema, tenant.id, comment, planned));
        match self.send(&sql).await? {
            Step::Done => Ok(()),
            Step::Stale(error) => Err(self.doing()(error)),
            Step::TooManyLocks => Err(self.changed()),
        }
    }

    /// The tenant as it is now, and when it is dropped.
    async fn now(&self) -> Result<(Tenant, Option<SystemTime>)> {
        let facts = registry::facts_of(self.operator, self.slug()).await?;
        let after = facts.drop_after();
        match facts.tenant {
            Some(tenant) if tenant.id == self.doomed.id() => Ok((tenant, after)),
            _ => Err(self.changed()),
        }
    }
}
