//! A run over selected tenants: its selection, its connections, and its canaries.

use crate::{
    db::Operator,
    error::{Error, MigrationError, Result, TenantError},
    fleet::{
        connection,
        interrupt::Interrupt,
        selection::{Scope, Selection},
        stop::{Stop, StopReason},
        worker::{TenantWork, WorkerPool},
    },
    migrate::Canary,
    registry,
    slug::TenantSlug,
    tenancy::{Closed, Db},
    tenant::Tenant,
};
use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

/// How long to wait for transactions that were cancelled.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The options of a run over many tenants.
pub(in crate::lifecycle) struct FleetRun<'r> {
    pub(in crate::lifecycle) operator: &'r Operator,
    pub(in crate::lifecycle) interrupt: &'r Interrupt,
    pub(in crate::lifecycle) jobs: Option<NonZeroUsize>,
    pub(in crate::lifecycle) canary: &'r Canary,
    pub(in crate::lifecycle) failures_max: Option<NonZeroUsize>,
}

impl FleetRun<'_> {
    /// Returns the selected tenants, sorted by slug. Refuses a tenant that is not in the registry, and a canary that is
    /// not selected.
    pub(in crate::lifecycle) async fn tenants(&self, selection: &Selection) -> Result<Vec<Tenant>> {
        registry::require(self.operator).await?;
        self.interrupt.listen();
        let tenants = selected(self.operator, selection).await?;
        check_canaries(&tenants, self.canary, self.operator).await?;
        Ok(tenants)
    }

    /// Connects a pool for this many tenants. Also returns the number of workers.
    pub(in crate::lifecycle) async fn connect(&self, tenants: usize) -> Result<(Db, usize)> {
        let workers = connection::workers(self.operator, self.jobs, tenants).await.max(1);
        let db = Db::connect(&self.operator.config().clone().with_pool_size_max(workers)).await?;
        Ok((db, workers))
    }

    /// Processes the canaries, and the other tenants if no canary failed. `failed` is the number of tenants that have
    /// failed so far.
    pub(in crate::lifecycle) async fn work<W: TenantWork>(
        &self,
        work: &W,
        jobs: Vec<W::Job>,
        workers: usize,
        failed: impl Fn() -> usize,
    ) -> Option<Stop> {
        let (canaries, rest) = self.canary.split(jobs, |job: &W::Job| W::slug(job));
        let pool = WorkerPool::new(self.operator, self.interrupt, NonZeroUsize::new(workers))
            .failures_max(self.failures_max.map(NonZeroUsize::get), 0);
        let mut stopped = pool.work(work, canaries).await;
        if stopped.is_none() && failed() > 0 {
            stopped = Some(Stop { reason: StopReason::Canary, left: 0 });
        }
        match stopped {
            Some(stop) => Some(Stop { left: stop.left + rest.len(), ..stop }),
            None => pool.work(work, rest).await,
        }
    }

    /// Closes the pool, and waits for transactions that were cancelled.
    pub(in crate::lifecycle) async fn close(&self, db: Db) {
        if let Closed::StillInUse(connections) = db.close(CLOSE_WAIT_MAX).await {
            tracing::warn!(connections, "cancelled transactions have not ended yet");
        }
    }
}

/// Returns the selected tenants of the registry, sorted by slug.
async fn selected(operator: &Operator, selection: &Selection) -> Result<Vec<Tenant>> {
    let facts = match &selection.scope {
        Scope::Only(slugs) => registry::facts_of_all(operator, slugs).await?,
        Scope::Public => return Ok(Vec::new()),
        _ => registry::facts_of_fleet(operator).await?,
    };
    let not_found = |tenant: &TenantSlug| Error::Tenant(TenantError::NotFound { tenant: tenant.clone() });
    for excluded in selection.exclude.iter().filter(|slug| !facts.tenants.contains_key(*slug)) {
        if registry::facts_of(operator, excluded).await?.tenant.is_none() {
            return Err(not_found(excluded));
        }
    }
    let mut tenants = Vec::with_capacity(facts.tenants.len());
    for (slug, facts) in facts.tenants {
        let tenant = facts.tenant.ok_or_else(|| not_found(&slug))?;
        if selection.takes(&slug) {
            tenants.push(tenant);
        }
    }
    Ok(tenants)
}

/// Refuses a canary that is not selected, for example a misspelled one.
async fn check_canaries(tenants: &[Tenant], canary: &Canary, operator: &Operator) -> Result<()> {
    let Canary::These(canaries) = canary else { return Ok(()) };
    let selected: BTreeSet<&TenantSlug> = tenants.iter().map(|tenant| &tenant.slug).collect();
    let Some(slug) = canaries.iter().find(|slug| !selected.contains(slug)) else { return Ok(()) };
    Err(match registry::facts_of(operator, slug).await?.tenant {
        Some(_) => Error::Migration(MigrationError::CanaryLeftOut { tenant: slug.clone() }),
        None => Error::Tenant(TenantError::NotFound { tenant: slug.clone() }),
    })
}
