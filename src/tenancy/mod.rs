//! The transaction that sees only one tenant.

mod alias;
mod body;
mod conflict;
mod context_tenant;
mod create_rights;
mod current;
mod descriptions;
mod diagnosis;
mod each;
mod entry;
pub(crate) mod exit;
mod explain;
mod failure;
mod find;
pub mod frame;
mod lease;
mod listen;
mod options;
mod platform;
mod pooled;
pub(crate) mod protocol;
mod reader;
mod retry;
mod row;
mod savepoint;
mod scope;
mod service;
mod session;
mod shared;
mod shared_statements;
mod single;
mod statement_form;
mod statements;
mod stream;
mod tenant_limit;
pub(crate) mod text_rows;
mod tx;
mod tx_statements;

pub use body::{PlatformFn, PlatformFnMany, ReaderFn, TenantFn, TenantFnMany};
pub use context_tenant::ContextTenant;
pub use current::current_tenant;
#[cfg(any(feature = "platform", feature = "redis"))]
pub(crate) use current::is_inside_transaction;
#[cfg(feature = "platform")]
pub(crate) use find::find_tenant;
pub use listen::Listener;
pub use options::TxOptions;
pub use platform::Platform;
pub use retry::Retry;
#[cfg(feature = "derive")]
pub use row::Derived;
pub use row::{ByColumn, FromRow};
pub use savepoint::Savepoint;
pub use service::{Closed, PoolStatus};
pub use single::TenantHandle;
pub use statements::{StatementFuture, Statements};
pub use stream::{BinaryCopyIn, BinaryCopyOut, CopyIn, CopyOut, Rows};
pub use tx::{AnyTx, PlatformTx, ReaderTx, TenantTx};

use crate::{
    config::Config,
    db::{
        identity::{self, DatabaseIdentity},
        message::{self, Answer},
        pool::{self, Pool, STAY_ON_ERROR},
        search_path::{SearchPathUser, refuse_writable, search_path},
    },
    error::{Error, Result, SetupError, TenantError, while_doing},
    ident::DatabaseTag,
    registry::aliases,
    search_path::SearchPath,
    slug::TenantSlug,
};
use alias::FormerSlugs;
use descriptions::Descriptions;
use lease::Lease;
use protocol::enter_sql;
use session::{Behind, CallerScope, recorded, span};
use std::{future::Future, marker::PhantomData, sync::Arc};
use tenant_limit::TenantLimit;
use tokio::sync::watch;

/// A service's handle to the database. It contains a pool of connections and provides access to each tenant. Cloning is
/// cheap.
///
/// `E` is the application's error type. It is set once, so that closures do not have to name it:
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
    /// The limit of each tenant; `None`: the whole pool.
    tenant_limit: Option<Arc<TenantLimit>>,
    config: Config,
    database: String,
    tag: DatabaseTag,
    descriptions: Arc<Descriptions>,
    search_path: SearchPath,
    former: FormerSlugs,
    /// Whether the pool was closed.
    closed: watch::Sender<bool>,
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
    /// Creates the pool and opens its first connection, so that a wrong address is reported now and not at the first
    /// request.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: when the server cannot be reached. Kind `Denied`: when the server refuses the login. Kind
    /// `NotFound`: when the database does not exist. Kind `Invalid`: when the TLS files cannot be used. Kind
    /// `Conflict`: in three cases.
    ///
    /// - A schema cannot be in the search path ([`SetupError::SearchPathUnfit`]). For instance, PUBLIC, a tenant's
    ///   role, or a login other than the operator's may create in `public`.
    /// - The database is a copy of another one ([`SetupError::DatabaseCopied`]).
    /// - Its isolation differs from the configuration ([`SetupError::IsolationMismatch`]).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed.
    pub async fn connect(config: &Config) -> Result<Self> {
        let pool = pool::build(config, enter_sql)?;
        let first = Lease::new(pool::take(&pool, config).await?, pool.clone());
        let client = first.connection().client();
        let doing = || while_doing(format!("look at the server at {}", config.target()));
        message::run(client, STAY_ON_ERROR).await.and_then(Answer::complete).map_err(doing())?;
        let (database, identity) = identity::read(client).await.map_err(doing())?;
        // Before its first setup, a database has no tenants and may have PostgreSQL's default privileges.
        let is_set_up = matches!(identity, DatabaseIdentity::Recorded(_));
        let tag = match identity {
            DatabaseIdentity::Recorded(tag) => tag,
            DatabaseIdentity::Unrecorded => DatabaseTag::of(&database),
            DatabaseIdentity::Copied => return Err(Error::Setup(SetupError::DatabaseCopied { database })),
        };
        let modes = identity::isolation_modes(client).await.map_err(doing())?;
        identity::refuse_isolation(&database, modes, config)?;
        let search_path = search_path(client, config, &tag, SearchPathUser::Service).await?;
        if is_set_up {
            refuse_writable(client, &search_path, &tag, SearchPathUser::Service).await?;
        }
        let former = FormerSlugs::default();
        aliases::all(client).await.map_err(doing())?.into_iter().for_each(|slug| former.learn(slug));
        match search_path.further() {
            [] => first.roll_back().await,
            // The prepared entering statement of this connection does not contain the additional schemas.
            _ => first.discard(),
        }
        pool.manager().know_search_path(search_path.clone());
        let descriptions = Arc::new(Descriptions::new(config.pool().descriptions_max));
        let inner = Inner {
            pool,
            tenant_limit: TenantLimit::new(config.pool()),
            config: config.clone(),
            database,
            tag,
            descriptions,
            search_path,
            former,
            closed: watch::Sender::new(false),
        };
        Ok(Self { inner: Arc::new(inner), error: PhantomData })
    }
}

