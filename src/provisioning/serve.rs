//! Processes the queue: takes requests and creates their tenants, with the operator's rights.

mod claim;

use super::{CHANNEL, ProvisioningId};
use crate::{
    config::{Config, Pooling},
    db::Operator,
    error::{ConnectionError, Error, ErrorKind, Result, TenantError},
    fleet::interrupt::Interrupt,
    ident::Ident,
    lifecycle::{self, CreateOptions, Created},
    migrate::Migrations,
    slug::TenantSlug,
    tenancy::{Db, Listener},
};
use claim::{AttemptVerdict, ClaimedRequest, RequestQueue};
use std::time::{Duration, Instant};

/// The first and the longest pause before reconnecting after a lost connection.
const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_MAX: Duration = Duration::from_secs(30);

/// How a queue is processed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServeOptions {
    /// How often a request is attempted before it counts as failed. Default: 10, which takes about ten minutes with the
    /// pauses below.
    pub attempts_max: u32,
    /// The pause after the first failed attempt; it doubles with each attempt. Default: one second. Each pause is
    /// varied at random by up to half of its length.
    pub pause_first: Duration,
    /// The longest pause between two attempts. Default: five minutes.
    pub pause_max: Duration,
    /// How often the queue is read if no notification arrives. Default: five seconds.
    pub poll_interval: Duration,
    /// How long one attempt may take. Default: ten minutes.
    pub attempt_time_max: Duration,
    /// Stops the processing; see [`interrupt`](Self::interrupt).
    pub interrupt: Interrupt,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            attempts_max: 10,
            pause_first: Duration::from_secs(1),
            pause_max: Duration::from_secs(300),
            poll_interval: Duration::from_secs(5),
            attempt_time_max: Duration::from_secs(600),
            interrupt: Interrupt::new(),
        }
    }
}

impl ServeOptions {
    /// Sets a handle that stops the processing: `stop` after the running attempt, `cancel` immediately. A cancelled
    /// attempt is rolled back, and the next server repeats it.
    pub fn interrupt(mut self, interrupt: &Interrupt) -> Self {
        self.interrupt = interrupt.clone();
        self
    }
}

/// A finished attempt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The request.
    pub id: ProvisioningId,
    /// The tenant's slug, as the registry has it.
    pub slug: String,
    /// The number of the attempt of this request, counted from 1.
    pub number: u32,
    /// How long it took.
    pub elapsed: Duration,
    /// Its outcome.
    pub outcome: AttemptOutcome,
}

/// The outcome of an attempt.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// The tenant is created, or already existed.
    Done(Box<Created>),
    /// It failed, and is repeated.
    Postponed {
        /// The error.
        error: Error,
        /// The minimum time until the next attempt.
        pause: Duration,
    },
    /// It failed, and is not repeated.
    Failed {
        /// The error.
        error: Error,
    },
}

/// A summary of the processed requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServeReport {
    /// The requests that are done.
    pub done: usize,
    /// The attempts that failed and are repeated.
    pub postponed: usize,
    /// The requests that failed.
    pub failed: usize,
    /// Whether [`ServeOptions::interrupt`] stopped it.
    pub interrupted: bool,
}

