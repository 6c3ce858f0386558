//! Writes a sample of evaluations to the tenants' tables, in the background.

use super::{
    environment::Environment,
    error::{FlagsError, Result},
    evaluate::Evaluation,
    subject::Subject,
};
use crate::{slug::TenantSlug, tenancy::Db};
use rand::RngExt as _;
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};

/// The maximum number of evaluations that one statement writes.
const BATCH_MAX: usize = 500;
/// The maximum length of a feature's key and of an environment's name.
const NAME_CHARS_MAX: usize = 100;
/// The maximum stored length of a subject's key. The rest is cut off.
const KEY_CHARS_MAX: usize = 255;

const WRITE: &str = "
    insert into evaluation_logs (feature_key, environment, targeting_key, is_on, reason, weight, evaluated_at)
    select l.feature_key, l.environment, l.targeting_key, l.is_on, l.reason, $7, l.evaluated_at
      from rows from (pg_catalog.unnest($1::pg_catalog.text[]),
                            pg_catalog.unnest($2::pg_catalog.text[]),
                            pg_catalog.unnest($3::pg_catalog.text[]),
                            pg_catalog.unnest($4::pg_catalog.bool[]),
                            pg_catalog.unnest($5::pg_catalog.text[]),
                            pg_catalog.unnest($6::pg_catalog.timestamptz[]))
           as l (feature_key, environment, targeting_key, is_on, reason, evaluated_at)";

/// How evaluations are sampled and written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogSettings {
    /// One evaluation out of this number is written, at random. Default: 100.
    pub one_in: NonZeroU32,
    /// How long evaluations are collected before they are written together. Default: 5 seconds.
    pub interval: Duration,
    /// How many evaluations may wait. More are dropped and counted. Default: 10,000.
    pub waiting_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        let one_in = NonZeroU32::new(100).expect("a hundred is not zero");
        Self { one_in, interval: Duration::from_secs(5), waiting_max: 10_000 }
    }
}

/// Writes a sample of evaluations to `evaluation_logs` of their tenants, in a separate task. Recording an evaluation
/// does not wait and does not fail. Evaluations that cannot be written are dropped. Cheap to clone.
///
/// ```no_run
/// # async fn example(db: cgk::Db, flags: cgk::flags::Flags, acme: cgk::TenantSlug) -> cgk::flags::Result<()> {
/// use cgk::flags::{Environment, EvaluationLog, LogSettings, Stage, Subject};
///
/// let log = EvaluationLog::new(&db, LogSettings::default());
/// let (prod, ada) = (Environment::of(Stage::Prod), Subject::new("user-7"));
/// let snapshot = flags.snapshot(&acme, &prod).await?;
/// if let Some(evaluation) = snapshot.evaluate("new_checkout", &ada) {
///     log.record(&acme, &prod, "new_checkout", &ada, &evaluation);
/// }
/// log.flush().await; // before the service ends
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct EvaluationLog {
    sender: mpsc::Sender<LogMessage>,
    one_in: NonZeroU32,
    counts: Arc<EvaluationCounts>,
}

#[derive(Debug, Default)]
struct EvaluationCounts {
    written: AtomicU64,
    left_out: AtomicU64,
}

/// The counts of the sampled evaluations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStatus {
    /// The number of written evaluations.
    pub written: u64,
    /// The number of dropped evaluations: too many were waiting, or the database refused them.
    pub left_out: u64,
}

enum LogMessage {
    Line(TenantSlug, Line),
    Flush(oneshot::Sender<()>),
}

struct Line {
    feature: String,
    environment: String,
    key: Option<String>,
    is_on: bool,
    reason: &'static str,
    at: SystemTime,
}

impl EvaluationLog {
    /// Starts writing in a separate task. The task ends after the last clone is dropped and everything recorded before
    /// is written.
    ///
    /// # Panics
    ///
    /// If it is called outside of a Tokio runtime.
    pub fn new<E>(db: &Db<E>, settings: LogSettings) -> Self {
        let (sender, receiver) = mpsc::channel(settings.waiting_max.max(1));
        let counts = Arc::new(EvaluationCounts::default());
        let writer = Writer {
            db: db.errors(),
            weight: settings.one_in.get().try_into().unwrap_or(i32::MAX),
            waiting: HashMap::new(),
            count: 0,
            count_max: settings.waiting_max,
            counts: Arc::clone(&counts),
        };
        tokio::spawn(writer.run(receiver, settings.interval.max(Duration::from_millis(1))));
        Self { sender, one_in: settings.one_in, counts }
    }