impl<E> Db<E> {
    /// Returns the same handle with another error type for its closures.
    pub fn errors<E2>(&self) -> Db<E2> {
        Db { inner: Arc::clone(&self.inner), error: PhantomData }
    }

    /// Returns the text that represents the database in names. It was read when the handle was created.
    #[cfg(feature = "redis")]
    pub(crate) fn database_tag(&self) -> &DatabaseTag {
        &self.inner.tag
    }

    /// Returns the configuration of the handle.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }
}

impl<E: From<Error> + Send> Db<E> {
    /// Runs `body` in a transaction that sees only one tenant. Commits if it returns `Ok`. Rolls back if it returns
    /// `Err`, panics or is dropped.
    ///
    /// The search path is `tenant_<slug>, public`, the schemas of extensions, `pg_temp`. In role mode the transaction
    /// also runs as the tenant's own role. The database then refuses access to another tenant's table, even by its full
    /// name.
    ///
    /// One message opens the transaction and checks all this. It is sent together with the first statement, without a
    /// round trip of its own. If the server refuses the message, it does not run the statement. Behind a pooler, the
    /// first statement waits for the response, which takes one more round trip.
    ///
    /// The body itself starts before the response arrives. If the body has effects outside the database, it should
    /// cause them after its first statement.
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
    /// A transaction has exactly one tenant. A second tenant needs its own call, which uses another connection.
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
    /// The tenant's advisory lock ([`lock::tenant_key`](crate::lock::tenant_key)), shared, until the end of the
    /// transaction. A drop or rename of the tenant waits for it.
    ///
    /// # Errors
    ///
    /// The error of the body, and these kinds. If the tenant cannot be entered (the kinds from `NotFound` to `Conflict`),
    /// no statement of the body was executed.
    ///
    /// - `NotFound`, `Suspended`, `NotReady`: the tenant cannot be entered.
    /// - `Locked`: another session held the tenant's lock until `lock_timeout`.
    /// - `Denied`: the login lacks a right that it needs to enter the tenant.
    /// - `Conflict`: PUBLIC, the tenant's role or the service's login may create in `public` or in a schema of
    ///   extensions. (The operator's login may.) Or the schema belongs to another organization, or the database does
    ///   not accept the configured isolation.
    /// - `Refused`: a statement failed and the body returned `Ok`, or a statement's future was dropped before the
    ///   statement was sent. Or the body left the tenant or ended the transaction. Nothing that was still open is
    ///   committed. Also `Refused`, before the body starts: the task holds so many connections of the pool that the
    ///   pool cannot provide another one.
    /// - `Failed`: the server refused the COMMIT, for instance because of a deferred constraint. Nothing is committed.
    /// - `CommitUnknown`: the connection was lost around COMMIT.
    /// - `Unavailable`: no connection became free in time, in the pool or among those of the tenant
    ///   ([`tenant_connections_max`](crate::config::PoolSettings::tenant_connections_max)), the pool is closed, or the
    ///   connection was lost before COMMIT was sent. Or the server refused the entry for a reason that no longer exists.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before COMMIT is sent, nothing is committed. If it is dropped later, everything may be
    /// committed. In both cases, a separate task rolls back, so the next user of the connection finds no state of the
    /// transaction. If a statement is still running, that task cancels the statement and discards the connection.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn with_tenant<T: Send, F: TenantFn<T, E>>(
        &self,
        slug: &TenantSlug,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        async move { self.with_tenant_in(slug, &TxOptions::default(), body).await }
    }

    /// Runs [`with_tenant`](Self::with_tenant) with options, such as an isolation level or read-only.
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
    /// Same as [`with_tenant`](Self::with_tenant).
    ///
    /// # Cancel safety
    ///
    /// Same as [`with_tenant`](Self::with_tenant).
    pub fn with_tenant_in<T: Send, F: TenantFn<T, E>>(
        &self,
        slug: &TenantSlug,
        options: &TxOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        let span = span(CallerScope::Tenant(slug), "with_tenant");
        let work = async move {
            let mut session = self.open(CallerScope::Tenant(slug), options).await?;
            if options.waits_for_entry() && session.shared.entered().await.is_err() {
                match Box::pin(self.why_refused(session.shared, Behind::Nothing)).await {
                    // The handle knows this now.
                    Error::Tenant(TenantError::Renamed { .. }) => {
                        session = self.open(CallerScope::Tenant(slug), options).await?;
                    }
                    error => return Err(error.into()),
                }
            }
            let mut tx = TenantTx::new(&session.shared);
            let outcome = session.context.clone().scope(body(&mut tx)).await;
            self.close_session(session, outcome).await.map_err(|failed| failed.error)
        };
        recorded(span, work)
    }
}
