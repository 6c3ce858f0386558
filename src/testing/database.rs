//! A database per test, on a server that the tests of one process share.

use super::{LocalServer, LocalServerError};
use crate::{
    config::Config,
    db::{Operator, message},
    error::{Error, Result, SetupError, while_doing},
    ident::{DatabaseTag, Ident, quoted},
    identity,
    lifecycle::{self, CreateOptions},
    migrate::Migrations,
    slug::TenantSlug,
    tenancy::Db,
};
use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
};
use tokio::sync::OnceCell;
use tokio_postgres::types::Type;

/// The variable that names another server for the tests. `DATABASE_URL` is never used, because tests drop databases.
pub const TEST_DATABASE_URL: &str = "CGK_TEST_DATABASE_URL";

/// The server that all tests of a process share: the one in `CGK_TEST_DATABASE_URL`, otherwise a private one that ends
/// with the process.
pub struct TestServer {
    config: Config,
    own: Option<LocalServer>,
    /// The names of the databases that others are copies of.
    templates: Mutex<HashMap<DatabaseTemplate, Arc<OnceCell<String>>>>,
}

/// The contents of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DatabaseTemplate(pub(super) String);

impl fmt::Debug for TestServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestServer").field("is_private", &self.own.is_some()).finish_non_exhaustive()
    }
}

impl TestServer {
    /// Returns the server; the first call starts it.
    ///
    /// # Panics
    ///
    /// If there is no server and none can be started; the message says what to install. A test without a server must
    /// fail, not be skipped.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<TestServer> = OnceLock::new();
        SERVER.get_or_init(|| Self::begin().unwrap_or_else(|problem| panic!("{problem}")))
    }

    fn begin() -> Result<Self, String> {
        let templates = Mutex::default();
        match super::variable(TEST_DATABASE_URL) {
            Some(url) => {
                let config = Config::from_url(&url.to_string_lossy())
                    .map_err(|error| format!("{TEST_DATABASE_URL}: {error}"))?;
                Ok(Self { config, own: None, templates })
            }
            None => {
                let server = LocalServer::start_default(&|line| tracing::info!("{line}"))
                    .map_err(|error: LocalServerError| error.to_string())?;
                let config = Config::from_url(&server.url("postgres")).map_err(|error| error.to_string())?;
                Ok(Self { config, own: Some(server), templates })
            }
        }
    }

    /// Returns the configuration to connect to the server.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the private server, if it is one.
    pub fn local(&self) -> Option<&LocalServer> {
        self.own.as_ref()
    }

    /// Creates an empty database. As in PostgreSQL 15 and later, PUBLIC may not create objects in its schema `public`
    /// on version 14 either.
    ///
    /// # Errors
    ///
    /// Kinds `Unavailable`, `Denied` and `Failed`, from the server.
    pub async fn database(&self) -> Result<TestDatabase> {
        TestDatabase::create(&self.config, self.kept(), None).await
    }

    /// Creates a copy of a template, which the first call builds.
    pub(super) async fn copy_of(
        &self,
        key: &DatabaseTemplate,
        build: impl Future<Output = Result<TestDatabase>>,
    ) -> Result<TestDatabase> {
        let cell = {
            let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(templates.entry(key.clone()).or_default())
        };
        let template = cell
            .get_or_try_init(|| async {
                let mut template = build.await?;
                template.keep = Keep::Always;
                Ok::<_, Error>(template.name.as_str().to_owned())
            })
            .await?;
        TestDatabase::create(&self.config, self.kept(), Some(template)).await
    }

    fn kept(&self) -> Keep {
        // If a database is not dropped in time, it disappears with the private server.
        if self.own.is_some() { Keep::UntilDropped } else { Keep::OnFailure }
    }
}

/// A database for one test. It is dropped with this value, including its roles; on a private server this happens
/// shortly afterwards. A failing test keeps the database and prints its name.
pub struct TestDatabase {
    server: Config,
    config: Config,
    name: Ident,
    keep: Keep,
    /// The configuration with the login of a service.
    service: Option<Config>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Always,
    /// Like `OnFailure`, but the test does not wait until the database is dropped.
    UntilDropped,
    OnFailure,
}

impl TestDatabase {
    async fn create(server: &Config, keep: Keep, template: Option<&str>) -> Result<Self> {
        let name =
            Ident::new(format!("cgk_test_{:016x}", rand::random::<u64>())).expect("a short name is an identifier");
        let operator = Operator::connect(server).await?;
        create_on(&operator, &name, template).await?;
        let config = server.with_database(name.as_str());
        if template.is_none() && operator.facts().major() < 15 {
            let own = Operator::connect(&config).await?;
            let sql = "revoke create on schema public from public;";
            let doing = || while_doing(format!("revoke the right of every role to create in {:?}", name.as_str()));
            message::run(own.client(), sql).await.map_err(doing())?.complete().map_err(doing())?;
        }
        if template.is_some() {
            let (operator, _) = Operator::connect_to_any(&config).await?;
            identity::renew(&operator).await?;
        }
        Ok(Self { server: server.clone(), config, name, keep, service: None })
    }

    /// Returns the configuration to connect to the database.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Opens an operator's connection to it.
    ///
    /// # Errors
    ///
    /// The errors of [`Operator::connect`].
    pub async fn operator(&self) -> Result<Operator> {
        Operator::connect(&self.config).await
    }

    /// Opens a service's handle to it.
    ///
    /// # Errors
    ///
    /// The errors of [`Db::connect`].
    pub async fn db(&self) -> Result<Db> {
        Db::connect(&self.config).await
    }

