//! The pool of a service's connections.

use super::{cancel::PoolerAddress, connect::refused, message, tls};
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

/// A pooled connection and its state.
pub(crate) struct Connection {
    /// The client. Only code that waits for a response shares it.
    client: Arc<ClientWrapper>,
    born: Instant,
    /// The statement that enters a tenant. `None` if it cannot be prepared, for instance before the registry exists.
    entry: Option<Statement>,
    /// The isolation level of a transaction whose options set none.
    default_isolation: String,
    /// The variant of the entering statement for this connection.
    check: IsolationCheck,
    /// Whether the server can detect a lost client while a statement runs.
    notices_lost_clients: bool,
    /// The number of its own statements that the driver had prepared at the last check.
    drivers: AtomicUsize,
    /// The tenants that used this connection.
    tenants: Mutex<HashSet<Box<str>>>,
}

/// Whether the entry into a tenant checks that the database accepts the isolation of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IsolationCheck {
    Checked,
    /// The database had recorded no isolation when the connection was opened.
    Unchecked,
}

/// The statement that enters a tenant, depending on the isolation check and the search path.
pub(crate) type EntrySql = fn(Isolation, IsolationCheck, &SearchPath) -> String;

pub(crate) type Pool = managed::Pool<ConnectionManager>;
pub(crate) type PooledConnection = managed::Object<ConnectionManager>;

/// The setting of a session while it is in the pool. The session then ends at any error outside of cgk's transactions.
///
/// If a BEGIN fails, for instance because of a cancel request, the statements after it would run outside of a
/// transaction and as the login. With this setting the session ends with that failure, and none of them runs.
pub(crate) const EXIT_ON_ERROR: &str = "set exit_on_error = on";
/// Turns that setting off, for a query outside of a transaction that may fail.
pub(crate) const STAY_ON_ERROR: &str = "set exit_on_error = off";

/// The maximum number of its own statements that the driver may have on a connection. The driver has three, and
/// duplicates of those whose caller was dropped.
const DRIVERS_MAX: usize = 16;

/// Whether the server can detect a lost client while a statement runs.
pub(super) const NOTICES_LOST_CLIENTS: &str = "pg_catalog.version() operator(pg_catalog.~~) '%linux%'";

/// Reads the isolation level of a transaction that sets none, and whether the database has recorded how it separates
/// tenants.
const CONNECTION_FACTS: &str = "select pg_catalog.current_setting('default_transaction_isolation'), exists (
    select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where p.proname = 'cgk_isolation_modes' and p.pronargs = 0 and n.nspname = 'public')";

/// The facts that a new connection needs.
struct ConnectionFacts {
    entry: Option<Statement>,
    default_isolation: String,
    check: IsolationCheck,
    notices_lost_clients: bool,
}

/// The maximum time of a cancel request. The connection is discarded in any case.
const CANCEL_MAX: Duration = Duration::from_secs(5);

pub(crate) struct ConnectionManager {
    /// The manager of deadpool-postgres opens, checks and closes connections. This wrapper adds state to each
    /// connection.
    inner: Manager,
    tls: MakeRustlsConnect,
    age_max: Duration,
    tenants_max: usize,
    /// The entering statement. It is prepared on each connection.
    entry_sql: EntrySql,
    /// The additional schemas in the search path. The first connection finds them.
    search_path: OnceLock<SearchPath>,
    isolation: Isolation,
    pooling: Pooling,
    /// The address for cancel requests if a pooler is between the pool and the server.
    pooler: Option<PoolerAddress>,
    /// The name of the pool in metrics.
    name: Arc<str>,
}

impl Connection {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the client, to be stored until a response has arrived.
    pub(crate) fn shared_client(&self) -> Arc<ClientWrapper> {
        Arc::clone(&self.client)
    }

    /// Returns the entering statement, if it is prepared.
    pub(crate) fn entry_statement(&self) -> Option<Statement> {
        self.entry.clone()
    }

    /// Returns whether the entry into a tenant on this connection checks the database's isolation.
    pub(crate) fn isolation_check(&self) -> IsolationCheck {
        self.check
    }

    /// Returns whether the server can detect a lost client while a statement runs.
    pub(crate) fn notices_lost_clients(&self) -> bool {
        self.notices_lost_clients
    }

    /// Returns the isolation level of a transaction whose options set none.
    pub(crate) fn default_isolation(&self) -> &str {
        &self.default_isolation
    }

