//! The transaction that sees one tenant and nothing else.

mod body;
mod current;
mod descriptions;
mod diagnosis;
mod entry;
pub(crate) mod exit;
mod failure;
mod lease;
mod options;
mod platform;
pub(crate) mod protocol;
mod retry;
mod shared;
mod statement;
mod statement_form;
mod stream;
mod tx;

pub use body::{PlatformFn, TenantFn, TenantFnMany};
pub use current::TenantContext;
pub use options::TxOptions;
pub use platform::{Platform, PlatformTx};
pub use retry::Retry;
pub use statement::TenantHandle;
pub use stream::{TenantCopyIn, TenantCopyOut, TenantRows};
pub use tx::{TenantSavepoint, TenantTx};

use crate::{
    config::{Config, Isolation},
    db::{
        identity::{self, Identity},
        message::{self, Answer},
        pool::{self, Pool, STAY_ON_ERROR},
        search_path::search_path,
    },
    error::{ConnectionError, Error, MigrationError, Result, SetupError, TenantError, TransactionError, while_doing},
    ident::{DatabaseTag, RoleName, SchemaName},
    search_path::SearchPath,
    slug::TenantSlug,
    sqlstate,
};
use descriptions::Descriptions;
use diagnosis::diagnose;
use entry::{Entry, Exit};
use exit::{CommitOutcome, Connection, departure};
use lease::Lease;
use protocol::{Nonce, TenantTarget, enter_sql};
use retry::{is_conflict, undone_by_server};
use shared::Shared;
use std::{future::Future, marker::PhantomData, sync::Arc};
use tokio_postgres::error::SqlState;

/// A service's handle on the database: a pool of connections and the way into each tenant. Cheap to clone.
///
/// `E` is the application's error type, fixed once so that no closure has to name it:
///
/// ```no_run
/// # async fn example() -> Result<(), cgk::Error> {
/// #[derive(Debug)]
/// enum AppError { Database(cgk::Error), SoldOut }
/// impl From<cgk::Error> for AppError {
///     fn from(error: cgk::Error) -> Self { Self::Database(error) }
/// }
///
/// let config = cgk::Config::load()?;
/// let db: cgk::Db<AppError> = cgk::Db::connect(&config).await?.errors();
/// # Ok(()) }
/// ```
pub struct Db<E = Error> {
    inner: Arc<Inner>,
    error: PhantomData<fn() -> E>,
}

struct Inner {
    pool: Pool,
    config: Config,
    database: String,
    tag: DatabaseTag,
    descriptions: Arc<Descriptions>,
    search_path: SearchPath,
}

impl<E> Clone for Db<E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), error: PhantomData }
    }
}

impl<E> std::fmt::Debug for Db<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("config", &self.inner.config).field("database", &self.inner.database).finish()
    }
}

impl Db {
    /// Builds the pool and makes its first connection, so that a wrong address is found now and not at the first request.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: host, login or database; kind `Invalid`: TLS files; kind `Conflict`: a schema of the setting
    /// `search_path` cannot be in the search path, the database is a copy of another ([`SetupError::DatabaseCopied`]), or it has
    /// another isolation than the configuration ([`SetupError::IsolationMismatch`]).
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is closed.
    pub async fn connect(config: &Config) -> Result<Self> {
        let pool = pool::build(config, enter_sql)?;
        let first = Lease::new(pool::take(&pool, config).await?, pool.clone());
        let client = first.connection().client();
        let doing = || while_doing(format!("look at the server at {}", config.target()));
        message::run(client, STAY_ON_ERROR).await.and_then(Answer::complete).map_err(doing())?;
        let (database, identity) = identity::read(client).await.map_err(doing())?;
        let tag = match identity {
            Identity::Recorded(tag) => tag,
            Identity::Unrecorded => DatabaseTag::of(&database),
            Identity::Copied => return Err(Error::Setup(SetupError::DatabaseCopied { database })),
        };
        let modes = identity::isolation_modes(client).await.map_err(doing())?;
        identity::refuse_isolation(&database, modes, config)?;
        let search_path = search_path(client, config, &tag).await?;
        first.roll_back().await;
        let descriptions = Arc::new(Descriptions::new(config.pool().descriptions_max));
        let inner = Inner { pool, config: config.clone(), database, tag, descriptions, search_path };
        Ok(Self { inner: Arc::new(inner), error: PhantomData })
    }
}

