//! Runs SQL in many tenants, one transaction per tenant.

mod options;
mod report;
mod script;
mod work;

pub use options::{ExecAccess, ExecOptions};
pub use report::{ExecColumn, ExecObserver, ExecOutcome, ExecReport, ExecRow, Executed};
pub use script::ExecScript;

use crate::{
    db::Operator,
    error::{Error, MigrationError, Result, TenantError},
    fleet::{
        connection,
        selection::{Scope, Selection},
        stop::{Stop, StopReason},
        worker::WorkerPool,
    },
    migrate::Canary,
    registry,
    slug::TenantSlug,
    tenancy::{Closed, Db},
};
use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};
use work::{Job, TenantExec};

/// How long to wait for transactions that were cancelled.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Runs SQL in the selected tenants, each in one transaction like that of [`Db::with_tenant`](crate::Db::with_tenant): as
/// the tenant's role (under path isolation as the operator), and refused if it ends the transaction or leaves the tenant.
/// Rows are passed to the observer while they arrive, so memory does not grow with their number.
///
/// A tenant that fails does not stop the others. It is tried again after a conflict with other sessions, unless the observer
/// has already received rows of it. `Selection::from(Scope::Everything)` selects every tenant of the registry, also those
/// that are suspended: they are refused and count as failed, unless they are excluded.
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
/// Kind `NotReady`: there is no registry. `NotFound`: a selected or excluded tenant or a canary is not in the registry.
/// `Invalid`: a canary is not one of the selected tenants. Nothing was run then. An error in one tenant is in its outcome.
///
/// # Cancel safety
///
/// If the future is dropped, transactions in progress roll back, except those whose COMMIT was sent. To stop with a report,
/// use an [`Interrupt`](crate::migrate::Interrupt).
pub async fn exec(
    operator: &Operator,
    script: &ExecScript,
    selection: &Selection,
    options: &ExecOptions,
    observer: &mut dyn ExecObserver,
) -> Result<ExecReport> {
    registry::require(operator).await?;
    options.interrupt.listen();
    let slugs = selected(operator, selection).await?;
    check_canaries(&slugs, &options.canary, operator).await?;
    let workers = connection::workers(operator, options.jobs, slugs.len()).await.max(1);
    let db = Db::connect(&operator.config().clone().with_pool_size_max(workers)).await?;
    let jobs = slugs.into_iter().map(Job::new).collect();
    let (canaries, rest) = options.canary.split(jobs, |job: &Job| &job.slug);
    let work = TenantExec::new(&db, script, options, observer);
    let pool = WorkerPool::new(operator, &options.interrupt, NonZeroUsize::new(workers))
        .failures_max(options.failures_max.map(NonZeroUsize::get), 0);
    let mut stopped = pool.work(&work, canaries).await;
    if stopped.is_none() && work.failed() > 0 {
        stopped = Some(Stop { reason: StopReason::Canary, left: 0 });
    }
    let stopped = match stopped {
        Some(stop) => Some(Stop { left: stop.left + rest.len(), ..stop }),
        None => pool.work(&work, rest).await,
    };
    let tenants = work.into_outcomes();
    if let Closed::StillInUse(connections) = db.close(CLOSE_WAIT_MAX).await {
        tracing::warn!(connections, "cancelled transactions have not ended yet");
    }
    Ok(ExecReport { tenants, stopped })
}

/// The tenants of the registry that are selected, by slug.
async fn selected(operator: &Operator, selection: &Selection) -> Result<Vec<TenantSlug>> {
    let facts = match &selection.scope {
        Scope::Only(slugs) => registry::facts_of_all(operator, slugs).await?,
        Scope::Public => return Ok(Vec::new()),
        _ => registry::facts_of_fleet(operator).await?,
    };
    let not_found = |tenant: &TenantSlug| Error::Tenant(TenantError::NotFound { tenant: tenant.clone() });
    if let Some((unknown, _)) = facts.tenants.iter().find(|(_, facts)| facts.tenant.is_none()) {
        return Err(not_found(unknown));
    }
    for excluded in selection.exclude.iter().filter(|slug| !facts.tenants.contains_key(*slug)) {
        if registry::facts_of(operator, excluded).await?.tenant.is_none() {
            return Err(not_found(excluded));
        }
    }
    Ok(facts.tenants.into_keys().filter(|slug| selection.takes(slug)).collect())
}

/// With a misspelled canary, all tenants would be first.
async fn check_canaries(slugs: &[TenantSlug], canary: &Canary, operator: &Operator) -> Result<()> {
    let Canary::These(canaries) = canary else { return Ok(()) };
    let selected: BTreeSet<&TenantSlug> = slugs.iter().collect();
    let Some(slug) = canaries.iter().find(|slug| !selected.contains(slug)) else { return Ok(()) };
    Err(match registry::facts_of(operator, slug).await?.tenant {
        Some(_) => Error::Migration(MigrationError::CanaryLeftOut { tenant: slug.clone() }),
        None => Error::Tenant(TenantError::NotFound { tenant: slug.clone() }),
    })
}
