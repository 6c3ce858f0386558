//! The settings: their types, limits and defaults.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// How tenants are separated inside the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Each tenant has a role that may use only its schema. The database denies everything else.
    #[default]
    Role,
    /// Only `search_path` separates tenants. For servers on which cgk cannot create roles.
    Path,
}

impl Isolation {
    /// Returns the value of the setting `isolation`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Path => "path",
        }
    }
}

/// Whether a pooler is between cgk and the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// A direct session with the server, or a pooler that assigns whole sessions.
    #[default]
    Direct,
    /// A pooler that assigns a server connection per transaction, such as PgBouncer in transaction mode or Supavisor on
    /// port
    /// 6543. Named prepared statements are not used.
    Transaction,
}

/// The source of the migrations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum MigrationsFrom {
    /// The set that is built into cgk.
    #[default]
    Bundled,
    /// A directory that contains `public/` and `tenant/`.
    Directory(PathBuf),
}

/// Whether a connection to another machine may be unencrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RemotePlaintext {
    /// TLS with a verified certificate, otherwise no connection.
    #[default]
    Refuse,
    /// Without `sslmode`, or with `sslmode=prefer` or `disable`, the password and the data are sent unencrypted. This
    /// is for networks that are trusted completely, such as the one between containers of one machine.
    Allow,
}

/// The settings of every session.
///
/// A timeout of zero means no timeout, as in PostgreSQL. PostgreSQL accepts up to 2³¹ − 1 milliseconds. The timeouts
/// are not sent as start-up options, because transaction poolers refuse those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// The name under which sessions appear in `pg_stat_activity`. Default: `cgk`.
    pub application_name: String,
    /// How long a statement waits for a lock. Default: 3 seconds.
    pub lock_timeout: Duration,
    /// How long a statement may run. Default: 30 seconds.
    pub statement_timeout: Duration,
    /// How long one statement of a migration may run. Default: no limit, because rewriting a large table takes a long
    /// time. The lock timeout still limits how long it waits for locks.
    pub migration_statement_timeout: Duration,
    /// How long a run waits for another run that is migrating the same schema. Default: 60 seconds.
    pub migration_wait: Duration,
    /// How long a transaction may be idle before the server ends the session. Default: 60 seconds.
    pub idle_in_transaction_timeout: Duration,
}

impl SessionSettings {
    /// The default of [`application_name`](SessionSettings::application_name).
    pub const APPLICATION_NAME: &str = "cgk";
    /// The default of [`lock_timeout`](SessionSettings::lock_timeout).
    pub const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
    /// The default of [`statement_timeout`](SessionSettings::statement_timeout).
    pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
    /// The default of [`migration_statement_timeout`](SessionSettings::migration_statement_timeout).
    pub const MIGRATION_STATEMENT_TIMEOUT: Duration = Duration::ZERO;
    /// The default of [`migration_wait`](SessionSettings::migration_wait).
    pub const MIGRATION_WAIT: Duration = Duration::from_secs(60);
    /// The default of [`idle_in_transaction_timeout`](SessionSettings::idle_in_transaction_timeout).
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            application_name: Self::APPLICATION_NAME.to_owned(),
            lock_timeout: Self::LOCK_TIMEOUT,
            statement_timeout: Self::STATEMENT_TIMEOUT,
            migration_statement_timeout: Self::MIGRATION_STATEMENT_TIMEOUT,
            migration_wait: Self::MIGRATION_WAIT,
            idle_in_transaction_timeout: Self::IDLE_IN_TRANSACTION_TIMEOUT,
        }
    }
}

/// The limits of the connection pool and of the data that a connection keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// The maximum number of open connections. Default: 10.
    pub size_max: usize,
    /// The maximum number of these connections that one tenant may use at a time, so that a tenant with many or slow
    /// requests leaves connections for the others. Further calls of the tenant wait, at most for [`wait`](Self::wait), and
    /// then fail with [`ConnectionError::TenantLimit`](crate::ConnectionError::TenantLimit). A transaction inside of
    /// another one of the same tenant counts too. Calls of the platform are not limited. Default: `None`, no limit.
    pub tenant_connections_max: Option<usize>,
    /// How long a caller waits for a free connection. Default: 10 seconds.
    pub wait: Duration,
    /// The age at which a connection is replaced when it is returned. Default: 30 minutes.
    pub connection_age_max: Duration,
    /// The number of different tenants after which a connection is replaced, because the server's backend keeps about
    /// 100 kB of catalogue cache for each of them and does not free it. Default: 500.
    pub tenants_per_connection_max: usize,
    /// The maximum number of statements for which a [`Db`](crate::Db) keeps the parameter types, about 150 bytes each.
    /// A statement counts once per tenant. For further statements, cgk asks the server again, which takes a round trip.
    /// Default: 20,000.
    pub descriptions_max: usize,
}

impl PoolSettings {
    /// The default of [`size_max`](PoolSettings::size_max).
    pub const SIZE_MAX: usize = 10;
    /// The default of [`wait`](PoolSettings::wait).
    pub const WAIT: Duration = Duration::from_secs(10);
    /// The default of [`connection_age_max`](PoolSettings::connection_age_max).
    pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(30 * 60);
    /// The default of [`tenants_per_connection_max`](PoolSettings::tenants_per_connection_max).
    pub const TENANTS_PER_CONNECTION_MAX: usize = 500;
    /// The default of [`descriptions_max`](PoolSettings::descriptions_max).
    pub const DESCRIPTIONS_MAX: usize = 20_000;
}

impl Default for PoolSettings {
    fn default() -> PoolSettings {
        PoolSettings {
            size_max: Self::SIZE_MAX,
            tenant_connections_max: None,
            wait: Self::WAIT,
            connection_age_max: Self::CONNECTION_AGE_MAX,
            tenants_per_connection_max: Self::TENANTS_PER_CONNECTION_MAX,
            descriptions_max: Self::DESCRIPTIONS_MAX,
        }
    }
}
