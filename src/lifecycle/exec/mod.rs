//! Runs SQL in many tenants, one transaction per tenant.

mod fleet_run;
mod options;
mod report;
mod script;
mod statement;
mod work;

pub use options::{ExecAccess, ExecOptions};
pub use report::{ExecColumn, ExecObserver, ExecOutcome, ExecReport, ExecRow, Executed};
pub use script::ExecScript;

pub(super) use fleet_run::FleetRun;
pub(super) use statement::run_statement;

use crate::{db::Operator, error::Result, fleet::selection::Selection};
use work::{ExecJob, TenantExec};

/// Runs SQL in the selected tenants, each in one transaction like that of [`Db::with_tenant`](crate::Db::with_tenant).
/// The SQL runs as the tenant's role, or under path isolation as the operator. It is refused if it ends the transaction
/// or leaves the tenant. The observer receives rows while they arrive, so memory use does not depend on their number.
///
/// A tenant that fails does not stop the others. After a conflict with other sessions it is tried again, unless the
/// observer has already received rows of it. `Selection::from(Scope::Everything)` selects every tenant of the registry.
/// This includes suspended tenants: they are refused and count as failed, unless they are excluded.
///
/// # Locks
///
/// Those of `with_tenant`, per tenant, and those of the statements, until the end of the tenant's transaction.
///
/// # Committed when
///
/// One tenant at a time, completely or not at all.
///
/// # Errors
///
/// - Kind `NotReady`: there is no registry.
/// - Kind `NotFound`: a selected or excluded tenant or a canary is not in the registry.
/// - Kind `Invalid`: a canary is not one of the selected tenants.
/// - Kinds `Denied` and `Unavailable`: with [`ExecAccess::Write`], if the operator's sessions are read-only, or the
///   server is a standby.
///
/// After these errors, no SQL was run. An error in one tenant is in its outcome.
///
/// # Cancel safety
///
/// If the future is dropped, transactions in progress roll back, except those whose COMMIT was sent. To stop with a
/// report, use an [`Interrupt`](crate::migrate::Interrupt).
pub async fn exec(
    operator: &Operator,
    script: &ExecScript,
    selection: &Selection,
    options: &ExecOptions,
    observer: &mut dyn ExecObserver,
) -> Result<ExecReport> {
    if options.access == ExecAccess::Write {
        operator.facts().require_writable()?;
    }
    let (canary, failures_max, jobs) = (&options.canary, options.failures_max, options.jobs);
    let run = FleetRun { operator, interrupt: &options.interrupt, jobs, canary, failures_max };
    let tenants = run.tenants(selection).await?;
    let (db, workers) = run.connect(tenants.len()).await?;
    let work = TenantExec::new(&db, script, options, observer);
    let jobs = tenants.into_iter().map(|tenant| ExecJob::new(tenant.slug)).collect();
    let stopped = run.work(&work, jobs, workers, || work.failed()).await;
    let tenants = work.into_outcomes();
    run.close(db).await;
    Ok(ExecReport { tenants, stopped })
}
