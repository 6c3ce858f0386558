//! The workers of a run: each takes the next tenant, on a connection of its own.
//!
//! A tenant that another run is at, or that a lock timeout undid, goes back to the queue and holds up nobody; all of it
//! happens in the caller's task, which only waits, so that a fleet costs the client one core at most.

use super::{
    apply::Turn,
    interrupt::Interrupt,
    plan::Plan,
    run::{Desk, Outcome, RunOptions, SchemaOutcome, Stop, StopReason, ends_everything},
    settle::{self, Backoff, Settled, Task},
    source::Migrations,
    state::role_of,
};
use crate::{
    db::Operator,
    ident::{Ident, SchemaName},
    migration::Set,
    slug::TenantSlug,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Mutex, MutexGuard},
    time::Instant,
};
use tokio::sync::Notify;
use tokio_postgres::error::SqlState;

/// How many tenants are migrated at once where nobody says otherwise. More gained nothing on the servers tried, and the
/// live traffic wants its share.
const JOBS_DEFAULT: usize = 4;
/// Tenants per worker below which another connection costs more than it saves.
const TENANTS_PER_WORKER_MIN: usize = 4;

/// A tenant's turn in the queue.
pub(crate) struct Job<'a> {
    pub(crate) slug: TenantSlug,
    plan: Plan<'a>,
    owner: Option<Ident>,
    turn: Turn,
    backoff: Backoff,
    attempts: u32,
    /// When it was first taken.
    began: Option<Instant>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(slug: TenantSlug, plan: Plan<'a>, owner: Option<Ident>) -> Self {
        Self { slug, plan, owner, turn: Turn::Try, backoff: Backoff::new(), attempts: 0, began: None }
    }
}

/// Who works, and for whom.
pub(crate) struct Crew<'r, 'o> {
    pub(crate) operator: &'r Operator,
    pub(crate) migrations: &'r Migrations,
    pub(crate) options: &'r RunOptions,
    pub(crate) desk: &'r Mutex<Desk<'o>>,
}

impl<'o> Crew<'_, 'o> {
    /// Works until every job is done or something stops the run.
    pub(crate) async fn work(&self, jobs: Vec<Job<'_>>) {
        let workers = self.workers(jobs.len()).await;
        let queue = Queue::new(jobs, &self.options.interrupt);
        let recorder = self.desk().recorder;
        let work = async {
            let mut crew: FuturesUnordered<_> = (0..workers).map(|number| self.worker(number, &queue)).collect();
            while crew.next().await.is_some() {}
        };
        recorder.while_working(work).await;
        let left = queue.left();
        let interrupted = self.options.interrupt.is_stopping() && left > 0;
        let mut desk = self.desk();
        if desk.report.stopped.is_none() && interrupted {
            desk.report.stopped = Some(Stop { reason: StopReason::Interrupted, left: 0 });
        }
        if let Some(stop) = &mut desk.report.stopped {
            stop.left += left;
        }
    }

    /// How many workers there are to be.
    async fn workers(&self, jobs: usize) -> usize {
        if let Some(jobs_max) = self.options.jobs {
            return jobs_max.get().min(jobs);
        }
        let wanted = JOBS_DEFAULT.min(jobs / TENANTS_PER_WORKER_MIN).max(1);
        if wanted == 1 {
            return 1;
        }
        // A quarter of what is free, so that services can still connect.
        let free = self.operator.free_connections().await.unwrap_or(0);
        wanted.min(free / 4).max(1)
    }

    async fn worker(&self, number: usize, queue: &Queue<'_, '_>) {
        let own;
        let operator = if number == 0 {
            self.operator
        } else {
            match self.operator.sibling().await {
                Ok(sibling) => {
                    own = sibling;
                    &own
                }
                Err(error) => {
                    tracing::warn!(%error, "one worker less: no connection for it");
                    return;
                }
            }
        };
        while let Some(job) = queue.next().await {
            let returned = self.migrate(operator, job).await;
            let stopped = self.desk().report.stopped.is_some();
            queue.put(returned);
            if stopped {
                queue.stop();
            }
        }
    }

    /// Tries a tenant once; gives the job back when it is to be tried again, and when.
    async fn migrate<'a>(&self, operator: &Operator, mut job: Job<'a>) -> Returned<'a> {
        let began = *job.began.get_or_insert_with(Instant::now);
        let mut task = Task {
            set: Set::Tenant,
            plan: job.plan.clone(),
            ledger: super::apply::LedgerPresence::Present,
            role: role_of(operator, &job.slug),
            owner: job.owner.clone(),
            exact: self.options.exact,
        };
        job.attempts += 1;
        let interrupt = &self.options.interrupt;
        let tried = settle::attempt(operator, self.migrations, &mut task, job.turn);
        let result = match settle::cancellable(operator, interrupt, tried).await {
            Ok(Settled::Done(applied)) => Outcome::Migrated { applied },
            Ok(Settled::Busy) => {
                // All others first; by then the other run is done with it, most likely.
                job.turn = Turn::Wait;
                job.attempts -= 1;
                return Returned::Now(job);
            }
            Err(error) if interrupt.is_cancelling() && error.sqlstate() == Some(&SqlState::QUERY_CANCELED) => {
                return Returned::Now(job);
            }
            Err(error) => match job.backoff.after(&error) {
                Some(pause) => {
                    tracing::info!(tenant = %job.slug, %error, "trying again");
                    return Returned::At(Instant::now() + pause, job);
                }
                None => Outcome::Failed { error },
            },
        };
        let stop = match &result {
            Outcome::Failed { error } if ends_everything(error) => Some(StopReason::Unavailable),
            Outcome::Failed { .. } => Some(StopReason::Failures),
            _ => None,
        };
        let (schema, attempts) = (SchemaName::of_tenant(&job.slug), job.attempts);
        let outcome = SchemaOutcome { schema, slug: Some(job.slug), result, elapsed: began.elapsed(), attempts };
        let mut desk = self.desk();
        desk.settled(outcome, &job.plan);
        let spent = self.options.failures_are_spent(desk.report.failed());
        let stop = stop.filter(|reason| *reason == StopReason::Unavailable || spent);
        if let (None, Some(reason)) = (&desk.report.stopped, stop) {
            desk.report.stopped = Some(Stop { reason, left: 0 });
        }
        Returned::Done
    }

    fn desk(&self) -> MutexGuard<'_, Desk<'o>> {
        self.desk.lock().expect("nothing panics while it is held")
    }
}

