//! The relay: delivers the events of the outbox.

use super::{
    CloudEvent, EventId, EventSink, Outbox, SinkError,
    outbox::CHANNEL,
    queue::{self, Due},
    suspects,
};
use crate::{
    db::milliseconds,
    error::{ConnectionError, Error, ErrorKind},
    ident::Ident,
    platform::{Actor, AuditLog, PlatformError, Result},
    tenancy::Db,
};
use futures_util::FutureExt as _;
use std::{
    future::Future,
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

/// The pause after an error of the database.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// How often delivered events are deleted and the partitions of the audit log are created.
const KEEP_UP_INTERVAL: Duration = Duration::from_secs(60);

/// How events are delivered. A batch and a delivery last at most five days, and a pause at most ten years: a longer
/// time here counts as that.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RelayOptions {
    /// The attribute `source` of the CloudEvents. Default: `cgk`.
    pub source: String,
    /// The number of organizations that this relay delivers from at the same time. Each uses one connection of the
    /// pool. Default: 4.
    pub workers: NonZeroUsize,
    /// The maximum number of events of an organization in one batch. The delivery is committed after each batch. A
    /// relay that is killed may deliver up to this number of events of each organization twice. Default: 100.
    pub batch_max: u32,
    /// The maximum duration of a batch. After it the batch ends early. Default: 10 seconds.
    pub batch_time_max: Duration,
    /// The maximum duration of one delivery. Default: 15 seconds.
    pub delivery_time_max: Duration,
    /// The number of attempts before an event is marked as dead. Default: 20. With the default pauses, this takes about
    /// two hours.
    pub attempts_max: u32,
    /// The pause of an organization after the first failed attempt. Default: 1 second. It doubles with each failed
    /// attempt. Each pause is changed by a random amount of up to a half.
    pub pause_first: Duration,
    /// The maximum pause. Default: 10 minutes.
    pub pause_max: Duration,
    /// How often the outbox is checked if no notification arrives. Default: 5 seconds.
    pub poll_interval: Duration,
    /// How long delivered events are stored. `None`: without limit. Default: 7 days.
    pub keep_delivered: Option<Duration>,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            source: "cgk".into(),
            workers: NonZeroUsize::new(4).expect("four is not zero"),
            batch_max: 100,
            batch_time_max: Duration::from_secs(10),
            delivery_time_max: Duration::from_secs(15),
            attempts_max: 20,
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_secs(600),
            poll_interval: Duration::from_secs(5),
            keep_delivered: Some(Duration::from_secs(7 * 24 * 3600)),
        }
    }
}

/// The longest batch and the longest delivery. The server counts the time in a transaction in milliseconds of 32 bits.
const WORK_MAX: Duration = Duration::from_secs(5 * 24 * 3600);
/// The longest pause: ten years.
const PAUSE_MAX: Duration = Duration::from_secs(3653 * 24 * 3600);

impl RelayOptions {
    /// Shortens the times to those that the server and the clock can add.
    fn within_limits(mut self) -> Self {
        self.batch_time_max = self.batch_time_max.min(WORK_MAX);
        self.delivery_time_max = self.delivery_time_max.min(WORK_MAX);
        self.pause_first = self.pause_first.min(PAUSE_MAX);
        self.pause_max = self.pause_max.min(PAUSE_MAX);
        self.poll_interval = self.poll_interval.min(PAUSE_MAX);
        self
    }
}

/// The counts of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayReport {
    /// The number of delivered events.
    pub delivered: u64,
    /// The number of failed attempts that will be repeated.
    pub failed: u64,
    /// The number of events that were marked as dead.
    pub dead: u64,
}

/// Delivers the events of the outbox to a sink, at least once. The events of one organization are delivered one after
/// the other.
///
/// Any number of relays can run on one database. Only one of them delivers from an organization at a time: it has a
/// lock on the organization's row in `domain_event_queues`. If that relay dies, its connection closes and the lock
/// ends. Another relay then delivers again what was delivered but not yet committed. Nothing else is delivered twice
/// while the database answers.
///
/// The order is the order in which a relay first sees the events ([`CloudEvent::sequence`]). Events of one transaction
/// are in the order in which they were written. If one transaction began after another had committed, its events come
/// later. An event that cannot be delivered blocks its organization, and no other, until it is delivered or marked as
/// dead.
///
/// ```no_run
/// use cgk::platform::{CloudEvent, Relay, RelayOptions, callback};
///
/// # async fn example(db: cgk::Db) -> Result<(), cgk::platform::PlatformError> {
/// let sink = callback(|event: CloudEvent| async move {
///     println!("{}", event.r#type);
///     Ok(())
/// });
/// let relay = Relay::new(&db, sink, RelayOptions::default());
/// relay.run_until(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Relay<S> {
    inner: Arc<RelayInner<S>>,
}

