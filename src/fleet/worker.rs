//! The workers of a run. Each worker takes the next tenant and uses its own connection.
//!
//! If another session has locked a tenant, or a lock timeout rolled the tenant back, the tenant returns to the queue
//! and does not block other tenants. Everything runs in the caller's task, which mostly waits. A run therefore uses at
//! most one core of the client.

use super::{
    backoff::Backoff,
    cancel::{cancellable, was_cancelled},
    connection::{WorkerConnection, workers},
    interrupt::Interrupt,
    queue::{Queue, Returned},
    span,
    stop::{Stop, StopReason, ends_everything},
};
use crate::{
    db::Operator,
    error::{Error, Result},
    ident::SchemaName,
    slug::TenantSlug,
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::Instrument as _;

/// The work on each tenant: an attempt, and the handling of its result.
pub(crate) trait TenantWork {
    /// The name of the operation in spans. Each operation has a different one.
    const OPERATION: &'static str = "fleet";
    /// A tenant, with the known facts about it.
    type Job;
    /// The result of a successful attempt.
    type Done;

    /// Returns the tenant of a job.
    fn slug(job: &Self::Job) -> &TenantSlug;

    /// Makes one attempt. `number` starts at 1. Its changes must be committed completely or not at all, because it may
    /// be repeated. The second stage of the interrupt cancels its statement. The pool still waits until the attempt
    /// ends.
    async fn attempt(&self, operator: &Operator, job: &mut Self::Job, number: u32) -> Result<JobOutcome<Self::Done>>;

    /// Returns whether a failed attempt is repeated immediately although its error is not temporary, because the next
    /// attempt works in a different way.
    async fn recovers(&self, operator: &Operator, job: &mut Self::Job, error: &Error) -> bool {
        let _ = (operator, job, error);
        false
    }

    /// Returns whether a failed attempt may be repeated if its error is temporary. It may not if the caller already has
    /// a part of its result.
    fn may_repeat(&self, job: &Self::Job) -> bool {
        let _ = job;
        true
    }

    /// Returns whether every other tenant would fail in the same way, so that no further one is started.
    fn ends_run(&self, error: &Error) -> bool {
        ends_everything(error)
    }

    /// Receives the result of a tenant that is not tried again.
    async fn finish(&self, operator: &Operator, job: Self::Job, finished: Finished<Self::Done>);
}

/// The result of a successful attempt.
pub(crate) enum JobOutcome<D> {
    /// The tenant is finished.
    Done(D),
    /// Another session has the tenant's lock. The tenant is tried again after all others. This does not count as an
    /// attempt.
    Locked,
    /// Another session changed the tenant meanwhile. It is tried again after all others.
    Changed,
}

/// A tenant that is not tried again.
pub(crate) struct Finished<D> {
    pub(crate) result: Result<D>,
    /// The number of attempts.
    pub(crate) attempts: u32,
    /// The time since its first attempt.
    pub(crate) elapsed: Duration,
}

/// The workers of one run. `work` can be called several times, and the failures of all calls are added.
pub(crate) struct WorkerPool<'r> {
    operator: &'r Operator,
    interrupt: &'r Interrupt,
    wanted: Option<NonZeroUsize>,
    failures_max: Option<usize>,
    failures: AtomicUsize,
}

impl<'r> WorkerPool<'r> {
    /// Creates a pool of `wanted` workers. With `None`, the number of workers depends on the number of tenants and on
    /// the server's free connections.
    pub(crate) fn new(operator: &'r Operator, interrupt: &'r Interrupt, wanted: Option<NonZeroUsize>) -> Self {
        Self { operator, interrupt, wanted, failures_max: None, failures: AtomicUsize::new(0) }
    }

    /// Sets the number of failures after which no further tenant is started. `failed` of them have already happened.
    pub(crate) fn failures_max(mut self, max: Option<usize>, failed: usize) -> Self {
        self.failures_max = max;
        self.failures = AtomicUsize::new(failed);
        self
    }

    /// Works until every job is finished, or until something stops the run early. Returns the reason for an early stop.
    ///
    /// If the future is dropped, the server may still commit running work.
    pub(crate) async fn work<W: TenantWork>(&self, work: &W, jobs: Vec<W::Job>) -> Option<Stop> {
        let count = workers(self.operator, self.wanted, jobs.len()).await;
        self.work_on(work, jobs, count).await
    }

    /// Like [`work`](Self::work), but one tenant at a time.
    pub(crate) async fn work_one_by_one<W: TenantWork>(&self, work: &W, jobs: Vec<W::Job>) -> Option<Stop> {
        self.work_on(work, jobs, 1).await
    }

