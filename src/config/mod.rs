//! The configuration: the address of the database, the session settings and the limits.
//!
//! # Sources of values
//!
//! In order of precedence: command-line flags, environment variables, `.env` in the working directory, `cgk.toml` in
//! the working directory, defaults. A [`Config`] records the source of each value; see [`Config::settings`]. An empty
//! variable counts as unset. Only `DATABASE_URL` is required.
//!
//! | `cgk.toml` | variable |
//! |---|---|
//! | `database_url`, without a password | `DATABASE_URL` |
//! | `database_url_file` | `CGK_DATABASE_URL_FILE` |
//! | `direct_url`, without a password | `CGK_DIRECT_URL` |
//! | `direct_url_file` | `CGK_DIRECT_URL_FILE` |
//! | | `CGK_CONFIG`: another file instead of `cgk.toml` |
//! | | `CGK_INSECURE_PLAINTEXT` |
//! | `migrations`: a directory | `CGK_MIGRATIONS` |
//! | `isolation`: `"role"` or `"path"` | `CGK_ISOLATION` |
//! | `search_path`: `["extensions"]` | `CGK_SEARCH_PATH`: separated by commas |
//! | `pooled`: `true` or `false` | `CGK_POOLED` |
//! | `[session]` `application_name` | `CGK_APPLICATION_NAME` |
//! | `[session]` `lock_timeout`: `"3s"` | `CGK_LOCK_TIMEOUT` |
//! | `[session]` `statement_timeout` | `CGK_STATEMENT_TIMEOUT` |
//! | `[session]` `migration_statement_timeout` | `CGK_MIGRATION_STATEMENT_TIMEOUT` |
//! | `[session]` `migration_wait` | `CGK_MIGRATION_WAIT` |
//! | `[session]` `idle_in_transaction_timeout` | `CGK_IDLE_IN_TRANSACTION_TIMEOUT` |
//! | `[pool]` `size_max` | `CGK_POOL_SIZE_MAX` |
//! | `[pool]` `tenant_connections_max` | `CGK_POOL_TENANT_CONNECTIONS_MAX` |
//! | `[pool]` `wait` | `CGK_POOL_WAIT` |
//! | `[pool]` `connection_age_max` | `CGK_POOL_CONNECTION_AGE_MAX` |
//! | `[pool]` `tenants_per_connection_max` | `CGK_POOL_TENANTS_PER_CONNECTION_MAX` |
//! | `[pool]` `descriptions_max` | `CGK_POOL_DESCRIPTIONS_MAX` |
//!
//! Relative paths are relative to the file that contains them, otherwise to the working directory. A password in
//! `cgk.toml` is refused, because that file is usually under version control. In `.env`, `$` starts a substitution;
//! single quotes around the value prevent it.
//!
//! # The variables of libpq
//!
//! Gaps in the URL are filled as `psql` does it: from `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`,
//! `PGSSLMODE` and `PGSSLROOTCERT`, and the password from the file that `PGPASSFILE` names, or `~/.pgpass`. These
//! variables are read from the environment only, not from `.env`. Without any URL, `PGDATABASE` must be set: cgk does
//! not guess the database. [`Config::from_url`] reads none of them.
//!
//! # Connection URLs
//!
//! `postgresql://user:password@host:5432/database?sslmode=…`, with everything that libpq allows: several hosts, IPv6
//! addresses in brackets, socket directories, and the `key=value` form. Options of other programs are ignored with a
//! [notice](Config::notices). An option that cgk cannot support is an error.
//!
//! Connections to a server on this machine use no TLS unless the URL asks for it. Connections to any other server use
//! TLS, and the certificate and host name are verified, also if `sslmode` is missing, `prefer`, `require`, `verify-ca`
//! or `verify-full`. `sslrootcert` names the certificate authorities to trust instead of the system's.

mod address;
mod connection_string;
mod dotenv;
mod dsn;
mod env;
mod error;
mod file;
mod ignore;
mod isolation_modes;
mod layers;
mod libpq_env;
#[cfg(feature = "migrate")]
mod libpq_variables;
mod load;
mod locate;
mod options;
mod origin;
mod overrides;
mod parts;
pub(crate) mod percent;
mod pooler;
mod settings;
mod show;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod url;
mod value;

use crate::ident::Ident;
use std::path::Path;
use std::time::Duration;

