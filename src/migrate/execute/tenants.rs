//! The tenants of a run: one attempt at a tenant, and its report.

use super::{
    attempt::{self, MigrationAttempt, PlannedProgress, Task},
    blocking::{self, BlockingTransaction},
    options::RunOptions,
    report::{Outcome, SchemaOutcome},
    report_sink::ReportSink,
    unit::{LedgerPresence, LockWait},
};
use crate::{
    db::Operator,
    error::{Error, MigrationError, MigrationFailure, Result, TenantError},
    fleet::{
        span,
        stop::Stop,
        worker::{Finished, JobOutcome, TenantWork, WorkerPool},
    },
    ident::{Ident, SchemaName},
    migrate::{
        fileset::{census::Census, record::FileRecord},
        ledger::Applied,
        migrations::Migrations,
        plan::SchemaPlan,
    },
    migration::{MigrationId, Set},
    registry::{self, role_of},
    slug::TenantSlug,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;

/// The name of the operation, for the log.
pub(crate) const OPERATION: &str = "migrate";

/// A tenant with pending migrations.
pub(crate) struct TenantJob<'a> {
    pub(crate) slug: TenantSlug,
    plan: SchemaPlan<'a>,
    owner: Option<Ident>,
    progress: Option<PlannedProgress>,
    lock_wait: LockWait,
}

impl<'a> TenantJob<'a> {
    pub(crate) fn new(
        slug: TenantSlug,
        plan: SchemaPlan<'a>,
        owner: Option<Ident>,
        progress: Option<PlannedProgress>,
    ) -> Self {
        Self { slug, plan, owner, progress, lock_wait: LockWait::NoWait }
    }
}

/// Migrates tenants, and adds their results to the report.
pub(crate) struct TenantMigration<'a, 's, 'o> {
    migrations: &'a Migrations,
    options: &'s RunOptions,
    files: &'s FileRecord,
    /// The contents of the ledgers when the first migration failed, and the number of tenants that were finished by
    /// then.
    census: OnceCell<(Census, usize)>,
    sink: Mutex<&'s mut ReportSink<'o>>,
}

impl<'a, 's, 'o> TenantMigration<'a, 's, 'o> {
    pub(crate) fn new(
        migrations: &'a Migrations,
        options: &'s RunOptions,
        files: &'s FileRecord,
        sink: &'s mut ReportSink<'o>,
    ) -> Self {
        Self { migrations, options, files, census: OnceCell::new(), sink: Mutex::new(sink) }
    }

    /// Runs a step: the jobs of some of its tenants.
    pub(crate) async fn step(
        &self,
        name: &'static str,
        pool: &WorkerPool<'_>,
        jobs: Vec<TenantJob<'a>>,
    ) -> Option<Stop> {
        if jobs.is_empty() {
            return None;
        }
        span::recorded(span::of_step(OPERATION, name), self.work(pool, jobs), span::of_work).await
    }

    /// Works until every job is finished or the run is stopped. First it runs the jobs that can run in parallel, then,
    /// one at a time, those with a file that runs without a transaction. CREATE INDEX CONCURRENTLY waits for every
    /// older snapshot in the database, so it and the transactions of other tenants would block each other.
    async fn work(&self, pool: &WorkerPool<'_>, jobs: Vec<TenantJob<'a>>) -> Option<Stop> {
        let recorder = self.sink().recorder;
        let (quiet, concurrent): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.plan.needs_quiet());
        if let Some(mut stop) = recorder.while_working(pool.work(self, concurrent)).await {
            stop.left += quiet.len();
            return Some(stop);
        }
        recorder.while_working(pool.work_one_by_one(self, quiet)).await
    }

    /// Adds to an error how many schemas already have the file. The ledgers are counted once per run, and the progress
    /// of the run is added.
    async fn counted(&self, operator: &Operator, mut error: Error) -> Error {
        let Error::Migration(MigrationError::Failed(failure)) = &mut error else { return error };
        let counted = self.census.get_or_try_init(|| async {
            let census = Census::take(operator).await?;
            Ok::<_, Error>((census, self.sink().report.tenants.len()))
        });
        match counted.await {
            Ok((census, before)) => {
                let since = applied_since(&self.sink().report.tenants[*before..]);
                self.count(failure, census, &since);
            }
            Err(error) => tracing::debug!(%error, "could not count the schemas that have the file"),
        }
        error
    }

    /// Counts again for each failed tenant, when no tenant is being migrated: others got the file after it failed.
    pub(crate) fn count_again(&self) {
        let Some((census, before)) = self.census.get() else { return };
        let tenants = &mut self.sink().report.tenants;
        let since = applied_since(&tenants[*before..]);
        for outcome in tenants {
            if let Outcome::Failed { error: Error::Migration(MigrationError::Failed(failure)) } = &mut outcome.result {
                self.count(failure, census, &since);
            }
        }
    }

    fn count(&self, failure: &mut MigrationFailure, census: &Census, since: &BTreeMap<MigrationId, usize>) {
        let files = self.migrations.set(Set::Tenant).files();
        if let Some(file) = files.iter().find(|file| file.path() == failure.file) {
            let since = since.get(file.id()).copied().unwrap_or_default();
            failure.schemas_with_file = Some(census.with(Set::Tenant, &Applied::of(file)) + since);
        }
    }

    pub(crate) fn sink(&self) -> MutexGuard<'_, &'s mut ReportSink<'o>> {
        self.sink.lock().expect("nothing panics while it is held")
    }
}