    async fn work_on<W: TenantWork>(&self, work: &W, jobs: Vec<W::Job>, workers: usize) -> Option<Stop> {
        if jobs.is_empty() {
            return None;
        }
        let queue = Queue::new(jobs.into_iter().map(Turn::new).collect(), self.interrupt);
        let run = WorkerRun { pool: self, work, queue, stopped: Mutex::new(None) };
        let mut pool: FuturesUnordered<_> = (0..workers).map(|number| run.worker(number)).collect();
        while pool.next().await.is_some() {}
        let left = run.queue.left();
        let reason = run.stopped().or((left > 0).then_some(StopReason::Interrupted));
        reason.map(|reason| Stop { reason, left })
    }
}

/// A tenant in the queue.
struct Turn<J> {
    job: J,
    backoff: Backoff,
    attempts: u32,
    /// The time at which its first attempt started.
    began: Option<Instant>,
}

impl<J> Turn<J> {
    fn new(job: J) -> Self {
        Self { job, backoff: Backoff::new(), attempts: 0, began: None }
    }
}

/// One call of [`WorkerPool::work`].
struct WorkerRun<'r, W: TenantWork> {
    pool: &'r WorkerPool<'r>,
    work: &'r W,
    queue: Queue<'r, Turn<W::Job>>,
    stopped: Mutex<Option<StopReason>>,
}

impl<W: TenantWork> WorkerRun<'_, W> {
    async fn worker(&self, number: usize) {
        let Some(connection) = WorkerConnection::open(self.pool.operator, number).await else { return };
        while let Some(turn) = self.queue.next().await {
            let returned = self.turn(&connection, turn).await;
            if self.stopped().is_some() {
                self.queue.stop();
            }
            self.queue.put(returned);
        }
    }

    /// Makes one attempt at a tenant. Returns it to the queue, with a time, if it must be tried again.
    async fn turn(&self, operator: &Operator, mut turn: Turn<W::Job>) -> Returned<Turn<W::Job>> {
        turn.began.get_or_insert_with(Instant::now);
        turn.attempts += 1;
        let span = span::of_tenant(W::OPERATION, W::slug(&turn.job), turn.attempts);
        let (returned, outcome) = self.attempt(operator, turn).instrument(span.clone()).await;
        span.record("outcome", outcome);
        returned
    }

    /// Makes the attempt. Returns the next step, and the outcome of the attempt for the span.
    async fn attempt(&self, operator: &Operator, mut turn: Turn<W::Job>) -> (Returned<Turn<W::Job>>, &'static str) {
        let interrupt = self.pool.interrupt;
        let attempt = self.work.attempt(operator, &mut turn.job, turn.attempts);
        match cancellable(operator, interrupt, attempt).await {
            Ok(JobOutcome::Done(done)) => (self.finish(operator, turn, Ok(done)).await, "done"),
            Ok(JobOutcome::Locked) => {
                turn.attempts -= 1;
                (Returned::Now(turn), "locked")
            }
            Ok(JobOutcome::Changed) => (Returned::Now(turn), "changed"),
            Err(error) if was_cancelled(interrupt, &error) => (Returned::Now(turn), "cancelled"),
            Err(error) => match self.again_or_failed(operator, turn, error).await {
                Returned::Done => (Returned::Done, "failed"),
                again => (again, "retried"),
            },
        }
    }

    async fn again_or_failed(
        &self,
        operator: &Operator,
        mut turn: Turn<W::Job>,
        error: Error,
    ) -> Returned<Turn<W::Job>> {
        if !self.work.may_repeat(&turn.job) {
            return self.finish(operator, turn, Err(error)).await;
        }
        let slug = W::slug(&turn.job);
        if turn.backoff.wants_to_be_alone(&error, &SchemaName::of_tenant(slug)) {
            tracing::info!(tenant = %slug, %error, "trying again, alone");
            return Returned::Alone(turn);
        }
        if let Some(pause) = turn.backoff.after(&error) {
            tracing::info!(tenant = %slug, %error, "trying again");
            return Returned::At(Instant::now() + pause, turn);
        }
        // After such an error the next attempt would fail in the same way, at once if the connection is lost.
        if !self.work.ends_run(&error) && self.work.recovers(operator, &mut turn.job, &error).await {
            return Returned::Now(turn);
        }
        self.finish(operator, turn, Err(error)).await
    }

    async fn finish(&self, operator: &Operator, turn: Turn<W::Job>, result: Result<W::Done>) -> Returned<Turn<W::Job>> {
        if let Err(error) = &result {
            let failures = self.pool.failures.fetch_add(1, Ordering::Relaxed) + 1;
            let spent = self.pool.failures_max.is_some_and(|max| failures >= max);
            let reason = match (self.work.ends_run(error), spent) {
                (true, _) => Some(StopReason::Unavailable),
                (_, true) => Some(StopReason::Failures),
                _ => None,
            };
            let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            *stopped = stopped.or(reason);
        }
        let elapsed = turn.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.work.finish(operator, turn.job, Finished { result, attempts: turn.attempts, elapsed }).await;
        Returned::Done
    }

    fn stopped(&self) -> Option<StopReason> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
