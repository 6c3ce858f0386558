//! The operator's connection. It is a single direct connection for everything that changes schemas.

use super::{
    connect::refused,
    identity::{self, DatabaseIdentity},
    own_objects::{OwnObject, OwnObjects},
    pool::NOTICES_LOST_CLIENTS,
    search_path::{SearchPathUser, refuse_writable, search_path},
    tls,
};
use crate::{
    config::{Config, IsolationModes, SessionSettings},
    error::{ConnectionError, Error, Result, SetupError, while_doing},
    ident::{DatabaseTag, quoted},
    search_path::SearchPath,
};
use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The oldest major version that cgk supports.
const SERVER_MAJOR_MIN: u32 = 14;

/// An operator's connection. Setup, the creation of tenants and migrations use it, and never the pool of the services.
/// Only one caller uses it, and it is closed when it is dropped. The server then rolls back an open transaction.
pub struct Operator {
    client: Client,
    tls: MakeRustlsConnect,
    config: Config,
    facts: ServerFacts,
    overridden: Overridden,
    /// Whether a user's statements may have left state in the session (`session_reset.rs`).
    marked: AtomicBool,
    /// Locked while a transaction of several messages is open.
    undivided: Mutex<()>,
    search_path: SearchPath,
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operator").field("config", &self.config).field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// The maximum time of a cancel request.
const CANCEL_MAX: Duration = Duration::from_secs(5);

/// Settings of a role or of the database that an operator's sessions must not have. If one of them is found, a new
/// connection is opened with the other value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Overridden {
    /// `standard_conforming_strings = off`. A SET in a message cannot change it in time, because the server parses the
    /// whole message before it executes the SET.
    strings: bool,
    /// `exit_on_error = on`. To check conditions, cgk uses statements that may fail.
    exit_on_error: bool,
    /// `idle_session_timeout`. While another connection of a command works, the first one may be idle for long.
    idle_session: bool,
    /// `transaction_timeout`, since PostgreSQL 17. The limits of a migration are those of cgk's configuration.
    transaction: bool,
}

impl Overridden {
    /// Returns each setting, with whether it is needed.
    fn settings(self) -> [(bool, &'static str); 4] {
        [
            (self.strings, "standard_conforming_strings=on"),
            (self.exit_on_error, "exit_on_error=off"),
            (self.idle_session, "idle_session_timeout=0"),
            (self.transaction, "transaction_timeout=0"),
        ]
    }
}

/// Facts about a server and the connected role.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerFacts {
    /// The version as text from the server, for instance `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// The version as a number, for instance 150018 for 15.18.
    pub version_number: u32,
    /// The database of the connection.
    pub database: String,
    /// The role of the connection.
    pub role: String,
    /// Whether the role is a superuser.
    pub superuser: bool,
    /// Whether the role is a service login ([`login::admit`](crate::login::admit)).
    pub service_login: bool,
    /// Whether the role may create roles.
    pub creates_roles: bool,
    /// Whether the role may create schemas in the database.
    pub creates_schemas: bool,
    /// Whether the role may create tables in the schema `public`. `None` if that schema does not exist.
    pub creates_in_public: Option<bool>,
    /// Whether every role may create tables in `public`, as in databases created before PostgreSQL 15.
    pub everyone_creates_in_public: bool,
    /// The TLS protocol of the connection. `None` if the connection is not encrypted.
    pub tls: Option<String>,
    /// Whether the server can detect a lost client while a statement runs.
    pub notices_lost_clients: bool,
    /// Whether the session is read-only, for instance because the server is a standby.
    pub read_only: bool,
    /// Whether the server is a standby.
    pub(crate) standby: bool,
    /// The tag that the database has recorded. The connections of one operator share it, because the first setup writes
    /// it.
    tag: Arc<OnceLock<DatabaseTag>>,
    /// Whether a transaction of the session is READ COMMITTED by default.
    pub(crate) reads_committed: bool,
    /// The objects of cgk's own that existed when the connection was opened.
    pub(super) objects: OwnObjects,
    /// The database's encoding, for instance `UTF8`.
    pub encoding: String,
    /// How the database separated tenants when the connection was opened. `None` if no setup has recorded it.
    pub isolation: Option<IsolationModes>,
}

impl ServerFacts {
    /// Returns the major version.
    pub fn major(&self) -> u32 {
        self.version_number / 10_000
    }

    /// Returns the tag that represents the database in the names of its roles.
    pub fn database_tag(&self) -> DatabaseTag {
        self.recorded_tag().cloned().unwrap_or_else(|| DatabaseTag::of(&self.database))
    }

    /// Returns the tag that the database has recorded.
    pub(crate) fn recorded_tag(&self) -> Option<&DatabaseTag> {
        self.tag.get()
    }

