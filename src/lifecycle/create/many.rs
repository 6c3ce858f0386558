//! Creates many tenants at once, in parallel. An interrupted creation continues where it stopped.

use super::{CreateOptions, Creation, Fresh, Replay, TRIES_MAX, check_privileges, enter, require_ready, try_once};
use crate::{
    access::login,
    db::Operator,
    error::{Error, ErrorKind, MigrationError, MissingPart, Result, TenantError},
    fleet::{
        interrupt::Interrupt,
        stop::{Stop, ends_everything},
        worker::{Finished, JobOutcome, TenantWork, WorkerPool},
    },
    ident::SchemaName,
    identity,
    migrate::{
        Migrations, Set, Target, encodable,
        execute::grouping::Grouping,
        plan::{
            self,
            state::{self, SchemaState, TenantFilter},
        },
    },
    registry::{self, TenantFacts},
    slug::TenantSlug,
    tenancy::Db,
    tenant::TenantStatus,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Mutex,
    time::Duration,
};

/// A tenant to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTenant {
    /// Its slug.
    pub slug: TenantSlug,
    /// Its display name. Default: the slug.
    pub name: Option<String>,
}

impl From<TenantSlug> for NewTenant {
    fn from(slug: TenantSlug) -> Self {
        Self { slug, name: None }
    }
}

/// Options for the creation of many tenants.
#[derive(Clone, Debug, Default)]
pub struct CreateManyOptions {
    jobs: Option<NonZeroUsize>,
    failures_max: Option<NonZeroUsize>,
    interrupt: Interrupt,
}

impl CreateManyOptions {
    /// Sets how many tenants are created at once, each on a separate connection. Default: up to four, fewer for a few
    /// tenants or if the server has few free connections.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Starts no further tenant after this many have failed. Default: no limit.
    pub fn failures_max(mut self, failures: NonZeroUsize) -> Self {
        self.failures_max = Some(failures);
        self
    }

    /// Sets the value with which the run can be stopped early.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }
}

/// The result of one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreateOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// The result, or the error. After an error, nothing of the tenant is created.
    pub result: Result<Creation>,
    /// The time it took.
    pub elapsed: Duration,
}

/// The results of all tenants.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CreateManyReport {
    /// The processed tenants, in the order in which they were finished.
    pub tenants: Vec<CreateOutcome>,
    /// Why the run ended early; `None` if it did not.
    pub stopped: Option<Stop>,
}

impl CreateManyReport {
    /// Returns how many tenants have this result.
    pub fn count(&self, creation: Creation) -> usize {
        self.tenants.iter().filter(|tenant| tenant.result.as_ref().is_ok_and(|made| *made == creation)).count()
    }

    /// Returns how many tenants failed.
    pub fn failed(&self) -> usize {
        self.tenants.iter().filter(|tenant| tenant.result.is_err()).count()
    }
}

/// Receives the result of each tenant when it is known.
pub trait CreateObserver: Send {
    /// Called when a tenant has succeeded or failed.
    fn tenant(&mut self, outcome: &CreateOutcome) {
        let _ = outcome;
    }
}

/// Ignores every event.
impl CreateObserver for crate::migrate::Silent {}