#[derive(Debug)]
struct RelayInner<S> {
    db: Db<PlatformError>,
    sink: S,
    options: RelayOptions,
    counts: RelayCounts,
}

#[derive(Debug, Default)]
struct RelayCounts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
}

/// The state of a batch of one queue.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    delivered: u64,
    failed: u64,
    dead: u64,
}

impl<S: EventSink> Relay<S> {
    /// Creates a relay from this database to a sink.
    pub fn new<E>(db: &Db<E>, sink: S, options: RelayOptions) -> Self {
        let options = options.within_limits();
        Self { inner: Arc::new(RelayInner { db: db.errors(), sink, options, counts: RelayCounts::default() }) }
    }

    /// Delivers events until `stop` completes, then finishes the running deliveries. It waits for notifications
    /// (NOTIFY) on a connection outside the pool, and also checks every [`RelayOptions::poll_interval`]. While the
    /// database does not answer, it retries without limit.
    ///
    /// # Locks
    ///
    /// For each organization that it delivers from: the row in `domain_event_queues`, for the duration of a batch.
    /// Applications never wait for this lock.
    ///
    /// # Committed when
    ///
    /// The numbers of new events are committed before the events are delivered. The status "delivered" is committed
    /// after each batch.
    ///
    /// # Errors
    ///
    /// `TablesMissing`. `Database`: an error that a retry cannot fix, such as a missing right.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, events that were delivered but not yet committed are delivered again.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) -> Result<RelayReport> {
        let (stopping, stopped) = watch::channel(false);
        let (wake, woken) = watch::channel(());
        let mut tasks = JoinSet::new();
        for _ in 0..self.inner.options.workers.get() {
            let (inner, stopped, woken) = (Arc::clone(&self.inner), stopped.clone(), woken.clone());
            tasks.spawn(async move { inner.work(stopped, woken).await });
        }
        let mut helpers = JoinSet::new();
        helpers.spawn(listen(self.inner.db.clone(), wake));
        helpers.spawn(keep_up(self.inner.db.clone(), self.inner.options.keep_delivered));
        let mut stop = std::pin::pin!(stop);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                () = &mut stop, if !is_stopping => {
                    is_stopping = true;
                    let _ = stopping.send(true);
                }
                ended = tasks.join_next() => match ended {
                    None => return Ok(self.report()),
                    Some(Ok(outcome)) => outcome?,
                    Some(Err(error)) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => return Ok(self.report()),
                    },
                },
            }
        }
    }

    /// Does the same as [`run_until`](Self::run_until) until an [`Interrupt`](crate::migrate::Interrupt): `stop` ends
    /// it after the running deliveries, `cancel` ends it immediately.
    ///
    /// # Errors
    ///
    /// Same as [`run_until`](Self::run_until).
    ///
    /// # Cancel safety
    ///
    /// Same as [`run_until`](Self::run_until).
    #[cfg(feature = "migrate")]
    pub async fn run(&self, interrupt: &crate::migrate::Interrupt) -> Result<RelayReport> {
        interrupt.listen();
        tokio::select! {
            outcome = self.run_until(interrupt.stopping()) => outcome,
            () = interrupt.cancelling() => Ok(self.report()),
        }
    }

    /// Delivers the due events. Returns when no event is due, except those that another relay is delivering.
    ///
    /// # Locks
    ///
    /// Same as [`run_until`](Self::run_until).
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Same as [`run_until`](Self::run_until).
    pub async fn deliver_due(&self) -> Result<RelayReport> {
        let (_stopping, stopped) = watch::channel(false);
        while self.inner.pass(&stopped).await? {}
        Ok(self.report())
    }

    /// Returns the counts of this relay so far.
    pub fn report(&self) -> RelayReport {
        let counts = &self.inner.counts;
        RelayReport {
            delivered: counts.delivered.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            dead: counts.dead.load(Ordering::Relaxed),
        }
    }
}

