//! One attempt at one tenant.

use super::{SeedFile, SeedObserver, SeedOptions, SeedOutcome, SeedSet, Seeded};
use crate::{
    db::Operator,
    error::{Error, Result, TenantError},
    fleet::worker::{Finished, JobOutcome, TenantWork},
    lifecycle::exec::run_statement,
    registry::{self, Seeds},
    slug::TenantSlug,
    tenancy::{Db, TenantTx, TxOptions},
    tenant::Tenant,
};
use std::sync::{Mutex, MutexGuard};

/// A tenant, its recorded seeds, and the progress of the last attempt in it.
pub(super) struct SeedJob {
    tenant: Tenant,
    recorded: Seeds,
    /// The file and the statement that are running.
    at: Option<(String, usize)>,
}

impl SeedJob {
    pub(super) fn new(tenant: Tenant, recorded: Seeds) -> Self {
        Self { tenant, recorded, at: None }
    }
}

pub(super) struct TenantSeed<'r, 'o> {
    db: &'r Db,
    seeds: &'r SeedSet,
    options: &'r SeedOptions,
    sink: Mutex<SeedSink<'o>>,
}

struct SeedSink<'o> {
    observer: &'o mut dyn SeedObserver,
    outcomes: Vec<SeedOutcome>,
}

impl<'r, 'o> TenantSeed<'r, 'o> {
    pub(super) fn new(
        db: &'r Db,
        seeds: &'r SeedSet,
        options: &'r SeedOptions,
        observer: &'o mut dyn SeedObserver,
    ) -> Self {
        Self { db, seeds, options, sink: Mutex::new(SeedSink { observer, outcomes: Vec::new() }) }
    }

    pub(super) fn failed(&self) -> usize {
        self.sink().outcomes.iter().filter(|outcome| outcome.result.is_err()).count()
    }

    pub(super) fn into_outcomes(self) -> Vec<SeedOutcome> {
        self.sink.into_inner().expect("nothing panics while it is held").outcomes
    }

    fn sink(&self) -> MutexGuard<'_, SeedSink<'o>> {
        self.sink.lock().expect("nothing panics while it is held")
    }

    /// Returns the files to run, and the names of those that were changed and do not run.
    fn pending(&self, recorded: &Seeds) -> (Vec<&'r SeedFile>, Vec<String>) {
        let (mut pending, mut changed) = (Vec::new(), Vec::new());
        for file in self.seeds.files() {
            match recorded.get(file.name()) {
                None => pending.push(file),
                Some(_) if self.options.again.contains(file.name()) => pending.push(file),
                Some(sha256) if sha256 != file.checksum().as_str() => changed.push(file.name().to_owned()),
                Some(_) => {}
            }
        }
        (pending, changed)
    }

    /// Reads the state of a tenant again, because another session may have seeded or changed it.
    async fn look_again(&self, operator: &Operator, job: &mut SeedJob) -> Result<()> {
        let slug = job.tenant.slug.clone();
        let tenant = registry::facts_of(operator, &slug).await?.tenant;
        job.tenant = tenant.ok_or(Error::Tenant(TenantError::NotFound { tenant: slug }))?;
        let id = job.tenant.id;
        job.recorded = registry::seeds_of(operator, &[id]).await?.remove(&id).unwrap_or_default();
        Ok(())
    }

    /// Runs the files in order.
    async fn run(&self, tx: &mut TenantTx<'_>, files: &[&SeedFile], job: &mut SeedJob) -> Result<u64> {
        let mut affected = 0;
        for file in files {
            for (index, sql) in file.statements().iter().enumerate() {
                job.at = Some((file.name().to_owned(), index + 1));
                affected += run_statement(tx, index + 1, sql, |_| Ok(()), |_| {}).await?.affected;
            }
        }
        job.at = None;
        Ok(affected)
    }
}

impl TenantWork for TenantSeed<'_, '_> {
    const OPERATION: &'static str = "seed";
    type Job = SeedJob;
    type Done = Seeded;

    fn slug(job: &SeedJob) -> &TenantSlug {
        &job.tenant.slug
    }

    async fn attempt(&self, operator: &Operator, job: &mut SeedJob, number: u32) -> Result<JobOutcome<Seeded>> {
        job.at = None;
        if number > 1 {
            self.look_again(operator, job).await?;
        }
        let (pending, changed) = self.pending(&job.recorded);
        if pending.is_empty() {
            return Ok(JobOutcome::Done(Seeded { changed, ..Seeded::default() }));
        }
        let records: Vec<(&str, &str)> = pending.iter().map(|file| (file.name(), file.checksum().as_str())).collect();
        let record = registry::record_seeds_sql(job.tenant.id, &records, &self.options.again);
        let transaction = TxOptions::default().wait_for_entry().read_write().before_entry(record);
        let slug = job.tenant.slug.clone();
        let work = self.db.with_tenant_in(&slug, &transaction, async |tx| self.run(tx, &pending, job).await);
        tokio::select! {
            biased;
            affected = work => {
                let ran = pending.iter().map(|file| file.name().to_owned()).collect();
                Ok(JobOutcome::Done(Seeded { ran, changed, affected: affected? }))
            }
            // The future of the attempt is dropped, so its transaction is cancelled and rolled back. The queue has
            // stopped, and the tenant counts as not started.
            () = self.options.interrupt.cancelling() => Ok(JobOutcome::Changed),
        }
    }

    async fn finish(&self, _: &Operator, job: SeedJob, finished: Finished<Seeded>) {
        let Finished { result, elapsed, .. } = finished;
        let SeedJob { tenant, at, .. } = job;
        let failed_at = at.filter(|_| result.is_err());
        let outcome = SeedOutcome { slug: tenant.slug, result, failed_at, elapsed };
        let mut sink = self.sink();
        sink.observer.tenant(&outcome);
        sink.outcomes.push(outcome);
    }
}