impl<E> Db<E> {
    /// The same handle with another error type for its closures.
    pub fn errors<E2>(&self) -> Db<E2> {
        Db { inner: Arc::clone(&self.inner), error: PhantomData }
    }

    /// The configuration that the handle was made with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }
}

impl<E: From<Error> + Send> Db<E> {
    /// Runs `body` in a transaction that sees one tenant and nothing else: commits when it returns `Ok`, rolls back when it
    /// returns `Err`, panics or is dropped.
    ///
    /// The search path is `tenant_<slug>, public`, the schemas of extensions, `pg_temp`, and in role mode the role is the
    /// tenant's own, so the database itself refuses another tenant's table even by its full name. The message that opens the transaction and checks all
    /// this rides ahead of the first statement without a wait of its own; a statement behind a refused one does not run.
    /// (Behind a pooler the first statement waits for the answer, one round trip.) The body itself starts before the answer is
    /// there: what it does outside the database it should do after its first statement.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> Result<(), cgk::Error> {
    /// let slug: cgk::TenantSlug = "acme".parse()?;
    /// let open: i64 = db
    ///     .with_tenant(&slug, async |tx| {
    ///         let row = tx.query_one("select count(*) from orders where status = $1", &[&"pending"]).await?;
    ///         Ok(row.get(0))
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The transaction cannot leave the closure:
    ///
    /// ```compile_fail
    /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// let mut escaped = None;
    /// db.with_tenant(&slug, async |tx| { escaped = Some(tx); Ok(()) }).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// And one transaction has one tenant: a second one takes a call, and with it a connection, of its own.
    ///
    /// ```compile_fail,E0599
    /// # async fn example(db: cgk::Db, acme: cgk::TenantSlug, globex: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// db.with_tenant(&acme, async |tx| tx.with_tenant(&globex, async |_| Ok(())).await).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, acme: cgk::TenantSlug, globex: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// db.with_tenant(&acme, async |_| db.with_tenant(&globex, async |_| Ok(())).await).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Locks
    ///
    /// The tenant's advisory lock ([`lock::tenant_key`](crate::lock::tenant_key)), shared, to the end of the transaction: a
    /// drop or rename of the tenant waits for it.
    ///
    /// # Errors
    ///
    /// Whatever the body returns. Kinds `NotFound`, `Suspended`, `NotReady`: the tenant cannot be entered, and no statement
    /// of the body has run. `Refused`: a statement failed and the body returned `Ok`, or the body left the tenant or ended
    /// the transaction; nothing is committed of what was still open. `CommitUnknown`: the connection broke off around COMMIT.
    /// `Unavailable`: no connection in time, or it was lost before COMMIT was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropped before COMMIT is sent, nothing is committed; dropped after that, all of it may be. In no case does the next
    /// user of the connection find anything of it: a task of its own rolls back, and cancels and discards the connection
    /// where a statement is still running.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn with_tenant<T: Send, F: TenantFn<T, E>>(
        &self,
        slug: &TenantSlug,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        async move { self.with_tenant_in(slug, &TxOptions::default(), body).await }
    }

    /// [`with_tenant`](Self::with_tenant) with an isolation level or read-only.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// use cgk::TxOptions;
    /// let report = TxOptions::default().repeatable_read().read_only();
    /// db.with_tenant_in(&slug, &report, async |tx| tx.query("select * from orders", &[]).await).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`with_tenant`](Self::with_tenant).
    ///
    /// # Cancel safety
    ///
    /// As [`with_tenant`](Self::with_tenant).
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn with_tenant_in<T: Send, F: TenantFn<T, E>>(
        &self,
        slug: &TenantSlug,
        options: &TxOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        async move {
            let visit = self.visit(slug, options).await?;
            let mut tx = TenantTx::new(&visit.shared);
            let outcome = visit.context.clone().scope(body(&mut tx)).await;
            self.depart(visit, outcome).await.map_err(|failed| failed.error)
        }
    }

    /// Takes a connection and sends the first message.
    async fn visit(&self, slug: &TenantSlug, options: &TxOptions) -> Result<TenantSession> {
        let context = self.context(slug)?;
        let inner = &self.inner;
        let (gate, nonce) = (self.gate(slug), Nonce::random());
        let lease = Lease::new(pool::take(&inner.pool, &inner.config).await?, inner.pool.clone());
        lease.connection().visit(slug.as_str());
        let entry = Entry::send(&lease, &gate, nonce, options, &inner.config)
            .await
            .map_err(while_doing(format!("enter tenant {slug}")))?;
        Ok(TenantSession {
            shared: Shared::new(lease, gate, inner.config.pooling(), Arc::clone(&inner.descriptions), entry),
            nonce,
            context,
        })
    }

    /// Ends a visit by what the body returned.
    async fn depart<T>(&self, visit: TenantSession, outcome: Result<T, E>) -> Result<T, FailedVisit<E>> {
        let TenantSession { shared, nonce, .. } = visit;
        if shared.entered().await.is_err() {
            let error = Box::pin(self.why_refused(shared, Behind::Nothing)).await;
            return Err(FailedVisit { undone: undone_by_server(&error), error: error.into() });
        }
        match outcome {
            Ok(value) => leave(shared, nonce)
                .await
                .map(|()| value)
                .map_err(|error| FailedVisit { undone: undone_by_server(&error), error: error.into() }),
            Err(error) => {
                // What the body undid itself, with a savepoint, is no longer among the failures.
                let undone =
                    !shared.is_tampered() && shared.failures.aborted_by().is_some_and(|state| is_conflict(&state));
                shared.lease.roll_back().await;
                Err(FailedVisit { error, undone })
            }
        }
    }

    /// The task-local of a call, refused where the pool can never give what the calls around it hold.
    fn context(&self, slug: &TenantSlug) -> Result<TenantContext> {
        let pool = Arc::as_ptr(&self.inner) as usize;
        let context = TenantContext::inside(slug, pool);
        let size_max = self.inner.pool.status().max_size;
        if context.held_of(pool) > size_max {
            let outer = TenantContext::current().map_or_else(|| slug.clone(), |outer| outer.slug);
            return Err(Error::Transaction(TransactionError::NestedTenant { outer, inner: slug.clone(), size_max }));
        }
        Ok(context)
    }

    fn gate(&self, slug: &TenantSlug) -> TenantTarget {
        let role = match self.inner.config.isolation() {
            Isolation::Role => Some(RoleName::of_tenant(slug, &self.inner.tag)),
            Isolation::Path => None,
        };
        let schema = SchemaName::of_tenant(slug);
        TenantTarget { slug: slug.clone(), path: self.inner.search_path.of(&schema), schema, role }
    }

    /// Finds out why the first message was refused.
    async fn why_refused(&self, shared: Shared, behind: Behind) -> Error {
        let tenant = shared.gate.slug.clone();
        let Some(refusal) = shared.entry_error() else { return Error::Tenant(TenantError::EntryRefused { tenant }) };
        // The commit may have arrived although no answer did. A server that says why it goes says so in its turn, so it has not
        // come to the commit.
        if sqlstate::is_lost(&refusal) && behind == Behind::Commit && refusal.as_db_error().is_none() {
            return Error::Transaction(TransactionError::CommitUnknown { tenant, source: refusal.into() });
        }
        if sqlstate::is_lost(&refusal) {
            return Error::Connection(ConnectionError::Lost {
                doing: format!("entering tenant {tenant}"),
                source: refusal.into(),
            });
        }
        if refusal.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            let waited = self.inner.config.session().lock_timeout;
            let schema = shared.gate.schema.clone();
            shared.lease.roll_back().await;
            return Error::Migration(MigrationError::Locked { schema, waited });
        }
        match Box::pin(diagnose(&shared, &self.inner.database, &self.inner.config)).await {
            Ok(Some(reason)) => {
                shared.lease.roll_back().await;
                reason
            }
            // Nothing is wrong with the tenant, so it may be the session: another call gets another connection.
            Ok(None) => {
                shared.lease.discard();
                Error::Tenant(TenantError::Changed { tenant })
            }
            Err(error) => error,
        }
    }
}

