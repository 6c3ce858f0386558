//! The workers of a run: each takes the next tenant, on a connection of its own.
//!
//! A tenant that another run is at, or that a lock timeout undid, goes back to the queue and holds up nobody; all of it
//! happens in the caller's task, which only waits, so that a fleet costs the client one core at most.

use super::{
    apply::LockWait,
    attempt::{self, AttemptOutcome, Backoff, Task},
    run::{Outcome, ReportSink, RunOptions, SchemaOutcome, Stop, StopReason, ends_everything},
};
use crate::{
    db::Operator,
    error::{Error, MigrationError},
    fleet::queue::{Queue, Returned},
    ident::{Ident, SchemaName},
    migrate::{
        files::source::Migrations,
        fileset::{census::Census, record::FileRecord},
        ledger::Applied,
        plan::{Plan, state::role_of},
    },
    migration::Set,
    slug::TenantSlug,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    num::NonZeroUsize,
    ops::Deref,
    sync::{Mutex, MutexGuard},
    time::Instant,
};
use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;

/// How many tenants are migrated at once where nobody says otherwise. More gained nothing on the servers tried, and the
/// live traffic wants its share.
const JOBS_DEFAULT: usize = 4;
/// Tenants per worker below which another connection costs more than it saves.
const TENANTS_PER_WORKER_MIN: usize = 4;

/// How many workers there are to be for so many tenants; `wanted` is what somebody asked for.
pub(crate) async fn workers(operator: &Operator, wanted: Option<NonZeroUsize>, tenants: usize) -> usize {
    if let Some(wanted) = wanted {
        return wanted.get().min(tenants);
    }
    let wanted = JOBS_DEFAULT.min(tenants / TENANTS_PER_WORKER_MIN).max(1);
    if wanted == 1 {
        return 1;
    }
    // A quarter of what is free, so that services can still connect.
    let free = operator.free_connections().await.unwrap_or(0);
    wanted.min(free / 4).max(1)
}

/// A worker's connection: the first works on the operator's, each other on one of its own.
pub(crate) enum WorkerConnection<'o> {
    Operators(&'o Operator),
    Own(Box<Operator>),
}

impl<'o> WorkerConnection<'o> {
    /// Connects; `None` where the server has no connection left, and then there is one worker less.
    pub(crate) async fn open(operator: &'o Operator, number: usize) -> Option<Self> {
        if number == 0 {
            return Some(Self::Operators(operator));
        }
        match operator.sibling().await {
            Ok(own) => Some(Self::Own(Box::new(own))),
            Err(error) => {
                tracing::warn!(%error, "one worker less: no connection for it");
                None
            }
        }
    }
}

impl Deref for WorkerConnection<'_> {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        match self {
            Self::Operators(operator) => operator,
            Self::Own(operator) => operator,
        }
    }
}

/// A tenant's turn in the queue.
pub(crate) struct Job<'a> {
    pub(crate) slug: TenantSlug,
    plan: Plan<'a>,
    owner: Option<Ident>,
    turn: LockWait,
    backoff: Backoff,
    attempts: u32,
    /// When it was first taken.
    began: Option<Instant>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(slug: TenantSlug, plan: Plan<'a>, owner: Option<Ident>) -> Self {
        Self { slug, plan, owner, turn: LockWait::NoWait, backoff: Backoff::new(), attempts: 0, began: None }
    }
}

/// Who works, and for whom.
pub(crate) struct WorkerPool<'r, 'o> {
    pub(crate) operator: &'r Operator,
    pub(crate) migrations: &'r Migrations,
    pub(crate) options: &'r RunOptions,
    pub(crate) files: &'r FileRecord,
    /// What the ledgers held when the first migration failed, and how many tenants were done by then.
    pub(crate) census: OnceCell<(Census, usize)>,
    pub(crate) sink: &'r Mutex<&'r mut ReportSink<'o>>,
}

impl<'r, 'o> WorkerPool<'r, 'o> {
    /// Works until every job is done or something stops the run: first those that may stand side by side, then, one at a time,
    /// those with a file that runs without a transaction. CREATE INDEX CONCURRENTLY waits for every snapshot in the database
    /// that is older than it, so the other tenants' transactions would hold it up, and it them.
    pub(crate) async fn work(&self, jobs: Vec<Job<'_>>) {
        let (quiet, together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.plan.needs_quiet());
        let count = workers(self.operator, self.options.jobs, together.len()).await;
        self.work_beside(together, count).await;
        if let Some(stop) = &mut self.sink().report.stopped {
            stop.left += quiet.len();
            return;
        }
        self.work_beside(quiet, 1).await;
    }