/// Creates many tenants, each as [`create`](super::create()) does: in a separate transaction with one round trip.
/// Tenants that are complete already are not changed, and need only one query for all of them. So a second call
/// continues where the first one stopped. A slug that is given twice is created once.
///
/// At the end, one query checks the schema, the role and the ledger of every created tenant, and the first and the last
/// of them are entered as a service would enter them. Entering each tenant would cost the server more than creating it,
/// because a login that is not a superuser computes all its memberships again after a role was created.
///
/// # Locks
///
/// Per tenant, until its transaction ends: its migration lock.
///
/// # Committed when
///
/// One tenant at a time, as by [`create`](super::create()).
///
/// # Errors
///
/// - Kind `NotReady`: the database is not set up.
/// - Kind `Denied`: the role may not create schemas or roles.
/// - Kind `Drift`: the files differ from those of the fleet.
///
/// An error in one tenant is in its outcome.
///
/// # Cancel safety
///
/// If the future is dropped, the server may still create the tenants in progress. Call it again to find out. To stop
/// with a report, use an [`Interrupt`].
pub async fn create_many(
    operator: &Operator,
    db: &Db,
    migrations: &Migrations,
    tenants: &[NewTenant],
    options: &CreateManyOptions,
    observer: &mut dyn CreateObserver,
) -> Result<CreateManyReport> {
    require_ready(operator, migrations).await?;
    encodable::check_all(operator, migrations).await?;
    options.interrupt.listen();
    let jobs = jobs(operator, tenants).await?;
    if let Some(job) = jobs.first() {
        check_privileges(operator, &job.facts, operator.config().isolation() == crate::config::Isolation::Role)?;
    }
    let fresh = plan::plan(migrations.set(Set::Tenant), &SchemaName::public(), Vec::new(), Target::Head)
        .map_err(MigrationError::Diverged)?;
    let logins = match jobs.first() {
        Some(job) => login::admitted(operator, &job.tenant.slug).await?,
        None => Vec::new(),
    };
    let fresh = Fresh { plan: fresh, logins };
    let replay = Replay::of(operator, migrations).await?;
    let sink = Mutex::new(CreationSink { observer, report: CreateManyReport::default() });
    let work = TenantCreator { migrations, fresh, replay, sink };
    let pool = WorkerPool::new(operator, &options.interrupt, options.jobs)
        .failures_max(options.failures_max.map(NonZeroUsize::get), 0);
    let stopped = pool.work(&work, jobs).await;
    let TenantCreator { replay, sink, .. } = work;
    let mut report = sink.into_inner().expect("nothing panics while it is held").report;
    report.stopped = stopped;
    if report.tenants.iter().any(is_made) {
        replay.record(operator, migrations).await;
    }
    let (report, active) = verified(operator, migrations, report).await?;
    enter_some(db, &active).await?;
    Ok(report)
}

struct CreateJob {
    tenant: NewTenant,
    facts: TenantFacts,
    /// How the last attempt grouped its files.
    grouping: Grouping,
}

/// Returns the known facts about each tenant, from one query, in the given order.
async fn jobs(operator: &Operator, tenants: &[NewTenant]) -> Result<Vec<CreateJob>> {
    let slugs: Vec<TenantSlug> = tenants.iter().map(|tenant| tenant.slug.clone()).collect();
    let mut facts: BTreeMap<TenantSlug, TenantFacts> = registry::facts_of_all(operator, &slugs).await?.tenants;
    let job = |tenant: &NewTenant| {
        let facts = facts.remove(&tenant.slug)?;
        Some(CreateJob { tenant: tenant.clone(), facts, grouping: Grouping::Batch })
    };
    Ok(tenants.iter().filter_map(job).collect())
}

struct CreationSink<'o> {
    observer: &'o mut dyn CreateObserver,
    report: CreateManyReport,
}

struct TenantCreator<'r, 'o> {
    migrations: &'r Migrations,
    fresh: Fresh<'r>,
    replay: Replay,
    sink: Mutex<CreationSink<'o>>,
}

impl TenantWork for TenantCreator<'_, '_> {
    const OPERATION: &'static str = "create";
    type Job = CreateJob;
    type Done = Creation;

    fn slug(job: &CreateJob) -> &TenantSlug {
        &job.tenant.slug
    }

    async fn attempt(&self, operator: &Operator, job: &mut CreateJob, number: u32) -> Result<JobOutcome<Creation>> {
        let slug = &job.tenant.slug;
        job.grouping = self.replay.grouping();
        if number > 1 {
            identity::isolation::refuse_changed(operator).await?;
            job.facts = registry::facts_of(operator, slug).await?;
        }
        let options = CreateOptions { name: job.tenant.name.clone(), ..CreateOptions::default() };
        let fresh = Some(&self.fresh);
        match try_once(operator, self.migrations, slug, &options, &job.facts, fresh, &self.replay).await? {
            Some(made) => Ok(JobOutcome::Done(made.creation)),
            None if number < TRIES_MAX => Ok(JobOutcome::Changed),
            None => {
                let schema = SchemaName::of_tenant(slug);
                Err(Error::Migration(MigrationError::Contended { schema, tries: TRIES_MAX }))
            }
        }
    }