/// What was sent behind the first message before its answer was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Statements at most.
    Nothing,
    /// The commit as well.
    Commit,
}

/// One transaction under way.
struct TenantSession {
    shared: Shared,
    nonce: Nonce,
    context: TenantContext,
}

/// A transaction that did not commit.
struct FailedVisit<E> {
    error: E,
    /// Whether the server undid all of it because of a conflict that a new try may not meet.
    undone: bool,
}

/// Commits, guarded and scrubbed.
async fn leave(shared: Shared, nonce: Nonce) -> Result<()> {
    if shared.is_tampered() || !shared.lease.is_answering() {
        let (tenant, tampered, failed) = (shared.gate.slug.clone(), shared.is_tampered(), shared.failures.aborted_by());
        shared.lease.roll_back().await;
        return Err(match tampered {
            true => Error::Transaction(TransactionError::Tampered { tenant }),
            false => Error::Transaction(TransactionError::Aborted { tenant, failed }),
        });
    }
    let flight = shared.lease.begin_statement();
    let exit = match Exit::send(&shared, nonce).await {
        Ok(exit) => exit,
        // Not even sent: the connection was gone before, and the transaction with it.
        Err(source) => {
            let doing = format!("committing the transaction of tenant {}", shared.gate.slug);
            shared.lease.discard();
            return Err(Error::Connection(ConnectionError::Lost { doing, source: source.into() }));
        }
    };
    let answer = exit.answer().await;
    flight.finish_statement();
    classify_commit(shared, answer).await
}