impl<S: EventSink> RelayInner<S> {
    /// Runs one worker.
    async fn work(&self, mut stopped: watch::Receiver<bool>, mut woken: watch::Receiver<()>) -> Result<()> {
        while !*stopped.borrow() {
            // This comes before the check for due queues, so that what is written after the check is noticed.
            woken.mark_unchanged();
            let wait = match self.pass(&stopped).await {
                Ok(true) => continue,
                Ok(false) => self.wait().await,
                Err(error) => Err(error),
            };
            let wait = match wait {
                Ok(wait) => wait,
                Err(error) if can_pass(&error) => {
                    tracing::warn!(%error, "events cannot be delivered; trying again");
                    DATABASE_PAUSE
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                // If the listening task has ended, there are no notifications.
                changed = woken.changed() => if changed.is_err() { tokio::time::sleep(wait).await },
                () = tokio::time::sleep(wait) => {}
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {}
            }
        }
        Ok(())
    }

    async fn wait(&self) -> Result<Duration> {
        let due = queue::next_due(&self.db).await?.unwrap_or(Duration::MAX);
        // Wakes a little late. If it woke a little early, it would have to check again.
        Ok(due.saturating_add(Duration::from_millis(5)).min(self.options.poll_interval))
    }

    /// Delivers one batch of each due queue. The start is random, so that workers rarely want the same queue. Returns
    /// whether anything was delivered, tried or marked as dead.
    async fn pass(&self, stopped: &watch::Receiver<bool>) -> Result<bool> {
        let start = Uuid::from_u128(rand::random());
        let mut worked = false;
        for (from, end) in [(start, Uuid::max()), (Uuid::nil(), start)] {
            let mut next = Some(from);
            while let Some(from) = next {
                let due = queue::due(&self.db, from).await?;
                next = due.last().and_then(|last| last.queue.as_u128().checked_add(1)).map(Uuid::from_u128);
                for due in due {
                    if *stopped.borrow() {
                        return Ok(worked);
                    }
                    if due.queue > end {
                        next = None;
                        break;
                    }
                    worked |= self.batch(due, stopped).await?;
                }
            }
        }
        Ok(worked)
    }

    /// Delivers one batch of a queue. Returns false if another relay has the queue. A row that makes the statements
    /// fail does not block other queues: its event is marked as dead.
    async fn batch(&self, due: Due, stopped: &watch::Receiver<bool>) -> Result<bool> {
        let idle_max = milliseconds((self.options.batch_time_max + self.options.delivery_time_max) * 2);
        let batch = match self.try_batch(due, stopped, &idle_max).await {
            Err(error) if suspects::is_of_row(&error) => {
                let (numbered, pause) = (self.batch_max(), self.options.pause_max);
                let found = suspects::isolate(&self.db, due.queue, &idle_max, numbered, pause, &error).await?;
                Batch { delivered: 0, failed: found.is_put_off.into(), dead: found.dead }
            }
            outcome => outcome?,
        };
        self.counts.delivered.fetch_add(batch.delivered, Ordering::Relaxed);
        self.counts.failed.fetch_add(batch.failed, Ordering::Relaxed);
        self.counts.dead.fetch_add(batch.dead, Ordering::Relaxed);
        Ok(batch.delivered + batch.failed + batch.dead > 0)
    }

    fn batch_max(&self) -> i64 {
        self.options.batch_max.max(1).into()
    }

    async fn try_batch(&self, due: Due, stopped: &watch::Receiver<bool>, idle_max: &str) -> Result<Batch> {
        if due.has_new {
            queue::number(&self.db, due.queue, idle_max).await?;
        }
        self.db
            .platform()
            .transaction(async |tx| {
                if queue::lock(tx, due.queue, idle_max).await?.is_none() {
                    return Ok(Batch::default());
                }
                let rows = queue::next(tx, due.queue, self.batch_max()).await?;
                let (mut batch, mut delivered) = (Batch::default(), Vec::with_capacity(rows.len()));
                let began = Instant::now();
                for row in &rows {
                    if *stopped.borrow() || began.elapsed() >= self.options.batch_time_max {
                        break;
                    }
                    let id: EventId = row.get(0);
                    let attempts = u32::try_from(row.get::<_, i32>(10)).unwrap_or_default() + 1;
                    let outcome = match CloudEvent::read(row, &self.options.source) {
                        Ok(event) => self.deliver(&event).await,
                        Err(error) => Err(error),
                    };
                    match outcome {
                        Ok(()) => delivered.push(id.0),
                        Err(error) if error.is_final || attempts >= self.options.attempts_max => {
                            tracing::warn!(event = %id.0, queue = %due.queue, %error, "an event was given up");
                            queue::dead(tx, id.0, &error.to_string()).await?;
                            batch.dead += 1;
                        }
                        Err(error) => {
                            tracing::debug!(event = %id.0, queue = %due.queue, %error, "an event was not delivered");
                            let pause = self.pause(attempts, &error);
                            queue::failed(tx, due.queue, id.0, &error.to_string(), pause).await?;
                            batch.failed += 1;
                            break;
                        }
                    }
                }
                queue::delivered(tx, &delivered).await?;
                batch.delivered = delivered.len() as u64;
                Ok(batch)
            })
            .await
    }

    async fn deliver(&self, event: &CloudEvent) -> Result<(), SinkError> {
        let limit = self.options.delivery_time_max;
        // A panic of the sink counts as a failure of this event. Otherwise it would end the worker, without a count.
        let mut delivery = Box::pin(AssertUnwindSafe(async { self.sink.deliver(event).await }).catch_unwind());
        let outcome = match tokio::time::timeout(limit, &mut delivery).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(payload)) => {
                drop_caught(payload);
                Err(SinkError::new("the sink panicked"))
            }
            Err(_) => Err(SinkError::new(&format_args!("no answer in {limit:?}"))),
        };
        drop_caught(delivery);
        outcome
    }

    /// Returns how long a queue is postponed after this number of attempts.
    fn pause(&self, attempts: u32, error: &SinkError) -> Duration {
        let doubled = self.options.pause_first.saturating_mul(1 << (attempts - 1).min(30));
        let pause = doubled.min(self.options.pause_max).mul_f64(rand::random_range(0.5..1.5));
        error.retry_after.map_or(pause, |asked| asked.max(self.options.pause_first)).min(self.options.pause_max)
    }
}