    /// Whether the set can only be applied file by file. Another tenant may have found that out meanwhile.
    async fn recovers(&self, operator: &Operator, job: &mut CreateJob, error: &Error) -> bool {
        job.grouping != self.replay.grouping() || self.replay.helps(operator, self.migrations, error).await
    }

    fn ends_run(&self, error: &Error) -> bool {
        ends_everything(error) || error.kind() == ErrorKind::Denied
    }

    async fn finish(&self, _: &Operator, job: CreateJob, finished: Finished<Creation>) {
        let Finished { result, elapsed, .. } = finished;
        let outcome = CreateOutcome { slug: job.tenant.slug, result, elapsed };
        let mut sink = self.sink.lock().expect("nothing panics while it is held");
        sink.observer.tenant(&outcome);
        sink.report.tenants.push(outcome);
    }
}

/// Checks the created tenants in one query: a tenant that is not complete has failed. Returns those that can also be
/// entered. A suspended tenant that was completed cannot.
async fn verified(
    operator: &Operator,
    migrations: &Migrations,
    mut report: CreateManyReport,
) -> Result<(CreateManyReport, BTreeSet<TenantSlug>)> {
    let mut active = BTreeSet::new();
    let mut made: BTreeSet<TenantSlug> =
        report.tenants.iter().filter(|tenant| is_made(tenant)).map(|tenant| tenant.slug.clone()).collect();
    if made.is_empty() {
        return Ok((report, active));
    }
    let slugs: Vec<TenantSlug> = made.iter().cloned().collect();
    let mut broken: BTreeMap<TenantSlug, Error> = BTreeMap::new();
    // The slugs of created tenants are valid.
    let mut strange = Vec::new();
    state::each_tenant(operator, migrations, TenantFilter::Made(&slugs), &mut strange, |tenant| {
        let (slug, status) = (tenant.tenant.slug, tenant.tenant.status);
        made.remove(&slug);
        let error = match tenant.state {
            SchemaState::AtHead => {
                if status == TenantStatus::Active {
                    active.insert(slug);
                }
                return;
            }
            SchemaState::HalfProvisioned { missing } => missing.error(slug.clone(), status),
            SchemaState::Missing => {
                MissingPart::Schema { schema: SchemaName::of_tenant(&slug) }.error(slug.clone(), status)
            }
            SchemaState::BeingDropped => Error::Tenant(TenantError::BeingDropped { tenant: slug.clone() }),
            SchemaState::Behind { pending } => MissingPart::Migrations { pending }.error(slug.clone(), status),
            SchemaState::Diverged(divergence) => Error::Migration(MigrationError::Diverged(divergence)),
            SchemaState::OtherOrganization { found } => {
                let (schema, expected) = (SchemaName::of_tenant(&slug), tenant.tenant.id);
                Error::Tenant(TenantError::OrganizationMismatch { tenant: slug.clone(), schema, expected, found })
            }
        };
        broken.insert(slug, error);
    })
    .await?;
    broken.extend(made.into_iter().map(|slug| {
        let error = MissingPart::RegistryRow.error(slug.clone(), TenantStatus::Active);
        (slug, error)
    }));
    for outcome in &mut report.tenants {
        if let Some(error) = broken.remove(&outcome.slug) {
            outcome.result = Err(error);
        }
    }
    Ok((report, active))
}

async fn enter_some(db: &Db, made: &BTreeSet<TenantSlug>) -> Result<()> {
    let mut made = made.iter();
    let (first, last) = (made.next(), made.next_back());
    for slug in first.into_iter().chain(last) {
        enter(db, slug).await?;
    }
    Ok(())
}

fn is_made(tenant: &CreateOutcome) -> bool {
    matches!(tenant.result, Ok(Creation::New | Creation::Finished))
}