/// Processes the queue until it is interrupted: takes each request that is due and creates its tenant, exactly as
/// [`lifecycle::create`] does. `attempted` is called after each attempt.
///
/// It wakes up on NOTIFY, when the next attempt is due, and every [`ServeOptions::poll_interval`]. If the connection is
/// lost, it reconnects, without a time limit. Any number of servers may process one queue: the server that works on a
/// request locks it. If that server dies, the lock ends with its connection and another server makes the next attempt.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use cgk::{Config, migrate::{Interrupt, Migrations}, provisioning::{ServeOptions, serve}};
/// let config = Config::load()?; // the operator's URL
/// let migrations = Migrations::load(config.migrations())?;
/// let interrupt = Interrupt::new(); // interrupt.stop() ends it
/// let options = ServeOptions::default().interrupt(&interrupt);
/// serve(&config, &migrations, &options, &mut |attempt| println!("{}: {:?}", attempt.slug, attempt.outcome)).await?;
/// # Ok(()) }
/// ```
///
/// # Locks
///
/// The request's row, during the attempt; those of [`lifecycle::create`].
///
/// # Committed when
///
/// The number of the attempt is committed before it starts, then the tenant as described for [`lifecycle::create`],
/// then the outcome.
///
/// # Errors
///
/// At the start, those of [`Operator::connect`] and [`Db::connect`]. Later, an error that concerns neither a single
/// request nor the connection, such as a missing table or a missing right on the queue.
///
/// # Cancel safety
///
/// If the future is dropped, the server rolls the running attempt back or commits it; the next attempt checks which.
pub async fn serve(
    config: &Config,
    migrations: &Migrations,
    options: &ServeOptions,
    attempted: &mut (impl FnMut(&Attempt) + Send),
) -> Result<ServeReport> {
    let mut report = ServeReport::default();
    let mut server = Some(Server::connect(config, migrations, options).await?);
    let mut pause = RECONNECT_FIRST;
    options.interrupt.listen();
    while !options.interrupt.is_stopping() {
        let served = match &mut server {
            Some(server) => server.until_interrupted(&mut report, attempted).await,
            None => match Server::connect(config, migrations, options).await {
                Ok(new) => {
                    tracing::info!("connected again");
                    server = Some(new);
                    pause = RECONNECT_FIRST;
                    continue;
                }
                Err(error) => Err(error),
            },
        };
        match served {
            Err(error) if is_of_the_connection(&error) => {
                tracing::warn!(error = %error.report(), "the queue cannot be served; connecting again");
                server = None;
                let _ = tokio::time::timeout(pause, options.interrupt.stopping()).await;
                pause = (pause * 2).min(RECONNECT_MAX);
            }
            served => served?,
        }
    }
    report.interrupted = true;
    Ok(report)
}

/// Makes one attempt at each request that is due, and returns when none is left. `attempted` is called after each
/// attempt.
///
/// # Locks
///
/// The locks of [`serve`].
///
/// # Errors
///
/// The errors of [`serve`], and kind `Unavailable` if the connection is lost.
///
/// # Cancel safety
///
/// Same as [`serve`].
pub async fn serve_due(
    config: &Config,
    migrations: &Migrations,
    options: &ServeOptions,
    attempted: &mut (impl FnMut(&Attempt) + Send),
) -> Result<ServeReport> {
    let mut report = ServeReport::default();
    let server = Server::connect(config, migrations, options).await?;
    options.interrupt.listen();
    server.due(&mut report, attempted).await?;
    report.interrupted = options.interrupt.is_stopping();
    Ok(report)
}

fn is_of_the_connection(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// Returns whether another attempt cannot succeed, because another object has the tenant's name.
fn is_final(error: &Error) -> bool {
    let of_the_tenant = matches!(
        error,
        Error::Tenant(
            TenantError::SchemaNotOurs { .. }
                | TenantError::OrganizationMismatch { .. }
                | TenantError::RoleInUse { .. }
                | TenantError::SchemaGone { .. }
        )
    );
    of_the_tenant || matches!(error, Error::InvalidSlug(_))
}

/// The connections of one server.
struct Server<'a> {
    migrations: &'a Migrations,
    options: &'a ServeOptions,
    queue: RequestQueue,
    operator: Operator,
    /// Enters the created tenants, as a service does.
    db: Db,
    /// For LISTEN, which does not go through a pooler.
    direct: Db,
}

impl<'a> Server<'a> {
    async fn connect(config: &Config, migrations: &'a Migrations, options: &'a ServeOptions) -> Result<Self> {
        let operator = Operator::connect(config).await?;
        // Before any attempt is counted.
        lifecycle::check_rights(&operator).await?;
        let queue = RequestQueue::new(operator.sibling().await?);
        let db = Db::connect(config).await?;
        let direct = match config.pooling() {
            Pooling::Transaction => Db::connect(operator.config()).await?,
            _ => db.clone(),
        };
        Ok(Self { migrations, options, queue, operator, db, direct })
    }