    async fn work_beside(&self, jobs: Vec<Job<'_>>, workers: usize) {
        if jobs.is_empty() {
            return;
        }
        let queue = Queue::new(jobs, &self.options.interrupt);
        let recorder = self.sink().recorder;
        let work = async {
            let mut pool: FuturesUnordered<_> = (0..workers).map(|number| self.worker(number, &queue)).collect();
            while pool.next().await.is_some() {}
        };
        recorder.while_working(work).await;
        let left = queue.left();
        let interrupted = self.options.interrupt.is_stopping() && left > 0;
        let mut sink = self.sink();
        if sink.report.stopped.is_none() && interrupted {
            sink.report.stopped = Some(Stop { reason: StopReason::Interrupted, left: 0 });
        }
        if let Some(stop) = &mut sink.report.stopped {
            stop.left += left;
        }
    }

    async fn worker(&self, number: usize, queue: &Queue<'_, Job<'_>>) {
        let Some(connection) = WorkerConnection::open(self.operator, number).await else { return };
        while let Some(job) = queue.next().await {
            let returned = self.migrate(&connection, job).await;
            let stopped = self.sink().report.stopped.is_some();
            queue.put(returned);
            if stopped {
                queue.stop();
            }
        }
    }

    /// Tries a tenant once; gives the job back when it is to be tried again, and when.
    async fn migrate<'a>(&self, operator: &Operator, mut job: Job<'a>) -> Returned<Job<'a>> {
        let began = *job.began.get_or_insert_with(Instant::now);
        let mut task = Task {
            set: Set::Tenant,
            plan: job.plan.clone(),
            ledger: super::apply::LedgerPresence::Present,
            role: role_of(operator, &job.slug),
            owner: job.owner.clone(),
            exact: self.options.exact,
            files: Some(self.files),
        };
        job.attempts += 1;
        let interrupt = &self.options.interrupt;
        let tried = attempt::attempt(operator, self.migrations, &mut task, job.turn);
        let result = match attempt::cancellable(operator, interrupt, tried).await {
            Ok(AttemptOutcome::Done(applied)) => Outcome::Migrated { applied },
            Ok(AttemptOutcome::Locked) => {
                // All others first; by then the other run is done with it, most likely.
                job.turn = LockWait::Block;
                job.attempts -= 1;
                return Returned::Now(job);
            }
            Err(error) if interrupt.is_cancelling() && error.sqlstate() == Some(&SqlState::QUERY_CANCELED) => {
                return Returned::Now(job);
            }
            Err(error) if job.backoff.wants_to_be_alone(&error, &task.plan.schema) => {
                tracing::info!(tenant = %job.slug, %error, "trying again, alone");
                return Returned::Alone(job);
            }
            Err(error) => match job.backoff.after(&error) {
                Some(pause) => {
                    tracing::info!(tenant = %job.slug, %error, "trying again");
                    return Returned::At(Instant::now() + pause, job);
                }
                None => Outcome::Failed { error: self.counted(operator, error).await },
            },
        };
        let stop = match &result {
            Outcome::Failed { error } if ends_everything(error) => Some(StopReason::Unavailable),
            Outcome::Failed { .. } => Some(StopReason::Failures),
            _ => None,
        };
        let (schema, attempts) = (SchemaName::of_tenant(&job.slug), job.attempts);
        let outcome = SchemaOutcome { schema, slug: Some(job.slug), result, elapsed: began.elapsed(), attempts };
        let mut sink = self.sink();
        sink.settled(outcome, Some(&job.plan));
        let stop =
            stop.filter(|reason| *reason == StopReason::Unavailable || self.options.failures_are_spent(&sink.report));
        if let (None, Some(reason)) = (&sink.report.stopped, stop) {
            sink.report.stopped = Some(Stop { reason, left: 0 });
        }
        Returned::Done
    }

    /// An error that also says how many schemas already have the file. The ledgers are counted once a run; what the run
    /// did since is added.
    async fn counted(&self, operator: &Operator, mut error: Error) -> Error {
        let Error::Migration(MigrationError::Failed(failure)) = &mut error else { return error };
        let files = self.migrations.set(Set::Tenant).files();
        let Some(file) = files.iter().find(|file| file.path() == failure.file) else { return error };
        let counted = self.census.get_or_try_init(|| async {
            let census = Census::take(operator).await?;
            Ok::<_, Error>((census, self.sink().report.tenants.len()))
        });
        match counted.await {
            Ok((census, before)) => {
                let since = |outcome: &SchemaOutcome| match &outcome.result {
                    Outcome::Migrated { applied } => applied.contains(file.id()),
                    _ => false,
                };
                let since = self.sink().report.tenants.iter().skip(*before).filter(|outcome| since(outcome)).count();
                failure.schemas_with_file = Some(census.with(Set::Tenant, &Applied::of(file)) + since);
            }
            Err(error) => tracing::debug!(%error, "could not count the schemas that have the file"),
        }
        error
    }

    fn sink(&self) -> MutexGuard<'_, &'r mut ReportSink<'o>> {
        self.sink.lock().expect("nothing panics while it is held")
    }
}
