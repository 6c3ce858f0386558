//! The pool of a service's connections.

use super::{connect::refused, message, tls};
use crate::{
    config::{Config, Isolation, Pooling},
    error::{ConnectionError, Error, Result},
    search_path::SearchPath,
    telemetry::{self, Retired, Waited},
};
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, RecyclingMethod};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::{CancelToken, Client, Socket, Statement, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A pooled connection and what is remembered of it.
pub(crate) struct Connection {
    /// Shared with answers that are still awaited; nobody else keeps it.
    client: Arc<ClientWrapper>,
    born: Instant,
    /// The statement that enters a tenant; `None` where it cannot be prepared, as before the registry is there.
    entry: Option<Statement>,
    /// The isolation level of a transaction that names none.
    default_isolation: String,
    /// How the statement that enters a tenant begins here.
    check: IsolationCheck,
    /// How many statements the driver has prepared for itself, when that was last looked at.
    drivers: AtomicUsize,
    /// The tenants it has been in.
    tenants: Mutex<HashSet<Box<str>>>,
}

/// Whether entering a tenant checks that the database accepts the isolation of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolationCheck {
    Checked,
    /// The database did not say it when the connection was made: no setup has written it down.
    Unchecked,
}

/// The statement that enters a tenant, by whether it checks the isolation, and by the search path.
pub(crate) type EntrySql = fn(Isolation, IsolationCheck, &SearchPath) -> String;

pub(crate) type Pool = managed::Pool<ConnectionManager>;
pub(crate) type Lease = managed::Object<ConnectionManager>;

/// What a session holds while it waits in the pool: it ends at any error outside of a transaction of ours.
///
/// Whatever is sent behind a BEGIN that fails, as one does that a cancel request meets, would run by itself and as the login.
/// So the session ends with that failure, and with it all that was sent.
pub(crate) const EXIT_ON_ERROR: &str = "set exit_on_error = on";
/// Takes that back, for a look outside of a transaction that may fail.
pub(crate) const STAY_ON_ERROR: &str = "set exit_on_error = off";

/// How many statements of the driver's own a connection may hold: it has three, and each again that was not waited for.
const DRIVERS_MAX: usize = 16;

/// The isolation level of a transaction that names none, and whether the database says how it keeps tenants apart.
const LOOK: &str = "select pg_catalog.current_setting('default_transaction_isolation'), exists (
    select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.proname = 'cgk_isolation_modes' and p.pronargs = 0 and n.nspname = 'public')";

/// How long a cancel request may take; the connection it is for is thrown away either way.
const CANCEL_MAX: Duration = Duration::from_secs(5);

pub(crate) struct ConnectionManager {
    /// deadpool-postgres makes, watches and ends connections; what it does not have is a place for per-connection state.
    inner: Manager,
    tls: MakeRustlsConnect,
    age_max: Duration,
    tenants_max: usize,
    /// What enters a tenant, prepared on each connection.
    entry_sql: EntrySql,
    /// What the first connection has found out.
    search_path: OnceLock<SearchPath>,
    isolation: Isolation,
    pooling: Pooling,
}

impl Connection {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The client, to be kept until an answer has come.
    pub(crate) fn shared_client(&self) -> Arc<ClientWrapper> {
        Arc::clone(&self.client)
    }

    /// The statement that enters a tenant, where it is prepared.
    pub(crate) fn entry_statement(&self) -> Option<Statement> {
        self.entry.clone()
    }

    /// Whether entering a tenant on this connection checks the database's isolation.
    pub(crate) fn isolation_check(&self) -> IsolationCheck {
        self.check
    }

    /// The isolation level of a transaction that names none.
    pub(crate) fn default_isolation(&self) -> &str {
        &self.default_isolation
    }

    /// Whether a session with this many statements that enter a tenant, and this many of the driver's, has what it should.
    /// The driver makes its own when it needs them, and never drops one.
    pub(crate) fn has_its_statements(&self, entry: usize, drivers: usize) -> bool {
        entry == 1 && self.drivers.swap(drivers, Ordering::Relaxed) <= drivers && drivers <= DRIVERS_MAX
    }

    /// Notes that the connection is used for a tenant.
    pub(crate) fn visit(&self, tenant: &str) {
        let mut tenants = self.lock(&self.tenants);
        if !tenants.contains(tenant) {
            tenants.insert(tenant.into());
        }
    }

    fn tenants(&self) -> usize {
        self.lock(&self.tenants).len()
    }