pub(crate) use error::ValueProblem;
pub use error::{ConfigError, ConfigErrorKind};
pub use ignore::IgnoreRule;
pub use isolation_modes::IsolationModes;
#[cfg(feature = "migrate")]
pub(crate) use libpq_variables::Variable;
pub use origin::{Origin, SettingOrigin};
pub use overrides::Overrides;
pub use settings::{Isolation, MigrationsFrom, PoolSettings, Pooling, RemotePlaintext, SessionSettings};
pub use target::{ConnectionTarget, TargetHost};
pub use tls::{ClientCert, RootCerts, TlsMode};

use address::Address;
use env::Sources;
use origin::Origins;
use pooler::Sign;

/// A complete and checked configuration.
///
/// `Debug` does not show the password.
///
/// ```
/// use cgk::config::{Config, TlsMode};
///
/// let config = Config::from_url("postgresql://app:secret@localhost/shop")?;
/// assert_eq!(config.target().to_string(), "postgresql://app@localhost:5432/shop");
/// assert_eq!(config.tls(), &TlsMode::Disable);
/// # Ok::<_, cgk::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    address: Address,
    direct: Option<Address>,
    plaintext: RemotePlaintext,
    isolation: Isolation,
    search_path: Option<Vec<Ident>>,
    pooling: Pooling,
    migrations: MigrationsFrom,
    session: SessionSettings,
    pool: PoolSettings,
    drift_ignore: Vec<IgnoreRule>,
    #[cfg_attr(not(feature = "platform"), allow(dead_code, reason = "the platform's secrets use it"))]
    secret_keys: Option<Hidden>,
    /// The `cgk.toml` that was read.
    config_file: Option<std::path::PathBuf>,
    origins: Origins,
    notices: Vec<String>,
}