/// Returns a clearer error for a tenant that was renamed or dropped after the run was planned.
async fn or_not_found(operator: &Operator, slug: &TenantSlug, error: Error) -> Error {
    let is_of_file = matches!(error, Error::Migration(MigrationError::Failed(_)));
    if is_of_file || error.sqlstate() != Some(&SqlState::UNDEFINED_TABLE) {
        return error;
    }
    match registry::facts_of(operator, slug).await {
        Ok(facts) if facts.tenant.is_none() => Error::Tenant(TenantError::NotFound { tenant: slug.clone() }),
        _ => error,
    }
}

/// Returns how many of the tenants got each file.
fn applied_since(tenants: &[SchemaOutcome]) -> BTreeMap<MigrationId, usize> {
    let mut counts = BTreeMap::new();
    for outcome in tenants {
        if let Outcome::Migrated { applied } = &outcome.result {
            applied.iter().for_each(|id| *counts.entry(id.clone()).or_default() += 1);
        }
    }
    counts
}

impl<'a> TenantWork for TenantMigration<'a, '_, '_> {
    const OPERATION: &'static str = OPERATION;
    type Job = TenantJob<'a>;
    type Done = Vec<MigrationId>;

    fn slug<'j>(job: &'j TenantJob<'a>) -> &'j TenantSlug {
        &job.slug
    }

    async fn attempt(
        &self,
        operator: &Operator,
        job: &mut TenantJob<'a>,
        _: u32,
    ) -> Result<JobOutcome<Vec<MigrationId>>> {
        let mut task = Task {
            set: Set::Tenant,
            plan: job.plan.clone(),
            ledger: LedgerPresence::Present,
            role: role_of(operator, &job.slug),
            owner: job.owner.clone(),
            exact: self.options.exact,
            progress: job.progress.take(),
            files: Some(self.files),
        };
        self.sink().observer.begun(&job.slug);
        let attempt = attempt::attempt(operator, self.migrations, &mut task, job.lock_wait);
        let outcome = match job.plan.needs_quiet() {
            true => {
                let report = |by: &BlockingTransaction| self.sink().observer.blocked(&job.plan.schema, by);
                blocking::watched(operator, &job.plan.schema, report, attempt).await
            }
            false => attempt.await,
        };
        job.progress = task.progress.take();
        if outcome.as_ref().is_err_and(|error| error.sqlstate() == Some(&SqlState::LOCK_NOT_AVAILABLE)) {
            self.sink().observer.waiting(&job.slug);
        }
        Ok(match outcome? {
            MigrationAttempt::Done(applied) => JobOutcome::Done(applied),
            MigrationAttempt::Locked => {
                self.sink().observer.waiting(&job.slug);
                // All other tenants are first. The other run has probably finished by then.
                job.lock_wait = LockWait::Block;
                JobOutcome::Locked
            }
        })
    }

    async fn finish(&self, operator: &Operator, job: TenantJob<'a>, finished: Finished<Vec<MigrationId>>) {
        let result = match finished.result {
            Ok(applied) => Outcome::Migrated { applied },
            Err(error) => {
                let error = or_not_found(operator, &job.slug, error).await;
                Outcome::Failed { error: self.counted(operator, error).await }
            }
        };
        let schema = SchemaName::of_tenant(&job.slug);
        let Finished { attempts, elapsed, .. } = finished;
        let outcome = SchemaOutcome { schema, slug: Some(job.slug), result, elapsed, attempts };
        self.sink().settled(outcome, Some(&job.plan));
    }
}