    /// Records an evaluation if it is part of the sample. `key` is the feature's key. If no feature or no
    /// environment can have such a name, the evaluation is dropped and counted.
    pub fn record(
        &self,
        slug: &TenantSlug,
        environment: &Environment,
        key: &str,
        subject: &Subject,
        evaluation: &Evaluation<'_>,
    ) {
        if self.one_in.get() > 1 && rand::rng().random_range(0..self.one_in.get()) != 0 {
            return;
        }
        // One row that the table refuses would fail the statement for all evaluations that wait with it.
        let environment = environment.to_string();
        if [key, &environment].into_iter().any(is_refused) {
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Text in PostgreSQL cannot contain NUL, and the column does not accept an empty key.
        let plain = |key: &str| key.chars().filter(|c| *c != '\0').take(KEY_CHARS_MAX).collect::<String>();
        let line = Line {
            feature: key.into(),
            environment,
            key: subject.key().map(plain).filter(|key| !key.is_empty()),
            is_on: evaluation.is_on,
            reason: evaluation.reason.name(),
            at: SystemTime::now(),
        };
        if self.sender.try_send(LogMessage::Line(slug.clone(), line)).is_err() {
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything recorded before is written or dropped.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, everything is still written.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(LogMessage::Flush(done)).await.is_ok() {
            // There is no answer if the runtime is shutting down.
            let _ = written.await;
        }
    }

    /// Returns the counts of the evaluations so far.
    pub fn status(&self) -> LogStatus {
        LogStatus {
            written: self.counts.written.load(Ordering::Relaxed),
            left_out: self.counts.left_out.load(Ordering::Relaxed),
        }
    }
}

/// Whether the table refuses this name of a feature or an environment.
fn is_refused(name: &str) -> bool {
    name.is_empty() || name.contains('\0') || name.chars().count() > NAME_CHARS_MAX
}

struct Writer {
    db: Db<FlagsError>,
    weight: i32,
    waiting: HashMap<TenantSlug, Vec<Line>>,
    /// The number for all tenants together.
    count: usize,
    count_max: usize,
    counts: Arc<EvaluationCounts>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<LogMessage>, interval: Duration) {
        let mut due = tokio::time::interval(interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = receiver.recv() => match message {
                    Some(LogMessage::Line(slug, line)) => {
                        let lines = self.waiting.entry(slug.clone()).or_default();
                        lines.push(line);
                        self.count += 1;
                        if lines.len() >= BATCH_MAX {
                            self.write(&slug).await;
                        } else if self.count >= self.count_max {
                            self.write_all().await;
                        }
                    }
                    Some(LogMessage::Flush(done)) => {
                        self.write_all().await;
                        let _ = done.send(());
                    }
                    None => return self.write_all().await,
                },
                _ = due.tick() => self.write_all().await,
            }
        }
    }

    async fn write_all(&mut self) {
        let slugs: Vec<TenantSlug> = self.waiting.keys().cloned().collect();
        for slug in slugs {
            self.write(&slug).await;
        }
    }

    /// Writes the waiting evaluations of a tenant. If the tenant cannot be entered, they are dropped.
    async fn write(&mut self, slug: &TenantSlug) {
        let Some(lines) = self.waiting.remove(slug) else { return };
        self.count -= lines.len();
        let count = lines.len() as u64;
        match self.insert(slug, &lines).await {
            Ok(()) => self.counts.written.fetch_add(count, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(target: "cgk::flags", tenant = %slug, %error, "a sample of evaluations could not be written");
                self.counts.left_out.fetch_add(count, Ordering::Relaxed)
            }
        };
    }

    async fn insert(&self, slug: &TenantSlug, lines: &[Line]) -> Result<()> {
        let features: Vec<&str> = lines.iter().map(|line| line.feature.as_str()).collect();
        let environments: Vec<&str> = lines.iter().map(|line| line.environment.as_str()).collect();
        let keys: Vec<Option<&str>> = lines.iter().map(|line| line.key.as_deref()).collect();
        let on: Vec<bool> = lines.iter().map(|line| line.is_on).collect();
        let reasons: Vec<&str> = lines.iter().map(|line| line.reason).collect();
        let times: Vec<SystemTime> = lines.iter().map(|line| line.at).collect();
        let tenant = self.db.tenant(slug);
        tenant.execute(WRITE, &[&features, &environments, &keys, &on, &reasons, &times, &self.weight]).await?;
        Ok(())
    }
}