    fn lock<'a, T>(&self, held: &'a Mutex<T>) -> MutexGuard<'a, T> {
        // What is locked here is whole after every call, so a panic elsewhere under the lock leaves nothing half done.
        held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionManager {
    fn new(config: &Config, entry_sql: EntrySql) -> Result<Self> {
        let tls = tls::connector(config.tls())?;
        // "Fast" checks that the connection is open and nothing else: every transaction of ours ends with a scrub.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        Ok(Self {
            inner: Manager::from_config(config.pg().clone(), tls.clone(), recycling),
            tls,
            age_max: config.pool().connection_age_max,
            tenants_max: config.pool().tenants_per_connection_max,
            entry_sql,
            search_path: OnceLock::new(),
            isolation: config.isolation(),
            pooling: config.pooling(),
        })
    }

    /// Prepares the statement that enters a tenant, and looks at what a new connection needs to know.
    async fn look(
        &self,
        client: &Client,
    ) -> Result<(Option<Statement>, String, IsolationCheck), tokio_postgres::Error> {
        let look = client.query_typed(LOOK, &[]);
        let path = self.search_path.get().cloned().unwrap_or_default();
        let prepare = async |check| client.prepare(&(self.entry_sql)(self.isolation, check, &path)).await.ok();
        let (mut entry, look) = match self.pooling {
            Pooling::Direct => tokio::join!(prepare(IsolationCheck::Checked), look),
            Pooling::Transaction => (None, look.await),
        };
        let (default_isolation, says_isolation) = match look?.first() {
            Some(row) => (row.try_get(0)?, row.try_get(1)?),
            None => (String::from("read committed"), false),
        };
        let check = if says_isolation { IsolationCheck::Checked } else { IsolationCheck::Unchecked };
        if self.pooling == Pooling::Direct && check == IsolationCheck::Unchecked {
            entry = prepare(check).await;
        }
        if self.pooling == Pooling::Direct {
            // Last of all: what fails above, as a statement that cannot be prepared, must not end the session.
            message::run(client, EXIT_ON_ERROR).await?.complete()?;
        }
        Ok((entry, default_isolation, check))
    }

    /// Says which schemas the connections that are made from now on have in their search path.
    pub(crate) fn know_search_path(&self, path: SearchPath) {
        let _ = self.search_path.set(path);
    }

    /// What stands between the pool and the server.
    pub(crate) fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Asks the server to stop what the connection of this token is running. The driver returns before the server has acted,
    /// so the connection must not be used again.
    pub(crate) fn cancel(&self, token: CancelToken) -> impl Future<Output = ()> + Send + 'static {
        let tls = self.tls.clone();
        async move {
            match tokio::time::timeout(CANCEL_MAX, token.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "cancel request failed"),
                Err(_) => tracing::debug!("cancel request timed out"),
            }
        }
    }
}

impl managed::Manager for ConnectionManager {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, tokio_postgres::Error> {
        let client = managed::Manager::create(&self.inner).await?;
        // Boxed, so that the futures of a service's requests, which hold this one, stay small.
        let (entry, default_isolation, check) = Box::pin(self.look(&client)).await?;
        Ok(Connection {
            client: Arc::new(client),
            born: Instant::now(),
            entry,
            default_isolation,
            check,
            drivers: AtomicUsize::new(0),
            tenants: Mutex::default(),
        })
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<tokio_postgres::Error> {
        if connection.born.elapsed() > self.age_max {
            telemetry::connection_retired(Retired::Age);
            return Err(RecycleError::message("the connection is old enough"));
        }
        if connection.tenants() > self.tenants_max {
            telemetry::connection_retired(Retired::Tenants);
            return Err(RecycleError::message("the connection has seen enough tenants"));
        }
        let Some(client) = Arc::get_mut(&mut connection.client) else {
            telemetry::connection_retired(Retired::Unanswered);
            return Err(RecycleError::message("an answer is still awaited on the connection"));
        };
        managed::Manager::recycle(&self.inner, client, metrics).await
    }

    fn detach(&self, connection: &mut Connection) {
        if let Some(client) = Arc::get_mut(&mut connection.client) {
            managed::Manager::detach(&self.inner, client);
        }
    }
}

/// Builds the pool; connects nothing yet. `entry_sql` is the statement that enters a tenant.
pub(crate) fn build(config: &Config, entry_sql: EntrySql) -> Result<Pool> {
    let settings = config.pool();
    let pool = Pool::builder(ConnectionManager::new(config, entry_sql)?)
        .max_size(settings.size_max)
        .wait_timeout(Some(settings.wait))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .expect("a runtime for the time-outs is given");
    Ok(pool)
}

/// Takes a connection, waiting no longer than the configuration says.
pub(crate) async fn take(pool: &Pool, config: &Config) -> Result<Lease> {
    let began = Instant::now();
    let taken = pool.get().await;
    let waited = match &taken {
        Ok(_) => Waited::Taken,
        Err(managed::PoolError::Timeout(_)) => Waited::Timeout,
        Err(_) => Waited::Failed,
    };
    telemetry::pool_waited(began.elapsed(), waited);
    taken.map_err(|error| match error {
        managed::PoolError::Timeout(_) => {
            let waited = config.pool().wait;
            tracing::warn!(?waited, size_max = config.pool().size_max, "no connection of the pool became free in time");
            Error::Connection(ConnectionError::PoolTimeout { waited })
        }
        managed::PoolError::Backend(source) => refused(config, source),
        managed::PoolError::Closed => ConnectionError::PoolClosed.into(),
        other => Error::Unexpected { doing: "take a connection from the pool".into(), found: other.to_string() },
    })
}

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Makes a connection that is not of the pool.
pub(crate) async fn connect_apart(
    pool: &Pool,
    config: &Config,
) -> Result<(Client, tokio_postgres::Connection<Socket, TlsStream>)> {
    config.pg().connect(pool.manager().tls.clone()).await.map_err(|source| refused(config, source))
}
