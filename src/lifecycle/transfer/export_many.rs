//! Exports many tenants to a folder.

use super::{
    archive::Archive,
    export::{ExistingFile, ExportOptions, Exported, TransferObserver, export_to_file},
};
use crate::{
    db::Operator,
    error::{Error, Result, TenantError, TransferError},
    fleet::{
        interrupt::Interrupt,
        selection::{Scope, Selection},
        stop::Stop,
        worker::{Finished, JobOutcome, TenantWork, WorkerPool},
    },
    registry,
    slug::TenantSlug,
    tenant::OrganizationId,
};
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Options for an export of many tenants.
#[derive(Clone, Debug, Default)]
pub struct ExportManyOptions {
    jobs: Option<NonZeroUsize>,
    existing: ExistingFile,
    interrupt: Interrupt,
}

impl ExportManyOptions {
    /// Sets how many tenants are exported at once, with two connections each. Default: up to four, fewer for a small
    /// fleet or a server with few free connections.
    pub fn jobs(mut self, jobs: NonZeroUsize) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Sets what happens if the folder contains a complete export of the same tenant. With [`ExistingFile::Refuse`],
    /// the default, the tenant is skipped.
    pub fn existing(mut self, existing: ExistingFile) -> Self {
        self.existing = existing;
        self
    }

    /// Sets the value with which the run can be stopped early. At its first stage, exports in progress finish. At its
    /// second stage, they are cancelled.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }
}

/// The result of a successful attempt.
#[derive(Debug)]
pub enum ExportResult {
    /// The tenant was written to a new file.
    Exported(Box<Exported>),
    /// The tenant's file existed already. It is complete, and of the same organization.
    Skipped,
}

/// The result of one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExportOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// Its file.
    pub path: PathBuf,
    /// The result, or the error.
    pub result: Result<ExportResult>,
    /// The time since its first attempt.
    pub elapsed: Duration,
}

/// The results of all tenants.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExportReport {
    /// The tenants in the order in which they were finished.
    pub tenants: Vec<ExportOutcome>,
    /// Why the run ended early; `None` if it did not.
    pub stopped: Option<Stop>,
}

impl ExportReport {
    /// Returns the tenants that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&TenantSlug, &Error)> {
        self.tenants.iter().filter_map(|tenant| Some((&tenant.slug, tenant.result.as_ref().err()?)))
    }
}

/// Receives the result of each tenant when it is known.
pub trait ExportObserver: Send {
    /// Called with the number of selected tenants.
    fn selected(&mut self, tenants: usize) {
        let _ = tenants;
    }

    /// Called when a tenant has succeeded or failed.
    fn tenant(&mut self, outcome: &ExportOutcome) {
        let _ = outcome;
    }
}

/// Ignores every event.
impl ExportObserver for crate::migrate::Silent {}

/// Exports the selected tenants, each to a file `<slug>.cgk` in a folder, which must exist. Each file has its own
/// snapshot. A file that is a complete export of the same organization is not written again, so a run continues the
/// previous one. A damaged file is replaced. A file that is not an export is an error of its tenant. A tenant that
/// fails does not stop the others.
///
/// Locks, errors and cancel safety are those of [`export_to_file`], per tenant. With `Scope::Tenants`, tenants that are
/// still being created fail.
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kind `NotFound`: a selected tenant is not in the registry.
///
/// An error in one tenant is in its outcome.
pub async fn export_many(
    operator: &Operator,
    selection: &Selection,
    folder: &Path,
    options: &ExportManyOptions,
    observer: &mut dyn ExportObserver,
) -> Result<ExportReport> {
    registry::require(operator).await?;
    options.interrupt.listen();
    let jobs = selected(operator, selection).await?;
    observer.selected(jobs.len());
    let work = Work { folder, options, sink: Mutex::new(ExportSink { observer, tenants: Vec::new() }) };
    let stopped = WorkerPool::new(operator, &options.interrupt, options.jobs).work(&work, jobs).await;
    let tenants = work.sink.into_inner().unwrap_or_else(PoisonError::into_inner).tenants;
    Ok(ExportReport { tenants, stopped })
}

async fn selected(operator: &Operator, selection: &Selection) -> Result<Vec<ExportJob>> {
    let facts = match &selection.scope {
        Scope::Only(slugs) => registry::facts_of_all(operator, slugs).await?,
        Scope::Public => return Ok(Vec::new()),
        _ => registry::facts_of_fleet(operator).await?,
    };
    let mut jobs = Vec::with_capacity(facts.tenants.len());
    for (slug, facts) in facts.tenants {
        let Some(tenant) = facts.tenant else { return Err(Error::Tenant(TenantError::NotFound { tenant: slug })) };
        if selection.takes(&slug) {
            jobs.push(ExportJob { slug, organization: tenant.id });
        }
    }
    Ok(jobs)
}

struct ExportJob {
    slug: TenantSlug,
    organization: OrganizationId,
}

struct Work<'r> {
    folder: &'r Path,
    options: &'r ExportManyOptions,
    sink: Mutex<ExportSink<'r>>,
}

struct ExportSink<'r> {
    observer: &'r mut dyn ExportObserver,
    tenants: Vec<ExportOutcome>,
}

impl Work<'_> {
    fn path(&self, slug: &TenantSlug) -> PathBuf {
        self.folder.join(format!("{slug}.cgk"))
    }

    /// Whether the tenant's file is complete.
    async fn is_whole(&self, job: &ExportJob) -> Result<bool> {
        let path = self.path(&job.slug);
        if self.options.existing == ExistingFile::Replace || !path.exists() {
            return Ok(false);
        }
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Archive::open(&path)
        });
        let failed = |source| TransferError::File { doing: format!("read {}", path.display()), source };
        match opened.await.map_err(std::io::Error::other).map_err(failed)? {
            Ok(archive) if archive.organization() == job.organization => Ok(true),
            Ok(_) | Err(Error::Transfer(TransferError::NotAnExport)) => {
                Err(TransferError::FileExists { path: path.clone() }.into())
            }
            Err(Error::Transfer(TransferError::Damaged { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Ignores the progress of one export. The observer of the run receives complete tenants only.
struct Unheard;

impl TransferObserver for Unheard {}

impl TenantWork for Work<'_> {
    const OPERATION: &'static str = "export";
    type Job = ExportJob;
    type Done = ExportResult;

    fn slug(job: &ExportJob) -> &TenantSlug {
        &job.slug
    }

    async fn attempt(&self, operator: &Operator, job: &mut ExportJob, _: u32) -> Result<JobOutcome<ExportResult>> {
        if self.is_whole(job).await? {
            return Ok(JobOutcome::Done(ExportResult::Skipped));
        }
        let path = self.path(&job.slug);
        let options = ExportOptions::default().existing(ExistingFile::Replace);
        let mut unheard = Unheard;
        tokio::select! {
            biased;
            done = export_to_file(operator, &job.slug, &path, &options, &mut unheard) => {
                done.map(|exported| JobOutcome::Done(ExportResult::Exported(Box::new(exported))))
            }
            // The queue has stopped, and the tenant counts as not started.
            () = self.options.interrupt.cancelling() => Ok(JobOutcome::Changed),
        }
    }

    async fn finish(&self, _: &Operator, job: ExportJob, finished: Finished<ExportResult>) {
        let path = self.path(&job.slug);
        let outcome = ExportOutcome { path, slug: job.slug, result: finished.result, elapsed: finished.elapsed };
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        sink.observer.tenant(&outcome);
        sink.tenants.push(outcome);
    }
}
