//! The relay: delivers what is in the outbox.

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
    platform::{AuditLog, PlatformError, Result},
    tenancy::Db,
};
use std::{
    future::Future,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

/// The pause after the database could not be asked.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// How often what was delivered is removed, and the months of the audit log are looked after.
const KEEP_UP_INTERVAL: Duration = Duration::from_secs(60);

/// How events are delivered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RelayOptions {
    /// The attribute `source` of the CloudEvents: who says it. `cgk` unless set.
    pub source: String,
    /// From so many organizations this relay delivers at once, each with a connection of the pool. Four unless set.
    pub workers: NonZeroUsize,
    /// So many events of an organization are delivered before their delivery is committed; a relay that is killed delivers at
    /// most so many of each organization twice. 100 unless set.
    pub batch_max: u32,
    /// After this time a batch ends early. Ten seconds unless set.
    pub batch_time_max: Duration,
    /// How long one delivery may take. 15 seconds unless set.
    pub delivery_time_max: Duration,
    /// How often an event is tried before it is given up. 20 unless set; with the pauses below some two hours.
    pub attempts_max: u32,
    /// The pause of an organization after the first failed attempt; it doubles with each one. A second unless set. Each is made
    /// shorter or longer by up to a half, at random.
    pub pause_first: Duration,
    /// The longest pause. Ten minutes unless set.
    pub pause_max: Duration,
    /// How often the outbox is looked at when no notice has come. Five seconds unless set.
    pub poll_interval: Duration,
    /// How long events are kept that were delivered; `None`: for ever. Seven days unless set.
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

/// What was delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayReport {
    /// The events that were delivered.
    pub delivered: u64,
    /// The attempts that failed and are made again.
    pub failed: u64,
    /// The events that were given up.
    pub dead: u64,
}

/// Delivers the events of the outbox to a sink, at least once, and those of one organization one after the other.
///
/// Any number of relays may run on one database. From one organization only one of them delivers at a time: it has the
/// organization's row in `domain_event_queues` locked. If it dies, the lock ends with its connection, and another relay delivers again
/// what it had delivered and not yet committed; nothing else is delivered twice while the database answers.
///
/// The order is that in which a relay first sees the events ([`CloudEvent::sequence`]): those of one transaction as they were
/// written; of two transactions of which one began after the other had committed, as they were committed. An event that
/// cannot be delivered holds up its organization, and no other, until it is delivered or given up.
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
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    db: Db<PlatformError>,
    sink: S,
    options: RelayOptions,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dead: AtomicU64,
}

/// How far a queue has come.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    delivered: u64,
    failed: u64,
    dead: u64,
}

impl<S: EventSink> Relay<S> {
    /// A relay from this database to a sink.
    pub fn new<E>(db: &Db<E>, sink: S, options: RelayOptions) -> Self {
        Self { inner: Arc::new(Inner { db: db.errors(), sink, options, counts: Counts::default() }) }
    }

    /// Delivers until `stop` ends, then finishes the deliveries under way. It wakes by NOTIFY, on a connection beside the pool, and
    /// every [`RelayOptions::poll_interval`] besides. When the database does not answer it tries again, for as long as it takes.
    ///
    /// # Locks
    ///
    /// Of each organization that it delivers from, the row in `domain_event_queues` for as long as a batch takes. No lock that an
    /// application waits for.
    ///
    /// # Committed when
    ///
    /// The numbers of new events before they are delivered; that they were delivered, after each batch.
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`: an error by which trying again does not help, such as a missing right.
    ///
    /// # Cancel safety
    ///
    /// Dropped, what was delivered and not yet committed is delivered again.
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

    /// [`run_until`](Self::run_until), ended by an [`Interrupt`](crate::migrate::Interrupt): `stop` after the deliveries under way,
    /// `cancel` at once.
    ///
    /// # Errors
    ///
    /// As [`run_until`](Self::run_until).
    ///
    /// # Cancel safety
    ///
    /// As [`run_until`](Self::run_until).
    #[cfg(feature = "migrate")]
    pub async fn run(&self, interrupt: &crate::migrate::Interrupt) -> Result<RelayReport> {
        interrupt.listen();
        tokio::select! {
            outcome = self.run_until(interrupt.stopping()) => outcome,
            () = interrupt.cancelling() => Ok(self.report()),
        }
    }

    /// Delivers what is due, and returns when nothing is left that is due and that no other relay is delivering.
    ///
    /// # Locks
    ///
    /// As [`run_until`](Self::run_until).
    ///
    /// # Errors
    ///
    /// `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn deliver_due(&self) -> Result<RelayReport> {
        let (_stopping, stopped) = watch::channel(false);
        while self.inner.pass(&stopped).await? {}
        Ok(self.report())
    }

    /// What this relay has delivered so far.
    pub fn report(&self) -> RelayReport {
        let counts = &self.inner.counts;
        RelayReport {
            delivered: counts.delivered.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Relaxed),
            dead: counts.dead.load(Ordering::Relaxed),
        }
    }
}

impl<S: EventSink> Inner<S> {
    /// What one worker does.
    async fn work(&self, mut stopped: watch::Receiver<bool>, mut woken: watch::Receiver<()>) -> Result<()> {
        while !*stopped.borrow() {
            // Before the look: what is written after it is noticed.
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
                // Without the task that listens there are no notices.
                changed = woken.changed() => if changed.is_err() { tokio::time::sleep(wait).await },
                () = tokio::time::sleep(wait) => {}
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {}
            }
        }
        Ok(())
    }

    async fn wait(&self) -> Result<Duration> {
        let due = queue::next_due(&self.db).await?.unwrap_or(Duration::MAX);
        // A little late rather than a little early, which would be once more in vain.
        Ok(due.saturating_add(Duration::from_millis(5)).min(self.options.poll_interval))
    }

    /// One batch of each queue that is due, beginning anywhere, so that workers seldom want the same one. Returns whether anything was
    /// delivered, tried or given up.
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

    /// One batch of a queue; false where another relay has it. A row that makes the statements fail stops no other queue: it is
    /// given up.
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
        match tokio::time::timeout(limit, self.sink.deliver(event)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SinkError::new(&format_args!("no answer in {limit:?}"))),
        }
    }

    /// How long a queue is put off after so many attempts.
    fn pause(&self, attempts: u32, error: &SinkError) -> Duration {
        let doubled = self.options.pause_first.saturating_mul(1 << (attempts - 1).min(30));
        let pause = doubled.min(self.options.pause_max).mul_f64(rand::random_range(0.5..1.5));
        error.retry_after.map_or(pause, |asked| asked.max(self.options.pause_first)).min(self.options.pause_max)
    }
}

/// Whether the error may be gone when the same is done again. That a commit's outcome is unknown does no harm: what was delivered is
/// committed, or comes again.
fn can_pass(error: &PlatformError) -> bool {
    let PlatformError::Database(error) = error else { return false };
    error.is_retryable()
        || matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Locked | ErrorKind::CommitUnknown)
}

/// Wakes the workers when something was written.
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

/// From time to time removes what was delivered long ago, and makes the months of the audit log that come next.
async fn keep_up(db: Db<PlatformError>, age: Option<Duration>) {
    let (outbox, log) = (Outbox::new(&db), AuditLog::new(&db));
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