/// What becomes of a job after a try.
enum Returned<'a> {
    Done,
    Now(Job<'a>),
    At(Instant, Job<'a>),
}

/// The jobs that wait for a worker.
struct Queue<'a, 'i> {
    waiting: Mutex<Waiting<'a>>,
    /// A job came back.
    changed: Notify,
    interrupt: &'i Interrupt,
}

struct Waiting<'a> {
    ready: VecDeque<Job<'a>>,
    /// Not before its time.
    later: Vec<(Instant, Job<'a>)>,
    /// With a worker just now, and may come back.
    out: usize,
    stopped: bool,
}

impl<'a, 'i> Queue<'a, 'i> {
    fn new(jobs: Vec<Job<'a>>, interrupt: &'i Interrupt) -> Self {
        let waiting = Waiting { ready: jobs.into(), later: Vec::new(), out: 0, stopped: false };
        Self { waiting: Mutex::new(waiting), changed: Notify::new(), interrupt }
    }

    /// The next job; `None` when there is none left or the run is to end.
    async fn next(&self) -> Option<Job<'a>> {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Before the look, so that what comes back meanwhile is noticed.
            changed.as_mut().enable();
            let next_due = {
                let mut waiting = self.waiting();
                if waiting.stopped || self.interrupt.is_stopping() {
                    return None;
                }
                if let Some(job) = waiting.take(Instant::now()) {
                    waiting.out += 1;
                    return Some(job);
                }
                if waiting.later.is_empty() && waiting.out == 0 {
                    return None;
                }
                waiting.later.iter().map(|(due, _)| *due).min()
            };
            let due = async {
                match next_due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = due => {}
                () = self.interrupt.stopping() => {}
            }
        }
    }

    fn put(&self, returned: Returned<'a>) {
        let mut waiting = self.waiting();
        waiting.out -= 1;
        match returned {
            Returned::Done => {}
            Returned::Now(job) => waiting.ready.push_back(job),
            Returned::At(due, job) => waiting.later.push((due, job)),
        }
        drop(waiting);
        self.changed.notify_waiters();
    }

    fn stop(&self) {
        self.waiting().stopped = true;
        self.changed.notify_waiters();
    }

    /// How many jobs were not done.
    fn left(&self) -> usize {
        let waiting = self.waiting();
        waiting.ready.len() + waiting.later.len()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<'a>> {
        self.waiting.lock().expect("nothing panics while it is held")
    }
}

impl<'a> Waiting<'a> {
    fn take(&mut self, now: Instant) -> Option<Job<'a>> {
        if let Some(index) = self.later.iter().position(|(due, _)| *due <= now) {
            return Some(self.later.swap_remove(index).1);
        }
        self.ready.pop_front()
    }
}
