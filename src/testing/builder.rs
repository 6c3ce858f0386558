//! A test's database with what the test needs in it.

use super::{TestDatabase, TestServer, database::DatabaseTemplate};
use crate::{
    access::login::{self, LoginOptions, PasswordChange, SharedTables},
    config::{Config, Isolation},
    db::Operator,
    error::{Error, Result},
    ident::DatabaseTag,
    lifecycle::{self, CreateManyOptions, NewTenant},
    migrate::{Migrations, Set, Silent},
    setup,
    slug::TenantSlug,
};
use std::fmt::Write as _;

impl TestServer {
    /// Returns a builder for a database with its own migrations, tenants and the login of a service.
    pub fn builder(&self) -> TestDatabaseBuilder<'_> {
        let isolation = self.config().isolation();
        TestDatabaseBuilder { server: self, migrations: None, tenants: Vec::new(), service: None, isolation }
    }

    /// Creates a database with the bundled migrations: [`builder`](Self::builder) without options. On a private server
    /// it is cloned from a template, in milliseconds. On another server no template is created, because it would remain
    /// there.
    ///
    /// # Errors
    ///
    /// The errors of [`TestServer::database`].
    pub async fn set_up_database(&self) -> Result<TestDatabase> {
        Box::pin(self.builder().create()).await
    }
}

/// Builds a [`TestDatabase`]; from [`TestServer::builder`].
///
/// ```no_run
/// use cgk::{login::SharedTables, migrate::Migrations, testing::TestServer};
///
/// # async fn example() -> cgk::Result<()> {
/// let migrations = Migrations::from_directory("migrations")?;
/// let database = TestServer::shared()
///     .builder()
///     .migrations(&migrations) // the project's own; the bundled ones otherwise
///     .service_login(SharedTables::Registry) // the code under test gets no right that a service lacks
///     .tenants(["acme".parse()?, "globex".parse()?])
///     .create()
///     .await?;
/// let db = database.service().await?;
/// db.with_tenant(&"acme".parse()?, async |tx| tx.query("select * from orders", &[]).await).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `create`"]
pub struct TestDatabaseBuilder<'s> {
    server: &'s TestServer,
    migrations: Option<&'s Migrations>,
    tenants: Vec<TenantSlug>,
    service: Option<SharedTables>,
    isolation: Isolation,
}

impl<'s> TestDatabaseBuilder<'s> {
    /// Applies these migrations instead of the bundled ones.
    pub fn migrations(mut self, migrations: &'s Migrations) -> Self {
        self.migrations = Some(migrations);
        self
    }

    /// Creates these tenants.
    pub fn tenants(mut self, tenants: impl IntoIterator<Item = TenantSlug>) -> Self {
        self.tenants.extend(tenants);
        self
    }

    /// Creates a login for a service, with these rights on the shared tables; [`TestDatabase::service`] uses it. Its
    /// name is `app_` and the database's tag.
    pub fn service_login(mut self, tables: SharedTables) -> Self {
        self.service = Some(tables);
        self
    }

    /// Sets how the database separates its tenants.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// Creates the database. On a private server a set of migrations is applied once per process. Each database is a
    /// copy of the result, which takes milliseconds. The tenants and the login are created in the copy. On another
    /// server no template is stored, and each database is set up from the start.
    ///
    /// # Locks
    ///
    /// The databases of other tests are not locked. The first builder of a set makes its template, and others of the
    /// set wait for it.
    ///
    /// # Errors
    ///
    /// The errors of [`TestServer::database`], [`setup`](crate::setup::setup), [`create`](crate::lifecycle::create())
    /// and [`admit`](crate::login::admit).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the new database may remain until the private server ends; on another server it may
    /// stay.
    pub async fn create(self) -> Result<TestDatabase> {
        let bundled;
        let migrations = match self.migrations {
            Some(migrations) => migrations,
            None => {
                bundled = Migrations::bundled();
                &bundled
            }
        };
        // Each in a box: together they would not fit into the stack of a test's thread.
        let build = Box::pin(self.set_up(migrations));
        let mut database = match self.server.local() {
            Some(_) => Box::pin(self.server.copy_of(&self.key(migrations), build)).await?,
            None => build.await?,
        };
        database.set_config(database.config().clone().with_isolation(self.isolation));
        if let Some(tables) = self.service {
            let login = Box::pin(admit(&database, tables)).await?;
            database.set_service(login);
        }
        Box::pin(self.create_tenants(&database, migrations)).await?;
        Ok(database)
    }

    /// Returns what is equal for all databases that can be copies of one template.
    fn key(&self, migrations: &Migrations) -> DatabaseTemplate {
        let mut key = format!("{}\n", self.isolation.as_str());
        for set in [Set::Public, Set::Tenant] {
            for file in migrations.set(set).files() {
                let _ = writeln!(key, "{set} {} {}", file.id(), file.checksum().as_str());
            }
        }
        DatabaseTemplate(key)
    }

    async fn set_up(&self, migrations: &Migrations) -> Result<TestDatabase> {
        let database = self.server.database().await?;
        let config = database.config().clone().with_isolation(self.isolation);
        let operator = Operator::connect(&config).await?;
        setup::setup(&operator, migrations, &mut Silent).await?;
        Ok(database)
    }

    async fn create_tenants(&self, database: &TestDatabase, migrations: &Migrations) -> Result<()> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        let (operator, db) = (database.operator().await?, database.db().await?);
        let wanted: Vec<NewTenant> = self.tenants.iter().cloned().map(NewTenant::from).collect();
        let options = CreateManyOptions::default();
        let report = lifecycle::create_many(&operator, &db, migrations, &wanted, &options, &mut Silent).await?;
        report.tenants.into_iter().try_for_each(|outcome| outcome.result.map(drop))
    }
}

/// Creates the login, and returns the configuration with it.
async fn admit(database: &TestDatabase, tables: SharedTables) -> Result<Config> {
    let operator = database.operator().await?;
    let options =
        LoginOptions { shared_tables: Some(tables), password: PasswordChange::New, ..LoginOptions::default() };
    let name = format!("app_{}", DatabaseTag::of(database.name()).as_str());
    let name = name
        .parse()
        .map_err(|error| Error::Unexpected { doing: "create the login of a test".into(), found: format!("{error}") })?;
    let admission = login::admit(&operator, &name, &options).await?;
    if let Some(failure) = admission.failure {
        return Err(failure);
    }
    let password = admission.password.as_ref().map(|password| password.reveal());
    let config = Config::from_url(&database.config().url_of(admission.name.as_str(), password))?;
    Ok(config.with_isolation(database.config().isolation()).with_session(database.config().session().clone()))
}
