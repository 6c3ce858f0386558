//! Writes a sample of evaluations into the tenants' tables, in the background.

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

/// How many evaluations one statement writes.
const BATCH_MAX: usize = 500;
/// The longest key of a subject that is kept; the rest is cut off.
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
    /// One of so many evaluations is written, at random. A hundred unless set.
    pub one_in: NonZeroU32,
    /// How long evaluations wait to be written together. Five seconds unless set.
    pub interval: Duration,
    /// How many may wait; further ones are left out and counted. 10,000 unless set.
    pub waiting_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        let one_in = NonZeroU32::new(100).expect("a hundred is not zero");
        Self { one_in, interval: Duration::from_secs(5), waiting_max: 10_000 }
    }
}

/// Writes a sample of evaluations into `evaluation_logs` of their tenants, in a task of its own. Recording one waits for nothing
/// and never fails; what cannot be written is left out. Cheap to clone.
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
    sender: mpsc::Sender<Message>,
    one_in: NonZeroU32,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    left_out: AtomicU64,
}

/// What became of the evaluations that were sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStatus {
    /// How many were written.
    pub written: u64,
    /// How many were not: too many waited, or the database did not take them.
    pub left_out: u64,
}

enum Message {
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
    /// Begins to write in a task of its own. It ends when the last clone is dropped, and has written what was recorded before.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new<E>(db: &Db<E>, settings: LogSettings) -> Self {
        let (sender, receiver) = mpsc::channel(settings.waiting_max.max(1));
        let counts = Arc::new(Counts::default());
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

    /// Records an evaluation, if it is one of the sample.
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
        // A text of PostgreSQL has no NUL, and the column does not take an empty key.
        let plain = |key: &str| key.chars().filter(|c| *c != '\0').take(KEY_CHARS_MAX).collect::<String>();
        let line = Line {
            feature: key.into(),
            environment: environment.to_string(),
            key: subject.key().map(plain).filter(|key| !key.is_empty()),
            is_on: evaluation.is_on,
            reason: evaluation.reason.name(),
            at: SystemTime::now(),
        };
        if self.sender.try_send(Message::Line(slug.clone(), line)).is_err() {
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was recorded before is written, or left out.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; it is written all the same.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).await.is_ok() {
            // The runtime is shutting down where there is no answer.
            let _ = written.await;
        }
    }

    /// What became of the evaluations so far.
    pub fn status(&self) -> LogStatus {
        LogStatus {
            written: self.counts.written.load(Ordering::Relaxed),
            left_out: self.counts.left_out.load(Ordering::Relaxed),
        }
    }
}

struct Writer {
    db: Db<FlagsError>,
    weight: i32,
    waiting: HashMap<TenantSlug, Vec<Line>>,
    /// Of all tenants together.
    count: usize,
    count_max: usize,
    counts: Arc<Counts>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>, interval: Duration) {
        let mut due = tokio::time::interval(interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = receiver.recv() => match message {
                    Some(Message::Line(slug, line)) => {
                        let lines = self.waiting.entry(slug.clone()).or_default();
                        lines.push(line);
                        self.count += 1;
                        if lines.len() >= BATCH_MAX {
                            self.write(&slug).await;
                        } else if self.count >= self.count_max {
                            self.write_all().await;
                        }
                    }
                    Some(Message::Flush(done)) => {
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

    /// Writes what waits for a tenant. A tenant that cannot be entered is no reason to keep it.
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