/// Drops a value of the sink. A panic of its destructor ends here; the payload of such a panic is leaked, because it may panic too.
fn drop_caught<T>(value: T) {
    if let Err(payload) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(value))) {
        std::mem::forget(payload);
    }
}

/// Returns whether a retry may succeed. An unknown outcome of a commit is harmless: either the delivery is committed,
/// or the event is delivered again.
fn can_pass(error: &PlatformError) -> bool {
    let PlatformError::Database(error) = error else { return false };
    error.is_retryable()
        || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Locked | ErrorKind::CommitUnknown)
}

/// Wakes the workers when an event was written.
async fn listen(db: Db<PlatformError>, wake: watch::Sender<()>) {
    let channel = Ident::new(CHANNEL).expect("a short name is an identifier");
    loop {
        match db.listen(std::slice::from_ref(&channel)).await {
            Ok(mut listener) => {
                let _ = wake.send(());
                while listener.recv().await.is_ok() {
                    let _ = wake.send(());
                }
            }
            Err(Error::Connection(ConnectionError::PoolerRefused { .. })) => return wake.closed().await,
            Err(error) => tracing::debug!(%error, "notices of events are not received"),
        }
        tokio::time::sleep(DATABASE_PAUSE).await;
    }
}

/// Regularly deletes old delivered events, and creates the next partitions of the audit log.
async fn keep_up(db: Db<PlatformError>, age: Option<Duration>) {
    let outbox = Outbox::new(&db).acting_as(Actor::System);
    let log = AuditLog::new(&db).acting_as(Actor::System);
    loop {
        if let Some(age) = age {
            match outbox.prune(age).await {
                Ok(0) => {}
                Ok(removed) => tracing::debug!(removed, "old events were removed"),
                Err(error) => tracing::debug!(%error, "old events were not removed"),
            }
        }
        match log.keep_months().await {
            Ok(0) => {}
            Ok(made) => tracing::debug!(made, "months of the audit log were made"),
            Err(error) => tracing::debug!(%error, "no month of the audit log was made"),
        }
        tokio::time::sleep(KEEP_UP_INTERVAL).await;
    }
}