    /// Stores the tag that was just recorded.
    pub(crate) fn record_tag(&self, tag: DatabaseTag) {
        let _ = self.tag.set(tag);
    }

    /// Returns the error of a role without a required right, with the statement that grants the right.
    pub(crate) fn lacks(&self, needed: impl Into<String>, grant: String) -> Error {
        Error::Setup(SetupError::Privilege { role: self.role.clone(), needed: needed.into(), grant, source: None })
    }

    /// Fails if the session was read-only when the connection was opened.
    pub(crate) fn require_writable(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        let (database, role) = (self.database.clone(), self.role.clone());
        Err(Error::Setup(SetupError::ReadOnly { database, role, standby: self.standby }))
    }

    /// Fails if the role may not create roles.
    pub(crate) fn require_role_creation(&self) -> Result<()> {
        if self.creates_roles {
            return Ok(());
        }
        let grant = format!("alter role {} createrole", quoted(&self.role));
        Err(self.lacks("create roles, which isolation = \"role\" needs", grant))
    }

    /// Fails if the session was read-only when the connection was opened, or if the role may not create schemas.
    pub(crate) fn require_schema_creation(&self) -> Result<()> {
        self.require_writable()?;
        if self.creates_schemas {
            return Ok(());
        }
        let grant = format!("grant create on database {} to {}", quoted(&self.database), quoted(&self.role));
        Err(self.lacks(format!("create schemas in database {}", self.database), grant))
    }
}

impl Operator {
    /// Connects to the configuration's address for schema changes and reads facts about the server. Changes nothing.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: when the server cannot be reached. Kind `Denied`: when the server refuses the login. Kind
    /// `NotFound`: when the database does not exist. Kind `Refused`: when the server is older than PostgreSQL 14. Kind
    /// `Invalid`: when the address is a transaction pooler. Kind `Conflict`: in three cases.
    ///
    /// - A schema cannot be in the search path.
    /// - The database is a copy of another one ([`SetupError::DatabaseCopied`]).
    /// - Its isolation differs from the configuration ([`SetupError::IsolationMismatch`]).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection is closed.
    pub async fn connect(config: &Config) -> Result<Self> {
        match Self::connect_to_any(config).await? {
            (operator, DatabaseIdentity::Copied) => {
                Err(Error::Setup(SetupError::DatabaseCopied { database: operator.facts.database }))
            }
            (operator, _) => {
                operator.refuse_isolation()?;
                Ok(operator)
            }
        }
    }

    /// Fails if the database does not accept the isolation of the configuration.
    pub(crate) fn refuse_isolation(&self) -> Result<()> {
        identity::refuse_isolation(&self.facts.database, self.facts.isolation, &self.config)
    }

    /// Connects like [`connect`](Self::connect), but also to a copy of another database, or to a database with another
    /// isolation.
    pub(crate) async fn connect_to_any(config: &Config) -> Result<(Self, DatabaseIdentity)> {
        let config = &config.for_ddl()?;
        let tls = tls::connector(config.tls())?;
        let mut client = open(config, &tls, Overridden::default()).await?;
        let (mut facts, overridden) = read_facts(&client, config).await?;
        if overridden != Overridden::default() {
            client = open(config, &tls, overridden).await?;
        }
        if facts.major() < SERVER_MAJOR_MIN {
            return Err(Error::Connection(ConnectionError::ServerTooOld {
                target: config.target().to_string(),
                found: facts.version,
                needed: SERVER_MAJOR_MIN,
            }));
        }
        let doing = || while_doing(format!("look at the database at {}", config.target()));
        let identity = match facts.objects.has(OwnObject::DatabaseTag) {
            true => identity::read(&client).await.map_err(doing())?.1,
            false => DatabaseIdentity::Unrecorded,
        };
        if let DatabaseIdentity::Recorded(tag) = &identity {
            facts.record_tag(tag.clone());
        }
        if identity != DatabaseIdentity::Unrecorded && facts.objects.has(OwnObject::IsolationModes) {
            facts.isolation = identity::isolation_modes(&client).await.map_err(doing())?;
        }
        let search_path = search_path(&client, config, &facts.database_tag(), SearchPathUser::Operator).await?;
        let marked = AtomicBool::new(false);
        Ok((
            Self {
                client,
                tls,
                config: config.clone(),
                facts,
                overridden,
                marked,
                search_path,
                undivided: Mutex::default(),
            },
            identity,
        ))
    }

    /// Fails if PUBLIC or a tenant's role may create in `public` or in a schema of extensions. For callers that run
    /// statements with these schemas in the search path.
    pub(crate) async fn refuse_writable_path(&self) -> Result<()> {
        refuse_writable(&self.client, &self.search_path, &self.facts.database_tag(), SearchPathUser::Operator).await
    }