    async fn until_interrupted(
        &self,
        report: &mut ServeReport,
        attempted: &mut (impl FnMut(&Attempt) + Send),
    ) -> Result<()> {
        let channel = Ident::new(CHANNEL).expect("a short name is an identifier");
        let mut listener = None;
        while !self.options.interrupt.is_stopping() {
            if listener.is_none() {
                // Before the queue is read: a request that arrives in between causes a notification.
                listener = match self.direct.listen(std::slice::from_ref(&channel)).await {
                    Ok(listener) => Some(listener),
                    Err(error) => {
                        tracing::debug!(%error, "no notices are received: the queue is looked at from time to time");
                        None
                    }
                };
            }
            self.due(report, attempted).await?;
            let wait = self
                .queue
                .next_due()
                .await?
                .map_or(self.options.poll_interval, |due| due.min(self.options.poll_interval));
            tokio::select! {
                lost = noticed(&mut listener) => if lost { listener = None },
                () = tokio::time::sleep(wait) => {}
                () = self.options.interrupt.stopping() => {}
            }
        }
        Ok(())
    }

    /// Makes one attempt at each request that is due.
    async fn due(&self, report: &mut ServeReport, attempted: &mut (impl FnMut(&Attempt) + Send)) -> Result<()> {
        while !self.options.interrupt.is_stopping() {
            let Some(claim) = self.queue.claim(self.options).await? else { return Ok(()) };
            let began = Instant::now();
            let created = tokio::select! {
                created = self.create(&claim) => created,
                () = self.options.interrupt.cancelling() => {
                    self.operator.cancel().await;
                    return Ok(());
                }
            };
            let lost = created.as_ref().is_err_and(is_of_the_connection);
            let outcome = self.finish(&claim, created).await?;
            match &outcome {
                AttemptOutcome::Done(_) => report.done += 1,
                AttemptOutcome::Postponed { .. } => report.postponed += 1,
                AttemptOutcome::Failed { .. } => report.failed += 1,
            }
            let (id, number) = (claim.id, claim.attempt);
            let attempt = Attempt { id, slug: claim.slug, number, elapsed: began.elapsed(), outcome };
            attempted(&attempt);
            if lost && let AttemptOutcome::Postponed { error, .. } | AttemptOutcome::Failed { error } = attempt.outcome
            {
                return Err(error);
            }
        }
        Ok(())
    }

    async fn create(&self, claim: &ClaimedRequest) -> Result<Created> {
        let slug: TenantSlug = claim.slug.parse().map_err(Error::InvalidSlug)?;
        let options = CreateOptions { new_organization: true, ..CreateOptions::default() };
        let creating = lifecycle::create(&self.operator, &self.db, self.migrations, &slug, &options);
        match tokio::time::timeout(self.options.attempt_time_max, creating).await {
            Ok(created) => created,
            Err(_) => {
                self.operator.cancel().await;
                let waited = self.options.attempt_time_max;
                Err(ConnectionError::NoAnswer { doing: format!("create tenant {slug}"), waited }.into())
            }
        }
    }

    /// Writes the outcome, and releases the request.
    async fn finish(&self, claim: &ClaimedRequest, created: Result<Created>) -> Result<AttemptOutcome> {
        let error = match created {
            Ok(created) => {
                self.queue.finish(claim, AttemptVerdict::Done).await?;
                return Ok(AttemptOutcome::Done(Box::new(created)));
            }
            Err(error) => error,
        };
        let failed = is_final(&error) || claim.attempt >= self.options.attempts_max;
        let verdict = if failed { AttemptVerdict::Failed(&error) } else { AttemptVerdict::Postponed(&error) };
        self.queue.finish(claim, verdict).await?;
        Ok(match failed {
            true => AttemptOutcome::Failed { error },
            false => AttemptOutcome::Postponed { error, pause: claim.pause },
        })
    }
}

/// Waits for a notification of a pending request; returns whether the listener is lost. Without a listener, never
/// returns.
async fn noticed(listener: &mut Option<Listener>) -> bool {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.recv().await {
            Ok(notification) if notification.payload().starts_with("pending ") => return false,
            Ok(_) => {}
            Err(_) => return true,
        }
    }
}