    /// Returns whether a session has the expected prepared statements, by the numbers of entering statements and driver
    /// statements. The driver prepares its own statements when it needs them, and never drops one.
    pub(crate) fn has_its_statements(&self, entry: usize, drivers: usize) -> bool {
        entry == 1 && self.drivers.swap(drivers, Ordering::Relaxed) <= drivers && drivers <= DRIVERS_MAX
    }

    /// Records that the connection is used for a tenant.
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
        // The locked value is consistent after every call. So it can be used after a panic of other code that had the
        // lock.
        held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionManager {
    fn new(config: &Config, entry_sql: EntrySql) -> Result<Self> {
        let tls = tls::connector(config.tls())?;
        // "Fast" only checks that the connection is open. It is enough, because every transaction of cgk ends with a
        // scrub.
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
            pooler: (config.pooling() == Pooling::Transaction).then(|| PoolerAddress::of(config.pg())).flatten(),
            name: config.session().application_name.as_str().into(),
        })
    }

    /// Prepares the entering statement, and reads the facts that a new connection needs.
    async fn read_facts(&self, client: &Client) -> Result<ConnectionFacts, tokio_postgres::Error> {
        let sql = format!("{CONNECTION_FACTS}, {NOTICES_LOST_CLIENTS}");
        let facts = client.query_typed(&sql, &[]);
        let path = self.search_path.get().cloned().unwrap_or_default();
        let prepare = async |check| client.prepare(&(self.entry_sql)(self.isolation, check, &path)).await.ok();
        let (mut entry, facts) = match self.pooling {
            Pooling::Direct => tokio::join!(prepare(IsolationCheck::Checked), facts),
            Pooling::Transaction => (None, facts.await),
        };
        let (default_isolation, says_isolation, notices_lost_clients) = match facts?.first() {
            Some(row) => (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?),
            None => (String::from("read committed"), false, false),
        };
        let check = if says_isolation { IsolationCheck::Checked } else { IsolationCheck::Unchecked };
        if self.pooling == Pooling::Direct && check == IsolationCheck::Unchecked {
            entry = prepare(check).await;
        }
        if self.pooling == Pooling::Direct {
            // This is the last statement. A failure above, such as a statement that cannot be prepared, must not end
            // the session.
            message::run(client, EXIT_ON_ERROR).await?.complete()?;
        }
        Ok(ConnectionFacts { entry, default_isolation, check, notices_lost_clients })
    }

    /// Sets the additional schemas in the search path of future connections.
    pub(crate) fn know_search_path(&self, path: SearchPath) {
        let _ = self.search_path.set(path);
    }

    /// Returns whether a pooler is between the pool and the server.
    pub(crate) fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Asks the server to cancel the statement that the connection of this token is running. The driver returns before
    /// the server has acted, so the connection must not be used again.
    pub(crate) fn cancel(&self, token: CancelToken) -> impl Future<Output = ()> + Send + 'static {
        let (tls, pooler) = (self.tls.clone(), self.pooler.clone());
        let send = async move {
            match pooler {
                Some(pooler) => pooler.cancel(token, tls).await,
                None => Ok(token.cancel_query(tls).await?),
            }
        };
        async move {
            match tokio::time::timeout(CANCEL_MAX, send).await {
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
        // The future is boxed, so that the futures of a service's requests, which contain this one, stay small.
        let ConnectionFacts { entry, default_isolation, check, notices_lost_clients } =
            Box::pin(self.read_facts(&client)).await?;
        Ok(Connection {
            client: Arc::new(client),
            born: Instant::now(),
            entry,
            default_isolation,
            check,
            notices_lost_clients,
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

/// Creates the pool without connecting. `entry_sql` returns the statement that enters a tenant.
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

/// Records the load of the pool in gauges. It is called when a connection is taken, returned or discarded.
pub(crate) fn record_load(pool: &Pool) {
    telemetry::pool_load(&pool.manager().name, || {
        let status = pool.status();
        (status.size, status.available, status.waiting)
    });
}

/// Takes a connection. The configuration limits the wait.
pub(crate) async fn take(pool: &Pool, config: &Config) -> Result<PooledConnection> {
    let began = Instant::now();
    let taken = pool.get().await;
    record_load(pool);
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

/// Opens a connection outside of the pool.
pub(crate) async fn connect_apart(
    pool: &Pool,
    config: &Config,
) -> Result<(Client, tokio_postgres::Connection<Socket, TlsStream>)> {
    config.pg().connect(pool.manager().tls.clone()).await.map_err(|source| refused(config, source))
}