    /// Returns the configuration of a service; `None` without
    /// [`service_login`](super::TestDatabaseBuilder::service_login).
    pub fn service_config(&self) -> Option<&Config> {
        self.service.as_ref()
    }

    /// Opens a service's handle with the login of a service, which has no other rights.
    ///
    /// # Errors
    ///
    /// Kind `Failed`: the database was built without a login. The errors of [`Db::connect`].
    pub async fn service(&self) -> Result<Db> {
        match &self.service {
            Some(config) => Db::connect(config).await,
            None => Err(Error::Unexpected {
                doing: "connect as a service".into(),
                found: "the test's database was built without a login of a service".into(),
            }),
        }
    }

    pub(super) fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    pub(super) fn set_service(&mut self, config: Config) {
        self.service = Some(config);
    }

    /// Creates tenants with the bundled migrations and returns a handle to enter them.
    ///
    /// # Errors
    ///
    /// The errors of [`lifecycle::create`]; a text that is not a slug.
    pub async fn with_tenants(&self, slugs: &[&str]) -> Result<Db> {
        let (operator, db, migrations) = (self.operator().await?, self.db().await?, Migrations::bundled());
        for slug in slugs {
            let slug: TenantSlug = slug.parse()?;
            lifecycle::create(&operator, &db, &migrations, &slug, &CreateOptions::default()).await?;
        }
        Ok(db)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if self.keep == Keep::Always {
            return;
        }
        if std::thread::panicking() {
            tracing::warn!(database = self.name(), "kept the database of a failed test");
            return;
        }
        let (done, dropped) = mpsc::channel();
        let sent = dropper().send(UnusedDatabase { server: self.server.clone(), name: self.name.clone(), done });
        if self.keep == Keep::OnFailure && sent.is_ok() {
            let _ = dropped.recv();
        }
    }
}

/// A database that is no longer used.
struct UnusedDatabase {
    server: Config,
    name: Ident,
    /// Closed when the database is dropped, or when that failed.
    done: mpsc::Sender<()>,
}

/// Returns the sender to the thread that drops databases, one after the other. The thread has its own runtime: the
/// test's runtime may be ending, and a `block_on` inside it would panic.
fn dropper() -> &'static mpsc::Sender<UnusedDatabase> {
    static DROPPER: OnceLock<mpsc::Sender<UnusedDatabase>> = OnceLock::new();
    DROPPER.get_or_init(|| {
        let (sender, doomed) = mpsc::channel::<UnusedDatabase>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread can be built");
            for UnusedDatabase { server, name, done } in doomed {
                if let Err(error) = runtime.block_on(drop_database(&server, &name)) {
                    tracing::warn!(database = name.as_str(), %error, "could not drop the database of a test");
                }
                drop(done);
            }
        });
        sender
    })
}

/// Creates a database, empty or as a copy of another one without connections.
///
/// # Errors
///
/// Kind `Denied` without CREATEDB; `Failed`, from the server.
pub async fn create_database(server: &Config, name: &Ident, template: Option<&str>) -> Result<()> {
    create_on(&Operator::connect(server).await?, name, template).await
}

async fn create_on(operator: &Operator, name: &Ident, template: Option<&str>) -> Result<()> {
    let template = template.map(|name| Ident::new(name).expect("a database's name is an identifier").quoted());
    let mut sql = format!("create database {} template {}", name.quoted(), template.as_deref().unwrap_or("template0"));
    // Copying the files is faster than writing them through the log if nothing is flushed, as on a private server.
    if operator.facts().major() >= 15 && template.is_some() && fsync_is_off(operator).await? {
        sql.push_str(" strategy file_copy");
    }
    let doing = || while_doing(format!("create database {:?}", name.as_str()));
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => Ok(()),
        Err(source) if source.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) => {
            Err(Error::Setup(SetupError::Privilege {
                role: operator.facts().role.clone(),
                needed: "create databases".into(),
                grant: format!("alter role {} createdb", quoted(&operator.facts().role)),
                source: Some(source.into()),
            }))
        }
        Err(error) => Err(doing()(error)),
    }
}

/// Drops a database, even if clients are connected, and the roles of tenants and logins of services (`app_…`) with its
/// tag. It is not an error if they do not exist.
///
/// # Errors
///
/// Kind `Failed`, from the server.
pub async fn drop_database(server: &Config, name: &Ident) -> Result<()> {
    let operator = Operator::connect(server).await?;
    let doing = || while_doing(format!("drop database {:?}", name.as_str()));
    let sql = format!("drop database if exists {} with (force)", name.quoted());
    message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    let ending = format!("_{}", DatabaseTag::of(name.as_str()).as_str());
    let rows = operator
        .client()
        .query_typed(
            "select rolname::text from pg_catalog.pg_roles where rolname ~ '^(cgk|app)_'
             and right(rolname::text, length($1)) = $1",
            &[(&ending.as_str(), Type::TEXT)],
        )
        .await
        .map_err(doing())?;
    let roles: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    // A few hundred per message: each dropped role holds a lock until the end of the message.
    for roles in roles.chunks(200) {
        let sql: String = roles
            .iter()
            .filter_map(|role| Ident::new(role.as_str()).ok())
            .map(|role| format!("drop role if exists {};\n", role.quoted()))
            .collect();
        message::run(operator.client(), &sql).await.map_err(doing())?.complete().map_err(doing())?;
    }
    Ok(())
}

async fn fsync_is_off(operator: &Operator) -> Result<bool> {
    let doing = || while_doing("read the setting fsync");
    let rows = operator.client().query_typed("select current_setting('fsync') = 'off'", &[]).await.map_err(doing())?;
    rows.first().map(|row| row.try_get(0)).transpose().map(Option::unwrap_or_default).map_err(doing())
}
