//! The workers: each takes the next tenant, on a connection of its own.
//!
//! A tenant that another session is at, or that a lock timeout undid, goes back to the queue and holds up nobody. All of it
//! happens in the caller's task, which only waits, so that a fleet costs the client one core at most.

use super::{
    backoff::Backoff,
    cancel::{cancellable, was_cancelled},
    connection::{WorkerConnection, workers},
    interrupt::Interrupt,
    queue::{Queue, Returned},
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

/// What is done to one tenant after another: an attempt, and what becomes of its outcome.
pub(crate) trait TenantWork {
    /// A tenant, and what is known of it.
    type Job;
    /// What an attempt did that did not fail.
    type Done;

    /// The tenant of a job.
    fn slug(job: &Self::Job) -> &TenantSlug;

    /// Tries once; `number` counts from 1. What it changes is committed whole or not at all, for it may be tried again. The
    /// second stage of the interrupt cancels its statement, and it is awaited to its end all the same.
    async fn attempt(&self, operator: &Operator, job: &mut Self::Job, number: u32) -> Result<Attempt<Self::Done>>;

    /// Whether a failed attempt is repeated at once although its error is none that passes by itself: because the next one
    /// goes about it in another way.
    async fn recovers(&self, operator: &Operator, job: &mut Self::Job, error: &Error) -> bool {
        let _ = (operator, job, error);
        false
    }

    /// Whether every other tenant would fail like this, so that no further one is begun.
    fn ends_run(&self, error: &Error) -> bool {
        ends_everything(error)
    }

    /// Takes the outcome of a tenant that is not tried again.
    async fn finish(&self, operator: &Operator, job: Self::Job, finished: Finished<Self::Done>);
}

/// How an attempt ended that did not fail.
pub(crate) enum Attempt<D> {
    /// The tenant is done.
    Done(D),
    /// Another session holds the tenant's lock: it comes again behind all others, and this counts as no attempt.
    Locked,
    /// Another session changed the tenant meanwhile: it comes again behind all others.
    Changed,
}

/// A tenant that is not tried again.
pub(crate) struct Finished<D> {
    pub(crate) result: Result<D>,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// Since it was first taken.
    pub(crate) elapsed: Duration,
}

/// The workers of one run. It may be given jobs more than once; the failures of all of them count together.
pub(crate) struct WorkerPool<'r> {
    operator: &'r Operator,
    interrupt: &'r Interrupt,
    wanted: Option<NonZeroUsize>,
    failures_max: Option<usize>,
    failures: AtomicUsize,
}

impl<'r> WorkerPool<'r> {
    /// As many workers as `wanted`, or as the fleet and the server suggest.
    pub(crate) fn new(operator: &'r Operator, interrupt: &'r Interrupt, wanted: Option<NonZeroUsize>) -> Self {
        Self { operator, interrupt, wanted, failures_max: None, failures: AtomicUsize::new(0) }
    }

    /// Begins no further tenant once so many have failed, of which `failed` have already.
    pub(crate) fn failures_max(mut self, max: Option<usize>, failed: usize) -> Self {
        self.failures_max = max;
        self.failures = AtomicUsize::new(failed);
        self
    }

    /// Works until every job is finished or something ends the run early, and says what that was.
    ///
    /// Dropped, what is under way may still be committed by the server.
    pub(crate) async fn work<W: TenantWork>(&self, work: &W, jobs: Vec<W::Job>) -> Option<Stop> {
        let count = workers(self.operator, self.wanted, jobs.len()).await;
        self.work_on(work, jobs, count).await
    }

    /// As [`work`](Self::work), one tenant at a time.
    pub(crate) async fn work_one_by_one<W: TenantWork>(&self, work: &W, jobs: Vec<W::Job>) -> Option<Stop> {
        self.work_on(work, jobs, 1).await
    }

    async fn work_on<W: TenantWork>(&self, work: &W, jobs: Vec<W::Job>, workers: usize) -> Option<Stop> {
        if jobs.is_empty() {
            return None;
        }
        let queue = Queue::new(jobs.into_iter().map(Turn::new).collect(), self.interrupt);
        let run = Run { pool: self, work, queue, stopped: Mutex::new(None) };
        let mut pool: FuturesUnordered<_> = (0..workers).map(|number| run.worker(number)).collect();
        while pool.next().await.is_some() {}
        let left = run.queue.left();
        let reason = run.stopped().or((left > 0).then_some(StopReason::Interrupted));
        reason.map(|reason| Stop { reason, left })
    }
}

/// A tenant's turn in the queue.
struct Turn<J> {
    job: J,
    backoff: Backoff,
    attempts: u32,
    /// When it was first taken.
    began: Option<Instant>,
}

impl<J> Turn<J> {
    fn new(job: J) -> Self {
        Self { job, backoff: Backoff::new(), attempts: 0, began: None }
    }
}

/// One call of [`WorkerPool::work`].
struct Run<'r, W: TenantWork> {
    pool: &'r WorkerPool<'r>,
    work: &'r W,
    queue: Queue<'r, Turn<W::Job>>,
    stopped: Mutex<Option<StopReason>>,
}

impl<W: TenantWork> Run<'_, W> {
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

    /// Tries a tenant once; gives it back when it is to be tried again, and when.
    async fn turn(&self, operator: &Operator, mut turn: Turn<W::Job>) -> Returned<Turn<W::Job>> {
        turn.began.get_or_insert_with(Instant::now);
        turn.attempts += 1;
        let interrupt = self.pool.interrupt;
        let attempt = self.work.attempt(operator, &mut turn.job, turn.attempts);
        match cancellable(operator, interrupt, attempt).await {
            Ok(Attempt::Done(done)) => self.finish(operator, turn, Ok(done)).await,
            Ok(Attempt::Locked) => {
                turn.attempts -= 1;
                Returned::Now(turn)
            }
            Ok(Attempt::Changed) => Returned::Now(turn),
            Err(error) if was_cancelled(interrupt, &error) => Returned::Now(turn),
            Err(error) => self.again_or_failed(operator, turn, error).await,
        }
    }

    async fn again_or_failed(
        &self,
        operator: &Operator,
        mut turn: Turn<W::Job>,
        error: Error,
    ) -> Returned<Turn<W::Job>> {
        let slug = W::slug(&turn.job);
        if turn.backoff.wants_to_be_alone(&error, &SchemaName::of_tenant(slug)) {
            tracing::info!(tenant = %slug, %error, "trying again, alone");
            return Returned::Alone(turn);
        }
        if let Some(pause) = turn.backoff.after(&error) {
            tracing::info!(tenant = %slug, %error, "trying again");
            return Returned::At(Instant::now() + pause, turn);
        }
        if self.work.recovers(operator, &mut turn.job, &error).await {
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
