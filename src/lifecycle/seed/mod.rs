//! Runs seeds in tenants: SQL files that each tenant gets once.

mod files;
mod options;
mod work;

pub use files::{SeedFile, SeedSet};
pub use options::{SeedObserver, SeedOptions, SeedOutcome, SeedReport, Seeded};

use crate::{
    db::Operator,
    error::{Result, SeedError},
    fleet::selection::Selection,
    lifecycle::exec::FleetRun,
    registry,
};
use work::{SeedJob, TenantSeed};

/// In each selected tenant, runs the files that have not run in it, in the order of their names. They run as the
/// tenant's role (under path isolation as the operator), with the checks of [`with_tenant`](crate::Db::with_tenant).
/// Files that have run are recorded in the table `public.cgk_seeds`. It is created if it does not exist, and tenants
/// cannot read it. If a file was changed after it ran, it does not run again, unless [`SeedOptions::again`] names it.
/// The outcome lists it.
///
/// A tenant that fails does not stop the others. It is tried again after a conflict with other sessions. If two
/// sessions run at once, each file still runs once.
///
/// # Locks
///
/// Those of `with_tenant`, per tenant, and those of the statements, until the end of the tenant's transaction.
///
/// # Committed when
///
/// One tenant at a time: its rows and the records of its files together, completely or not at all.
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kind `NotFound`: a selected or excluded tenant or a canary is not in the registry.
/// - Kind `Invalid`: a canary is not one of the selected tenants, or no file has a name of [`SeedOptions::again`].
///
/// After these errors, no file was run. An error in one tenant is in its outcome.
///
/// # Cancel safety
///
/// If the future is dropped, transactions in progress roll back, except those whose COMMIT was sent. To stop with a
/// report, use an [`Interrupt`](crate::migrate::Interrupt).
pub async fn seed(
    operator: &Operator,
    seeds: &SeedSet,
    selection: &Selection,
    options: &SeedOptions,
    observer: &mut dyn SeedObserver,
) -> Result<SeedReport> {
    if let Some(name) = options.again.iter().find(|name| !seeds.files().iter().any(|file| file.name() == name.as_str()))
    {
        return Err(SeedError::Unknown { name: name.clone() }.into());
    }
    let (canary, failures_max, jobs) = (&options.canary, options.failures_max, options.jobs);
    let run = FleetRun { operator, interrupt: &options.interrupt, jobs, canary, failures_max };
    let tenants = run.tenants(selection).await?;
    registry::create_seeds(operator).await?;
    let ids: Vec<_> = tenants.iter().map(|tenant| tenant.id).collect();
    let mut recorded = registry::seeds_of(operator, &ids).await?;
    let (db, workers) = run.connect(tenants.len()).await?;
    let work = TenantSeed::new(&db, seeds, options, observer);
    let jobs = tenants.into_iter().map(|tenant| {
        let recorded = recorded.remove(&tenant.id).unwrap_or_default();
        SeedJob::new(tenant, recorded)
    });
    let stopped = run.work(&work, jobs.collect(), workers, || work.failed()).await;
    let tenants = work.into_outcomes();
    run.close(db).await;
    Ok(SeedReport { tenants, stopped })
}
