//! Many tenants at once: a fleet is made at the server's speed, and a creation that was cut short goes on where it stopped.

use super::{CreateOptions, Creation, Fresh, Replay, TRIES_MAX, check_privileges, enter, require_ready, try_once};
use crate::{
    access::login,
    db::Operator,
    error::{Error, ErrorKind, MigrationError, Result, TenantError},
    fleet::{
        interrupt::Interrupt,
        stop::{Stop, ends_everything},
        worker::{Attempt, Finished, TenantWork, WorkerPool},
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

/// A tenant to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTenant {
    /// Its slug.
    pub slug: TenantSlug,
    /// Its name for people; the slug if there is none.
    pub name: Option<String>,
}

impl From<TenantSlug> for NewTenant {
    fn from(slug: TenantSlug) -> Self {
        Self { slug, name: None }
    }
}

/// How many tenants are made.
#[derive(Clone, Debug, Default)]
pub struct CreateManyOptions {
    jobs: Option<NonZeroUsize>,
    failures_max: Option<NonZeroUsize>,
    interrupt: Interrupt,
}

impl CreateManyOptions {
    /// How many are made at once, each on a connection of its own. Default: up to four, fewer for a few tenants or where the
    /// server is short of connections.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Begins no further tenant once this many have failed. Default: no limit.
    pub fn failures_max(mut self, failures: NonZeroUsize) -> Self {
        self.failures_max = Some(failures);
        self
    }

    /// Lets the work be asked to end early.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }
}

/// How one tenant fared.
#[derive(Debug)]
#[non_exhaustive]
pub struct CreateOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// What was done, or why it could not be; then nothing of it is left.
    pub result: Result<Creation>,
    /// How long it took.
    pub elapsed: Duration,
}

/// How all of them fared.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CreateManyReport {
    /// Each tenant that was come to, in the order in which they were done.
    pub tenants: Vec<CreateOutcome>,
    /// Why the work ended before it was done, if it did.
    pub stopped: Option<Stop>,
}

impl CreateManyReport {
    /// How many ended like this.
    pub fn count(&self, creation: Creation) -> usize {
        self.tenants.iter().filter(|tenant| tenant.result.as_ref().is_ok_and(|made| *made == creation)).count()
    }

    /// How many could not be made.
    pub fn failed(&self) -> usize {
        self.tenants.iter().filter(|tenant| tenant.result.is_err()).count()
    }
}

/// Told of each tenant as it is done.
pub trait CreateObserver: Send {
    /// One tenant is dealt with.
    fn tenant(&mut self, outcome: &CreateOutcome) {
        let _ = outcome;
    }
}

/// Hears nothing.
impl CreateObserver for crate::migrate::Silent {}

/// Makes many tenants, each as [`create`](super::create()) does: a transaction and a round trip of its own. Those that are whole already
/// are left alone and cost nothing but one query for all; so running it again goes on where it stopped. A slug that is given
/// twice is made once.
///
/// In the end one query looks at the schema, the role and the ledger of every tenant that was made, and the first and the last of
/// them are entered as a service would. Entering each one would cost the server more than making it: a login that is no
/// superuser works out all its memberships anew whenever a role was made meanwhile.
///
/// # Locks
///
/// Per tenant, to the end of its message: its migration lock.
///
/// # Errors
///
/// Kind `NotReady`: the database is not set up. `Denied`: the role may not create schemas or roles. `Drift`: the files are
/// not the fleet's. What is wrong with one
/// tenant is in its outcome.
///
/// # Cancel safety
///
/// Dropped, the tenants under way may still be made by the server; running again tells. To end it and know how it ended, use
/// an [`Interrupt`].
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

struct Job {
    tenant: NewTenant,
    facts: TenantFacts,
    /// How the last attempt put its files together.
    grouping: Grouping,
}

/// What is known of each of them, in one query; in the order given.
async fn jobs(operator: &Operator, tenants: &[NewTenant]) -> Result<Vec<Job>> {
    let slugs: Vec<TenantSlug> = tenants.iter().map(|tenant| tenant.slug.clone()).collect();
    let mut facts: BTreeMap<TenantSlug, TenantFacts> = registry::facts_of_all(operator, &slugs).await?.tenants;
    let job = |tenant: &NewTenant| {
        let facts = facts.remove(&tenant.slug)?;
        Some(Job { tenant: tenant.clone(), facts, grouping: Grouping::Together })
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
    type Job = Job;
    type Done = Creation;

    fn slug(job: &Job) -> &TenantSlug {
        &job.tenant.slug
    }

    async fn attempt(&self, operator: &Operator, job: &mut Job, number: u32) -> Result<Attempt<Creation>> {
        let slug = &job.tenant.slug;
        if number > 1 {
            identity::isolation::refuse_changed(operator).await?;
            job.facts = registry::facts_of(operator, slug).await?;
        }
        job.grouping = self.replay.grouping();
        let options = CreateOptions { name: job.tenant.name.clone(), ..CreateOptions::default() };
        let fresh = Some(&self.fresh);
        match try_once(operator, self.migrations, slug, &options, &job.facts, fresh, &self.replay).await? {
            Some(made) => Ok(Attempt::Done(made.creation)),
            None if number < TRIES_MAX => Ok(Attempt::Changed),
            None => {
                let schema = SchemaName::of_tenant(slug);
                Err(Error::Migration(MigrationError::Contended { schema, tries: TRIES_MAX }))
            }
        }
    }

    /// Whether the set applies file by file alone. Another tenant may have found that out meanwhile.
    async fn recovers(&self, operator: &Operator, job: &mut Job, error: &Error) -> bool {
        job.grouping != self.replay.grouping() || self.replay.helps(operator, self.migrations, error).await
    }

    fn ends_run(&self, error: &Error) -> bool {
        ends_everything(error) || error.kind() == ErrorKind::Denied
    }

    async fn finish(&self, _: &Operator, job: Job, finished: Finished<Creation>) {
        let Finished { result, elapsed, .. } = finished;
        let outcome = CreateOutcome { slug: job.tenant.slug, result, elapsed };
        let mut sink = self.sink.lock().expect("nothing panics while it is held");
        sink.observer.tenant(&outcome);
        sink.report.tenants.push(outcome);
    }
}

/// Looks at what was made, all of it in one query: a tenant that is not whole has failed. Returns those that can be entered
/// too: a suspended tenant that was finished cannot.
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
    let not_ready = |tenant: TenantSlug, status, missing: &str| {
        Error::Tenant(TenantError::NotReady { tenant, status, missing: format!("{missing} is missing") })
    };
    // Slugs that were made are readable.
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
            SchemaState::HalfProvisioned { missing } => not_ready(slug.clone(), status, &missing),
            SchemaState::Missing => not_ready(slug.clone(), status, "its schema"),
            SchemaState::BeingDropped => Error::Tenant(TenantError::BeingDropped { tenant: slug.clone() }),
            SchemaState::Behind { pending } => {
                not_ready(slug.clone(), status, &crate::migration::count(pending, "migration"))
            }
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
        let error = not_ready(slug.clone(), TenantStatus::Active, "its registry row");
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