    /// Returns whether an object of cgk's own exists. Sends nothing if it existed when the connection was opened.
    pub(crate) async fn has(&self, object: OwnObject) -> Result<bool> {
        if self.facts.objects.has(object) {
            return Ok(true);
        }
        let doing = || while_doing("look for cgk's own objects");
        let rows = self.client.query_typed(&format!("select {}", object.exists_sql()), &[]).await.map_err(doing())?;
        rows.first().map(|row| row.try_get(0)).transpose().map(Option::unwrap_or_default).map_err(doing())
    }

    /// Returns the result of [`identity::read`], but sends no statement that fails.
    pub(crate) async fn identity(&self) -> Result<(String, DatabaseIdentity)> {
        if !self.has(OwnObject::DatabaseTag).await? {
            return Ok((self.facts.database.clone(), DatabaseIdentity::Unrecorded));
        }
        let doing = || while_doing("look at the identity of the database");
        identity::read(&self.client).await.map_err(doing())
    }

    /// Returns the result of [`identity::isolation_modes`], but sends no statement that fails.
    pub(crate) async fn isolation_modes(&self) -> Result<Option<IsolationModes>> {
        if !self.has(OwnObject::IsolationModes).await? {
            return Ok(None);
        }
        let doing = || while_doing("look at the isolation of the database");
        identity::isolation_modes(&self.client).await.map_err(doing())
    }

    /// Opens another connection of the same kind, without reading the server's facts again.
    pub(crate) async fn sibling(&self) -> Result<Self> {
        let overridden = self.overridden;
        let client = open(&self.config, &self.tls, overridden).await?;
        let (tls, config, facts) = (self.tls.clone(), self.config.clone(), self.facts.clone());
        let (marked, search_path) = (AtomicBool::new(false), self.search_path.clone());
        Ok(Self { client, tls, config, facts, overridden, marked, search_path, undivided: Mutex::default() })
    }

    /// Opens another connection with these start-up options. They replace those of the configuration.
    pub(crate) async fn probe(&self, options: &str) -> Result<Client> {
        let mut address = self.config.pg().clone();
        connected(&self.config, address.options(options), &self.tls).await
    }

    /// Makes the server refuse every write of this connection from now on.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: when the connection is lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the connection may be read-only or not. Call it again.
    pub async fn read_only(&self) -> Result<()> {
        let sql = "set session characteristics as transaction read only";
        let doing = || while_doing("make the session read-only");
        self.client.execute_typed(sql, &[]).await.map(drop).map_err(doing())
    }

    /// Asks the server to cancel the statement that this connection is running. The response to the statement shows the
    /// result. The request may arrive late, so no important statement should follow on the connection.
    pub(crate) async fn cancel(&self) {
        let token = self.client.cancel_token();
        match tokio::time::timeout(CANCEL_MAX, token.cancel_query(self.tls.clone())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the cancel request failed"),
            Err(_) => tracing::warn!("the cancel request timed out"),
        }
    }

    /// Returns how many free connections the server has for roles without privileges.
    pub(crate) async fn free_connections(&self) -> Result<usize> {
        let doing = || while_doing("count the connections");
        let rows = self
            .client
            .query_typed(
                "select greatest(0, pg_catalog.current_setting('max_connections')::pg_catalog.int8 - pg_catalog.current_setting('superuser_reserved_connections')::pg_catalog.int8
                        - (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend'))",
                &[],
            )
            .await
            .map_err(doing())?;
        let free: i64 = rows.first().map(|row| row.try_get(0)).transpose().map_err(doing())?.unwrap_or_default();
        Ok(usize::try_from(free).unwrap_or_default())
    }

    /// Returns the facts about the server, read when the connection was opened.
    pub fn facts(&self) -> &ServerFacts {
        &self.facts
    }

    /// Returns the configuration of the connection.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn search_path(&self) -> &SearchPath {
        &self.search_path
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until no transaction of several messages is open on the connection, and blocks new ones until the guard is
    /// dropped. The sender of such a transaction must hold the guard, and so must every other writer on the same
    /// connection.
    pub(crate) async fn undivided(&self) -> MutexGuard<'_, ()> {
        self.undivided.lock().await
    }

    pub(super) fn session_is_marked(&self) -> &AtomicBool {
        &self.marked
    }

    pub(crate) fn session(&self) -> &SessionSettings {
        self.config.session()
    }
}

async fn open(config: &Config, tls: &MakeRustlsConnect, overridden: Overridden) -> Result<Client> {
    let mut address = config.pg().clone();
    for (_, setting) in overridden.settings().into_iter().filter(|(is_needed, _)| *is_needed) {
        // RESET ALL and DISCARD ALL do not reset a setting from the connection's start-up options.
        let options = address.get_options().map_or_else(String::new, |options| format!("{options} "));
        address.options(format!("{options}-c {setting}"));
    }
    connected(config, &address, tls).await
}