/// Judges the answer to the last message, and gives the connection back or throws it away.
async fn classify_commit(shared: Shared, mut answer: Answer) -> Result<()> {
    let tenant = shared.gate.slug.clone();
    let judged = answer
        .error
        .as_ref()
        .map(|error| (error.code(), if sqlstate::is_lost(error) { Connection::Lost } else { Connection::Alive }));
    let failed = shared.failures.aborted_by();
    match (departure(answer.completed, judged), answer.error.take()) {
        (CommitOutcome::Clean, _) | (_, None) => {
            shared.lease.judge_scrub(&answer);
            shared.lease.release();
            Ok(())
        }
        (CommitOutcome::Soiled, Some(error)) => {
            tracing::warn!(tenant = %tenant, %error, "committed, but the session could not be scrubbed; connection discarded");
            shared.lease.discard();
            Ok(())
        }
        (CommitOutcome::Unknown, Some(source)) => {
            shared.lease.discard();
            Err(Error::Transaction(TransactionError::CommitUnknown { tenant, source: source.into() }))
        }
        (departure, Some(source)) => {
            shared.lease.roll_back().await;
            Err(match departure {
                CommitOutcome::Tampered => Error::Transaction(TransactionError::Tampered { tenant }),
                CommitOutcome::Aborted => Error::Transaction(TransactionError::Aborted { tenant, failed }),
                _ => Error::Transaction(TransactionError::Statement { tenant, source: source.into() }),
            })
        }
    }
}
