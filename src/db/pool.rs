//! The pool of a service's connections.

use super::{connect::refused, tls};
use crate::{
    config::{Config, Pooling},
    error::{Error, Result},
};
use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use deadpool_postgres::{ClientWrapper, Manager, ManagerConfig, RecyclingMethod};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::{CancelToken, Client, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A pooled connection and what is remembered of it.
pub(crate) struct Connection {
    /// Shared with answers that are still awaited; nobody else keeps it.
    client: Arc<ClientWrapper>,
    born: Instant,
    statements: Mutex<StatementCache>,
    /// cgk's own checks: at most one of each kind and isolation.
    checks: Mutex<Vec<(String, Statement)>>,
    /// The tenants it has been in.
    tenants: Mutex<HashSet<Box<str>>>,
    /// How many statements were sent to be prepared and nobody waited for the answer: the server keeps them for good.
    abandoned: AtomicUsize,
}

pub(crate) type Pool = managed::Pool<ConnectionManager>;
pub(crate) type Lease = managed::Object<ConnectionManager>;

/// How many abandoned statements a connection may have before it is replaced.
const ABANDONED_MAX: usize = 16;

/// How long a cancel request may take; the connection it is for is thrown away either way.
const CANCEL_MAX: Duration = Duration::from_secs(5);

pub(crate) struct ConnectionManager {
    /// deadpool-postgres makes, watches and ends connections; what it does not have is a place for per-connection state.
    inner: Manager,
    tls: MakeRustlsConnect,
    age_max: Duration,
    statements_max: usize,
    tenants_max: usize,
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

    /// The statement prepared on this connection for a tenant, if there is one.
    ///
    /// The key holds the tenant because the server plans a statement again whenever the search path has changed since its
    /// last use; one statement a tenant keeps its plan.
    pub(crate) fn prepared(&self, tenant: &str, sql: &str) -> Option<Statement> {
        self.cache().get(tenant, sql)
    }

    /// Prepares a statement on this connection for a tenant and keeps it.
    pub(crate) async fn prepare(&self, tenant: &str, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        let prepared = self.client.prepare(sql).await;
        self.abandoned.fetch_sub(1, Ordering::Relaxed);
        let statement = prepared?;
        self.cache().put(tenant, sql, statement.clone());
        Ok(statement)
    }

    /// One of cgk's own checks, prepared once a connection; `None` where the server refuses it, as it does before the
    /// registry is there.
    pub(crate) async fn check(&self, sql: &str) -> Option<Statement> {
        if let Some(known) = self.known_check(sql) {
            return Some(known);
        }
        let statement = self.client.prepare(sql).await.ok()?;
        self.lock(&self.checks).push((sql.to_owned(), statement.clone()));
        Some(statement)
    }

    /// One of cgk's own checks, if it is prepared.
    pub(crate) fn known_check(&self, sql: &str) -> Option<Statement> {
        self.lock(&self.checks).iter().find(|(known, _)| known == sql).map(|(_, statement)| statement.clone())
    }

    pub(crate) fn forget(&self, tenant: &str, sql: &str) {
        self.cache().remove(tenant, sql);
    }

    pub(crate) fn forget_all(&self) {
        self.cache().entries.clear();
        self.lock(&self.checks).clear();
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

    fn cache(&self) -> MutexGuard<'_, StatementCache> {
        self.lock(&self.statements)
    }

    fn lock<'a, T>(&self, held: &'a Mutex<T>) -> MutexGuard<'a, T> {
        // What is locked here is whole after every call, so a panic elsewhere under the lock leaves nothing half done.
        held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionManager {
    fn new(config: &Config) -> Result<Self> {
        let tls = tls::connector(config.tls())?;
        // "Fast" checks that the connection is open and nothing else: every transaction of ours ends with a scrub.
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        Ok(Self {
            inner: Manager::from_config(config.pg().clone(), tls.clone(), recycling),
            tls,
            age_max: config.pool().connection_age_max,
            statements_max: config.pool().statements_per_connection_max,
            tenants_max: config.pool().tenants_per_connection_max,
            pooling: config.pooling(),
        })
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
        let statements = Mutex::new(StatementCache::new(self.statements_max));
        Ok(Connection {
            client: Arc::new(client),
            born: Instant::now(),
            statements,
            checks: Mutex::default(),
            tenants: Mutex::default(),
            abandoned: AtomicUsize::new(0),
        })
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<tokio_postgres::Error> {
        if connection.born.elapsed() > self.age_max {
            return Err(RecycleError::message("the connection is old enough"));
        }
        if connection.tenants() > self.tenants_max {
            return Err(RecycleError::message("the connection has seen enough tenants"));
        }
        if *connection.abandoned.get_mut() > ABANDONED_MAX {
            return Err(RecycleError::message("the connection has too many statements that nobody waited for"));
        }
        let Some(client) = Arc::get_mut(&mut connection.client) else {
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

/// Builds the pool; connects nothing yet.
pub(crate) fn build(config: &Config) -> Result<Pool> {
    let settings = config.pool();
    let pool = Pool::builder(ConnectionManager::new(config)?)
        .max_size(settings.size_max)
        .wait_timeout(Some(settings.wait))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .expect("a runtime for the time-outs is given");
    Ok(pool)
}

/// Takes a connection, waiting no longer than the configuration says.
pub(crate) async fn take(pool: &Pool, config: &Config) -> Result<Lease> {
    pool.get().await.map_err(|error| match error {
        managed::PoolError::Timeout(_) => Error::PoolTimeout { waited: config.pool().wait },
        managed::PoolError::Backend(source) => refused(config, source),
        other => Error::Unexpected { doing: "take a connection from the pool".into(), found: other.to_string() },
    })
}

/// Prepared statements by tenant and text, the least recently used leaving first.
struct StatementCache {
    entries: HashMap<(Arc<str>, Arc<str>), Entry>,
    entries_max: usize,
    clock: u64,
}

struct Entry {
    statement: Statement,
    used: u64,
}

impl StatementCache {
    fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), entries_max, clock: 0 }
    }

    fn get(&mut self, tenant: &str, sql: &str) -> Option<Statement> {
        self.clock += 1;
        let entry = self.entries.get_mut(&(tenant.into(), sql.into()))?;
        entry.used = self.clock;
        Some(entry.statement.clone())
    }

    fn put(&mut self, tenant: &str, sql: &str, statement: Statement) {
        if self.entries_max == 0 {
            return;
        }
        let key = (Arc::from(tenant), Arc::from(sql));
        if self.entries.len() >= self.entries_max
            && !self.entries.contains_key(&key)
            && let Some(oldest) = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
        {
            self.entries.remove(&oldest);
        }
        self.entries.insert(key, Entry { statement, used: self.clock });
    }

    fn remove(&mut self, tenant: &str, sql: &str) {
        self.entries.remove(&(tenant.into(), sql.into()));
    }
}