async fn connected(config: &Config, address: &tokio_postgres::Config, tls: &MakeRustlsConnect) -> Result<Client> {
    let (client, connection) = address.connect(tls.clone()).await.map_err(|error| refused(config, error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "operator connection ended");
        }
    });
    Ok(client)
}

/// Whether the session's role may create in `public`. For a role that has the right through another role, the server
/// would collect all memberships of the role, which may be the roles of all tenants. Therefore the rights that the
/// database's owner has through `pg_database_owner` are checked without that.
const CREATES_IN_PUBLIC: &str = "(select case
        when r.oid = (select b.datdba from pg_catalog.pg_database b where b.datname = pg_catalog.current_database())
             and exists (select from pg_catalog.aclexplode(n.nspacl) a join pg_catalog.pg_roles g on g.oid = a.grantee
                         where a.privilege_type = 'CREATE' and g.rolname = 'pg_database_owner') then true
        else pg_catalog.has_schema_privilege(n.oid, 'create') end
     from pg_catalog.pg_namespace n where n.nspname = 'public')";

async fn read_facts(client: &Client, config: &Config) -> Result<(ServerFacts, Overridden)> {
    let objects = OwnObjects::sql();
    let doing = || while_doing(format!("look at the server at {}", config.target()));
    let rows = client
        .query_typed(
            &format!("select pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
                    pg_catalog.current_database()::pg_catalog.text, current_user::pg_catalog.text, r.rolsuper, r.rolcreaterole or r.rolsuper,
                    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create'),
                    {CREATES_IN_PUBLIC},
                    exists (select from pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
                            where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'),
                    (select s.version from pg_catalog.pg_stat_ssl s where s.pid = pg_catalog.pg_backend_pid() and s.ssl),
                    {NOTICES_LOST_CLIENTS},
                    pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool,
                    pg_catalog.current_setting('server_encoding'),
                    pg_catalog.current_setting('standard_conforming_strings')::pg_catalog.bool, pg_catalog.pg_is_in_recovery(),
                    pg_catalog.current_setting('exit_on_error')::pg_catalog.bool,
                    exists (select from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid
                            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                            where n.nspname = 'public' and c.relname = 'organizations'
                            and p.polname::pg_catalog.text = 'cgk_login_' || current_user::pg_catalog.text),
                    pg_catalog.current_setting('default_transaction_isolation') = 'read committed',
                    {objects},
                    pg_catalog.current_setting('idle_session_timeout', true) <> '0',
                    pg_catalog.current_setting('transaction_timeout', true) <> '0'
             from pg_catalog.pg_roles r where r.rolname = current_user"),
            &[],
        )
        .await
        .map_err(doing())?;
    let row = rows.first().ok_or_else(|| Error::Unexpected {
        doing: format!("look at the server at {}", config.target()),
        found: "no row at all".into(),
    })?;
    let number: i32 = row.try_get(1).map_err(doing())?;
    let is_standard: bool = row.try_get(13).map_err(doing())?;
    let exits_on_error: bool = row.try_get(15).map_err(doing())?;
    // A server that does not know the setting returns NULL.
    let is_limited = |column| row.try_get(column).map(Option::unwrap_or_default).map_err(doing());
    let overridden = Overridden {
        strings: !is_standard,
        exit_on_error: exits_on_error,
        idle_session: is_limited(19)?,
        transaction: is_limited(20)?,
    };
    let facts = ServerFacts {
        version: row.try_get(0).map_err(doing())?,
        version_number: u32::try_from(number).unwrap_or_default(),
        database: row.try_get(2).map_err(doing())?,
        role: row.try_get(3).map_err(doing())?,
        superuser: row.try_get(4).map_err(doing())?,
        service_login: row.try_get(16).map_err(doing())?,
        creates_roles: row.try_get(5).map_err(doing())?,
        creates_schemas: row.try_get(6).map_err(doing())?,
        creates_in_public: row.try_get(7).map_err(doing())?,
        everyone_creates_in_public: row.try_get(8).map_err(doing())?,
        tls: row.try_get(9).map_err(doing())?,
        notices_lost_clients: row.try_get(10).map_err(doing())?,
        read_only: row.try_get(11).map_err(doing())?,
        tag: Arc::default(),
        standby: row.try_get(14).map_err(doing())?,
        encoding: row.try_get(12).map_err(doing())?,
        isolation: None,
        reads_committed: row.try_get(17).map_err(doing())?,
        objects: OwnObjects::of(row.try_get(18).map_err(doing())?),
    };
    Ok((facts, overridden))
}