/// A text that must not be logged.
#[derive(Clone)]
#[cfg_attr(not(feature = "platform"), allow(dead_code, reason = "the platform's secrets use it"))]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Config {
    /// Returns the text of `CGK_SECRET_KEYS`.
    #[cfg(feature = "platform")]
    pub(crate) fn secret_keys(&self) -> Option<&str> {
        self.secret_keys.as_ref().map(|hidden| hidden.0.as_str())
    }

    /// Returns the differences that `drift` and `verify` count and show as ignored: `[drift] ignore` of `cgk.toml`.
    pub fn drift_ignore(&self) -> &[IgnoreRule] {
        &self.drift_ignore
    }

    /// Returns the same configuration with other rules for [`drift_ignore`](Config::drift_ignore).
    #[must_use]
    pub fn with_drift_ignore(mut self, rules: Vec<IgnoreRule>) -> Self {
        self.drift_ignore = rules;
        self
    }

    /// Creates a configuration from a connection URL, with defaults for everything that the URL does not contain.
    ///
    /// Reads no environment variables and no files except the certificates that the URL names.
    ///
    /// # Errors
    ///
    /// - [`Invalid`](ConfigErrorKind::Invalid): the URL cannot be parsed.
    /// - [`Refused`](ConfigErrorKind::Refused): the URL contains a setting that cgk refuses.
    /// - [`Unreadable`](ConfigErrorKind::Unreadable): a certificate file cannot be read.
    ///
    /// An empty URL [is missing](ConfigError::is_missing_url).
    pub fn from_url(url: &str) -> Result<Config, ConfigError> {
        Config::from_url_with(url, RemotePlaintext::Refuse)
    }

    /// Like [`from_url`](Config::from_url), and sets whether connections to another machine may be unencrypted.
    ///
    /// # Errors
    ///
    /// The errors of [`from_url`](Config::from_url).
    pub fn from_url_with(url: &str, plaintext: RemotePlaintext) -> Result<Config, ConfigError> {
        if url.trim().is_empty() {
            return Err(locate::missing());
        }
        let address =
            Address::parse(url, plaintext, Path::new("")).map_err(|problem| problem.of("database_url", None))?;
        let mut config = Config::new(address, Origin::Code, plaintext);
        config.advise_pooling();
        config.apply_session_settings();
        Ok(config)
    }

    /// Reads the configuration from `cgk.toml` and `.env` in the working directory and from the environment.
    ///
    /// # Errors
    ///
    /// The errors of [`from_url`](Config::from_url), for every setting; and
    /// [`MissingUrl`](ConfigErrorKind::MissingUrl).
    pub fn load() -> Result<Config, ConfigError> {
        Config::load_with(Overrides::default())
    }

    /// Like [`load`](Config::load), with command-line flags, which have precedence.
    ///
    /// # Errors
    ///
    /// The errors of [`load`](Config::load).
    pub fn load_with(overrides: Overrides) -> Result<Config, ConfigError> {
        let sources = Sources::of_process().map_err(|problem| problem.of("working directory", None))?;
        load::load(overrides, &sources)
    }

    /// Returns the address of the connection.
    pub fn target(&self) -> &ConnectionTarget {
        &self.address.target
    }

    /// Returns whether the connection is encrypted, and which certificate authorities it trusts.
    pub fn tls(&self) -> &TlsMode {
        &self.address.tls
    }

    /// Returns how tenants are separated.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Returns the additional schemas of the search path. `None`: those of the database, which are set with ALTER
    /// DATABASE … SET search_path.
    pub fn search_path(&self) -> Option<&[Ident]> {
        self.search_path.as_deref()
    }

    /// Returns whether a pooler is between cgk and the server.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Returns the settings of every session.
    pub fn session(&self) -> &SessionSettings {
        &self.session
    }

    /// Returns the limits of the pool.
    pub fn pool(&self) -> &PoolSettings {
        &self.pool
    }

    /// Returns the source of the migrations.
    pub fn migrations(&self) -> &MigrationsFrom {
        &self.migrations
    }

    /// Returns notices for the user about the configuration, each a lower-case phrase without a full stop.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Returns the configuration for commands that change schemas: with the address in `CGK_DIRECT_URL` if it is set,
    /// otherwise this configuration. Its [`pooling`](Config::pooling) is [`Direct`](Pooling::Direct).
    ///
    /// # Errors
    ///
    /// [`Pooler`](ConfigErrorKind::Pooler): the only address is a transaction pooler. Either the configuration says so,
    /// or the address looks like one: a host such as `ep-x-pooler.…`, port 6432 or 6543, `pgbouncer=true`. An explicit
    /// `pooled = false` has precedence over the address.
    pub fn for_ddl(&self) -> Result<Config, ConfigError> {
        let mut config = self.clone();
        if let Some(direct) = config.direct.take() {
            config.address = direct;
            config.pooling = Pooling::Direct;
            let origin = self.origins.get("direct_url");
            config.origins.set("database_url", origin.clone());
            config.origins.set("pooled", origin);
            return Ok(config);
        }
        let pooler = match self.pooling {
            Pooling::Direct if self.origins.get("pooled") != Origin::Default => None,
            Pooling::Direct => pooler::detect(&self.address),
            Pooling::Transaction => {
                Some(pooler::detect(&self.address).unwrap_or_else(|| pooler::declared(Sign::Pooled)))
            }
        };
        match pooler {
            Some(pooler) => Err(pooler.problem().of("database_url", Some(self.origins.get("database_url")))),
            None => Ok(config),
        }
    }

    /// Returns a configuration for another database of the same server.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Config {
        let mut config = self.clone();
        config.address = self.address.with_database(name);
        config.direct = self.direct.as_ref().map(|direct| direct.with_database(name));
        config
    }

    /// Returns the connection URL of another login on the same server and database, including its password, with the
    /// TLS settings of this configuration.
    ///
    /// ```
    /// let config = cgk::Config::from_url("postgresql://cgk:secret@db.example.com/shop?sslmode=verify-full")?;
    /// assert_eq!(
    ///     config.url_of("app", Some("p@ss")),
    ///     "postgresql://app:p%40ss@db.example.com:5432/shop?sslmode=verify-full"
    /// );
    /// # Ok::<_, cgk::config::ConfigError>(())
    /// ```
    pub fn url_of(&self, login: &str, password: Option<&str>) -> String {
        let mut url = self.address.target.url_of(login, password);
        let mut option = |text: String| {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&text);
        };
        if let TlsMode::Verify { roots, .. } = &self.address.tls {
            option("sslmode=verify-full".into());
            if let RootCerts::File(path) = roots {
                option(format!("sslrootcert={}", percent::encode(&path.to_string_lossy())));
            }
        }
        url
    }

    /// Sets the maximum number of open connections. Zero counts as one.
    #[must_use]
    pub fn with_pool_size_max(mut self, size_max: usize) -> Config {
        self.pool.size_max = size_max.max(1);
        self.by_code("pool.size_max")
    }

    /// Sets how many connections of the pool one tenant may use at a time. Zero counts as one.
    #[must_use]
    pub fn with_tenant_connections_max(mut self, connections_max: usize) -> Config {
        self.pool.tenant_connections_max = Some(connections_max.max(1));
        self.by_code("pool.tenant_connections_max")
    }

    /// Sets how long a caller waits for a free connection.
    #[must_use]
    pub fn with_pool_wait(mut self, wait: Duration) -> Config {
        self.pool.wait = wait;
        self.by_code("pool.wait")
    }

    /// Sets all limits of the pool.
    #[must_use]
    pub fn with_pool(mut self, pool: PoolSettings) -> Config {
        self.pool = pool;
        show::POOL.iter().fold(self, |config, name| config.by_code(name))
    }

    /// Sets how tenants are separated.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Config {
        self.isolation = isolation;
        self.by_code("isolation")
    }

    /// Sets the additional schemas of the search path, which contain extensions. They are checked when a connection is
    /// opened.
    #[must_use]
    pub fn with_search_path(mut self, schemas: impl IntoIterator<Item = Ident>) -> Config {
        self.search_path = Some(schemas.into_iter().collect());
        self.by_code("search_path")
    }

    /// Sets whether a pooler is between cgk and the server.
    #[must_use]
    pub fn with_pooling(mut self, pooling: Pooling) -> Config {
        self.pooling = pooling;
        self.by_code("pooled")
    }

    /// Sets the source of the migrations.
    #[must_use]
    pub fn with_migrations(mut self, migrations: MigrationsFrom) -> Config {
        self.migrations = migrations;
        self.by_code("migrations")
    }

    /// Sets the name under which sessions appear in `pg_stat_activity`.
    #[must_use]
    pub fn with_application_name(mut self, name: impl Into<String>) -> Config {
        self.session.application_name = name.into();
        self.apply_session_settings();
        self.by_code("session.application_name")
    }

    /// Sets the settings of every session.
    #[must_use]
    pub fn with_session(mut self, session: SessionSettings) -> Config {
        self.session = session;
        self.apply_session_settings();
        show::SESSION.iter().fold(self, |config, name| config.by_code(name))
    }

    /// Returns the driver's settings, for code that needs its own connection: host, user, password, database. They do
    /// not include TLS and the session timeouts. A connection opened with them has none of this library's protections.
    ///
    /// ```no_run
    /// # async fn example(config: cgk::Config) -> Result<(), cgk::tokio_postgres::Error> {
    /// use cgk::tokio_postgres::NoTls;
    /// let (client, connection) = config.driver().connect(NoTls).await?;
    /// # Ok(()) }
    /// ```
    pub fn driver(&self) -> &tokio_postgres::Config {
        self.pg()
    }

    /// Returns the driver's settings, without the session timeouts.
    pub(crate) fn pg(&self) -> &tokio_postgres::Config {
        &self.address.pg
    }

    /// Returns the address as environment variables of libpq, including the password. Variables without a value must be
    /// removed.
    #[cfg(feature = "migrate")]
    pub(crate) fn libpq_variables(&self, system_roots: &Path) -> Vec<Variable> {
        self.address.libpq_variables(system_roots)
    }

    /// Creates a configuration with the settings of the URL and defaults for everything else.
    fn new(address: Address, origin: Origin, plaintext: RemotePlaintext) -> Config {
        let mut origins = Origins::default();
        origins.set("database_url", origin);
        let mut session = SessionSettings::default();
        if let Some(name) = &address.application_name {
            session.application_name.clone_from(name);
            origins.set("session.application_name", Origin::Url("application_name"));
        }
        let mut pooling = Pooling::default();
        if let Some(pgbouncer) = address.pgbouncer {
            pooling = if pgbouncer { Pooling::Transaction } else { Pooling::Direct };
            origins.set("pooled", Origin::Url("pgbouncer"));
        }
        let notices = address.notices.clone();
        Config {
            address,
            direct: None,
            plaintext,
            isolation: Isolation::default(),
            search_path: None,
            pooling,
            migrations: MigrationsFrom::default(),
            session,
            pool: PoolSettings::default(),
            drift_ignore: Vec::new(),
            secret_keys: None,
            config_file: None,
            origins,
            notices,
        }
    }

    /// Adds a notice if the address looks like a transaction pooler and `pooled` is not set.
    fn advise_pooling(&mut self) {
        if self.origins.get("pooled") == Origin::Default
            && let Some(pooler) = pooler::detect(&self.address)
        {
            self.notices.push(pooler.notice());
        }
    }

    /// Sets the connection parameters in the driver's settings.
    fn apply_session_settings(&mut self) {
        for address in self.direct.iter_mut().chain([&mut self.address]) {
            address.pg.application_name(&self.session.application_name);
        }
    }

    fn by_code(mut self, name: &'static str) -> Config {
        self.origins.set(name, Origin::Code);
        self
    }
}
