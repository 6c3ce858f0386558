//! Does the jobs of all tenants.

use crate::{
    app::App,
    jobs::{
        queue::{self, Outcome, Policy, Taken},
        work,
    },
};
use cgk::{OrganizationId, TenantContext, TenantSlug};
use futures_util::{StreamExt as _, stream};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How many tenants are looked at at a time: each takes a connection of the pool.
const TENANTS_AT_A_TIME: usize = 4;
/// How many jobs of a tenant are done in a round, so that a busy tenant keeps nobody waiting.
const JOBS_A_ROUND: usize = 10;
const PURGE_INTERVAL: Duration = Duration::from_secs(3600);

/// Does the jobs of all tenants, round by round.
pub struct Worker {
    app: App,
    policy: Policy,
    /// The pause between two rounds in which nobody tells of a new job.
    pause: Duration,
}

impl Worker {
    pub fn new(app: App) -> Self {
        Self { app, policy: Policy::default(), pause: Duration::from_secs(1) }
    }

    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Works until `stop` is true. The jobs that are running then are finished.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut purged: Option<Instant> = None;
        while !*stop.borrow() {
            let purge = purged.is_none_or(|at| at.elapsed() >= PURGE_INTERVAL);
            match self.round(purge).await {
                Ok(_) if purge => purged = Some(Instant::now()),
                Ok(_) => {}
                Err(error) => tracing::warn!(error = %error.report(), "a round over the tenants failed"),
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = self.app.new_job.notified() => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }

    /// One round over all tenants that are active: how many jobs were begun.
    pub async fn round(&self, purge: bool) -> cgk::Result<usize> {
        let active = "select id, slug from organizations where status = 'active' order by id";
        let tenants: Vec<(OrganizationId, TenantSlug)> = self.app.db.platform().query_as(active, &[]).await?;
        let begun = stream::iter(tenants).map(|(id, slug)| async move {
            let context = TenantContext::new(id, slug.clone());
            context.scope(self.tenant(purge)).await.unwrap_or_else(|error| {
                // One tenant that is being suspended or dropped keeps nobody else waiting.
                tracing::warn!(tenant = %slug, error = %error.report(), "the jobs of a tenant could not be done");
                0
            })
        });
        Ok(begun.buffer_unordered(TENANTS_AT_A_TIME).fold(0, async |sum, begun| sum + begun).await)
    }

    /// Does what is due of the tenant of the context.
    async fn tenant(&self, purge: bool) -> cgk::Result<usize> {
        let tenant = self.app.db.current()?;
        if purge {
            let old = "delete from idempotency_keys where created_at < now() - interval '24 hours'";
            tenant.execute(old, &[]).await?;
        }
        for begun in 0..JOBS_A_ROUND {
            // Committed at once, so that the job takes no transaction for as long as it runs.
            let Some(taken) = tenant.transaction(async |tx| queue::take(tx, &self.policy).await).await? else {
                return Ok(begun);
            };
            self.attempt(&taken).await?;
        }
        // There may be more.
        self.app.new_job.notify_one();
        Ok(JOBS_A_ROUND)
    }

    async fn attempt(&self, taken: &Taken) -> cgk::Result<()> {
        let tenant = self.app.db.current()?;
        let job = &taken.job;
        let done = tokio::time::timeout(self.policy.lease, work::run(&self.app.db, job)).await;
        let done = done.unwrap_or_else(|_| Err(anyhow::anyhow!("it took longer than its lease")));
        let outcome = match &done {
            Ok(result) => tenant.transaction(async |tx| queue::succeeded(tx, taken, result).await).await?,
            Err(error) => {
                tracing::info!(job = %job.id, attempt = job.attempts, error = %error, "an attempt of a job failed");
                // What the database says is for the log.
                let text = match error.is::<cgk::Error>() {
                    true => "the database could not be asked".to_owned(),
                    false => error.to_string(),
                };
                tenant.transaction(async |tx| queue::failed(tx, taken, &self.policy, &text).await).await?
            }
        };
        if outcome == Outcome::Lost {
            tracing::warn!(job = %job.id, attempt = job.attempts, "a job was lost before it was done");
        }
        Ok(())
    }
}
