//! What the tests of a tenant's transaction stand on: two tenants with a table of their own, decoys beside them, a pool of
//! one connection, and an observer outside of the library.

use crate::support::patience::{HANG, must_end, patient};
use cgk::{
    Config, Db, Error, Operator, TenantSlug, TenantTx,
    config::Isolation,
    ident::{DatabaseTag, RoleName},
    login::{self, Admission, LoginName, LoginOptions, PasswordChange, SharedTables},
    testing::{TEST_DATABASE_URL, TestDatabase, TestServer},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

pub(crate) fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

/// A database with the tenants `acme` and `globex`.
///
/// Each has a table `marks (tag text, n int)` that it may write and that starts with one row, its own name. The decoys are a
/// `public.marks` that everybody may read and write, and the same in a schema whose name LIKE would take for a tenant's.
pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    /// A pool of one connection.
    pub(crate) db: Db,
    /// A superuser's session of its own.
    pub(crate) watch: Client,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(|config| config).await
    }

    pub(crate) async fn set_with(adjust: impl FnOnce(Config) -> Config) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        database.with_tenants(&["acme", "globex"]).await.unwrap();
        let watch = connect(database.name()).await;
        run(
            &watch,
            "create table tenant_acme.marks (tag text, n int); insert into tenant_acme.marks values ('acme', 0);
             create table tenant_globex.marks (n int, tag text); insert into tenant_globex.marks (tag, n) values ('globex', 0);
             create schema tenantsx; grant all on schema tenantsx to public;
             create table tenantsx.marks (tag text, n int); insert into tenantsx.marks values ('decoy', 0);
             create table public.marks (tag text, n int); insert into public.marks values ('decoy', 0);
             grant all on tenantsx.marks, public.marks to public;
             -- The tests of one database compare both kinds of services: it accepts both, as while it is being changed.
             create or replace function cgk_isolation_modes() returns text stable parallel safe return 'path role'",
        )
        .await
        .unwrap();
        let db = Db::connect(&adjust(patient(database.config()).with_pool_size_max(1))).await.unwrap();
        Self { database, db, watch }
    }

    pub(crate) fn config(&self) -> Config {
        patient(self.database.config()).with_pool_size_max(1)
    }

    pub(crate) fn role(&self, tenant: &str) -> String {
        RoleName::of_tenant(&slug(tenant), &DatabaseTag::of(self.database.name())).as_str().to_owned()
    }

    /// The name of a service's login of this database; dropped with it.
    pub(crate) fn app_name(&self) -> LoginName {
        format!("app_{}", DatabaseTag::of(self.database.name()).as_str()).parse().unwrap()
    }

    /// A pool of one connection whose login was made as a service's should be: no superuser, nothing of its own.
    pub(crate) async fn app(&self, isolation: Isolation, tables: SharedTables) -> Db {
        let operator = Operator::connect(&self.config().with_isolation(isolation)).await.unwrap();
        let mut options = LoginOptions::default();
        options.shared_tables = Some(tables);
        options.password = PasswordChange::New;
        let admission = login::admit(&operator, &self.app_name(), &options).await.unwrap();
        let config = patient(&as_login(self.database.config(), &admission));
        Db::connect(&config.with_isolation(isolation).with_pool_size_max(1)).await.unwrap()
    }

    /// The logins and the modes: the owner of everything, and a service's login.
    pub(crate) async fn handles(&self) -> Vec<(&'static str, Db)> {
        let path = Db::connect(&self.config().with_isolation(Isolation::Path)).await.unwrap();
        vec![
            ("role, owner", self.db.clone()),
            ("path, owner", path),
            ("role, service", self.app(Isolation::Role, SharedTables::All).await),
        ]
    }

    /// Runs statements as the observer.
    pub(crate) async fn sql(&self, sql: &str) {
        run(&self.watch, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.watch.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    /// How many rows of this tag there are, in the tenant's table and anywhere else.
    pub(crate) async fn marks(&self, tenant: &str, tag: &str) -> (i64, i64) {
        let own = self.number(&format!("select count(*) from tenant_{tenant}.marks where tag = '{tag}'")).await;
        let all = self
            .number(&format!(
                "select (select count(*) from tenant_acme.marks where tag = '{tag}')
                      + (select count(*) from tenant_globex.marks where tag = '{tag}')
                      + (select count(*) from tenantsx.marks where tag = '{tag}')
                      + (select count(*) from public.marks where tag = '{tag}')"
            ))
            .await;
        (own, all - own)
    }

    /// Waits until a query of the observer's answers true.
    pub(crate) async fn until(&self, sql: &str) {
        let began = Instant::now();
        loop {
            let row = self.watch.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            if row.get(0) {
                return;
            }
            assert!(began.elapsed() < HANG, "never true: {sql}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until a statement that contains this text runs in another session, and returns its backend.
    pub(crate) async fn until_running(&self, text: &str) -> i32 {
        let running =
            "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and state = 'active'";
        self.until(&format!("select exists (select {running} and query like '%{text}%')")).await;
        self.watch.query_one(&format!("select pid {running} and query like '%{text}%'"), &[]).await.unwrap().get(0)
    }

    /// Waits until a backend is gone.
    pub(crate) async fn until_gone(&self, pid: i32) {
        self.until(&format!("select not exists (select from pg_stat_activity where pid = {pid})")).await;
    }

    /// Enters as the next user of the pool and finds everything as it must be; returns how long that took and the backend.
    pub(crate) async fn next_user(&self, db: &Db, tenant: &str) -> (Duration, i32) {
        let began = Instant::now();
        let slug = slug(tenant);
        let session = must_end("the next user", db.with_tenant(&slug, async |tx| Session::read(tx).await)).await;
        let waited = began.elapsed();
        let session = session.unwrap_or_else(|error| panic!("the next user is refused: {error:?}"));
        session.assert_clean(tenant, &self.role(tenant));
        (waited, session.pid)
    }
}

/// The way in for a login with the password that it was just given.
pub(crate) fn as_login(config: &Config, admission: &Admission) -> Config {
    let password = admission.password.as_ref().expect("this run has set the password").reveal();
    Config::from_url(&config.url_of(admission.name.as_str(), Some(password))).unwrap()
}

/// What a tenant's transaction looks like from inside.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) pid: i32,
    path: String,
    role: String,
    login: String,
    database_owner: String,
    /// Whether the transaction had written something before its first statement.
    written: bool,
    read_only: bool,
    /// Locks on tables other than the catalogue's, held before the first statement.
    locks: i64,
    advisory: i64,
    temporary: i64,
    cursors: i64,
    listening: i64,
    /// The tag of the tenant's first row.
    tag: String,
}

impl Session {
    pub(crate) async fn read(tx: &TenantTx<'_>) -> Result<Self, Error> {
        let sql = "select pg_backend_pid(), current_setting('search_path'), current_user::text, session_user::text,
                          (select usename::text from pg_stat_activity where pid = pg_backend_pid()),
                          pg_current_xact_id_if_assigned() is not null, current_setting('transaction_read_only')::bool,
                          (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and mode <> 'AccessShareLock'),
                          (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'),
                          (select count(*) from pg_class where relnamespace = pg_my_temp_schema())
                            + (select count(*) from pg_proc where pronamespace = pg_my_temp_schema()),
                          (select count(*) from pg_cursors where is_holdable),
                          (select count(*) from pg_listening_channels())";
        let rows = tx.query_typed(sql, &[]).await?;
        let row = &rows[0];
        let tag = tx.query_typed("select tag from marks where n = 0", &[]).await?;
        Ok(Self {
            pid: row.get(0),
            path: row.get(1),
            role: row.get(2),
            login: row.get(3),
            database_owner: row.get::<_, Option<String>>(4).unwrap_or_default(),
            written: row.get(5),
            read_only: row.get(6),
            locks: row.get(7),
            advisory: row.get(8),
            temporary: row.get(9),
            cursors: row.get(10),
            listening: row.get(11),
            tag: tag.first().map(|row| row.get(0)).unwrap_or_default(),
        })
    }

    /// What is wrong with it for this tenant; empty if nothing is.
    pub(crate) fn faults(&self, tenant: &str, role: &str) -> Vec<&'static str> {
        let wrong = [
            (self.path != format!("tenant_{tenant}, public, pg_temp"), "search path"),
            (self.role != role, "role"),
            (self.login != self.database_owner && !self.database_owner.is_empty(), "session authorization"),
            (self.written, "open transaction"),
            (self.read_only, "read only"),
            (self.locks != 0, "table locks"),
            (self.advisory != 1, "advisory locks"),
            (self.temporary != 0, "temporary objects"),
            (self.cursors != 0, "cursors"),
            (self.listening != 0, "LISTEN"),
            (self.tag != tenant, "rows"),
        ];
        wrong.into_iter().filter_map(|(wrong, what)| wrong.then_some(what)).collect()
    }

    pub(crate) fn assert_clean(&self, tenant: &str, role: &str) {
        let faults = self.faults(tenant, role);
        assert!(faults.is_empty(), "unclean: {faults:?} in {self:?}");
    }
}

/// The address of a database on the server of the tests.
pub(crate) fn address(database: &str) -> tokio_postgres::Config {
    let server = TestServer::shared();
    let url = match server.local() {
        Some(local) => local.url(database),
        None => std::env::var(TEST_DATABASE_URL).unwrap(),
    };
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    config.dbname(database).application_name("test");
    config
}

/// A session outside of the library.
pub(crate) async fn connect(database: &str) -> Client {
    let (client, connection) = address(database).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs several statements outside of the library.
#[expect(clippy::disallowed_methods, reason = "the observer's session is not the library's")]
pub(crate) async fn run(client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(sql).await
}

/// Random numbers that can be had again: the seed is printed, and `CGK_TEST_SEED` sets it.
#[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails")]
pub(crate) fn dice() -> StdRng {
    let seed = std::env::var("CGK_TEST_SEED").ok().map_or_else(|| rand::rng().random(), |seed| seed.parse().unwrap());
    eprintln!("CGK_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How many times as long as in CI: `CGK_TEST_LONG`.
pub(crate) fn long() -> Option<usize> {
    std::env::var("CGK_TEST_LONG").ok().map(|text| text.parse().unwrap())
}

/// Says a number that belongs into a report; seen with `--nocapture`.
#[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails")]
pub(crate) fn report(line: &str) {
    eprintln!("{line}");
}
