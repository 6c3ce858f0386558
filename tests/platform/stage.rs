//! What the tests stand on: two tenants, the pool of a service's login that may use all shared tables, and an observer
//! outside of the library.

use cgk::{
    Config, Db, Operator, OrganizationId, TenantSlug, UserId,
    config::{Isolation, SessionSettings},
    ident::DatabaseTag,
    login::{self, LoginOptions, PasswordChange, SharedTables},
    testing::{TEST_DATABASE_URL, TestDatabase, TestServer},
};
use std::{future::Future, time::Duration};
use tokio_postgres::{Client, NoTls, Row, types::ToSql};

/// What has not ended by now hangs. No test measures by it.
pub(crate) const HANG: Duration = Duration::from_secs(120);
/// A limit of the server's or the pool's that comes later.
const LATER: Duration = Duration::from_secs(600);

pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    /// Of the service's login.
    pub(crate) db: Db,
    pub(crate) acme: OrganizationId,
    pub(crate) globex: OrganizationId,
    /// A superuser's session.
    pub(crate) watch: Client,
}

pub(crate) fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

impl Stage {
    /// The tenants `acme` and `globex`, and a pool of four.
    pub(crate) async fn set() -> Self {
        Self::set_with_pool(4).await
    }

    pub(crate) async fn set_with_pool(size: usize) -> Self {
        Self::set_in(Isolation::Role, size).await
    }

    /// A service whose tenants are kept apart by the search path.
    pub(crate) async fn set_path_mode() -> Self {
        Self::set_in(Isolation::Path, 4).await
    }

    async fn set_in(isolation: Isolation, size: usize) -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        database.with_tenants(&["acme", "globex"]).await.unwrap();
        let watch = connect(&database).await;
        // As while the isolation is being changed: services of both kinds are accepted.
        let both =
            "create or replace function cgk_isolation_modes() returns text stable parallel safe return 'path role'";
        watch.execute(both, &[]).await.unwrap();
        let config = patient(&app_login(&database, isolation).await).with_isolation(isolation);
        let db = Db::connect(&config.with_pool_size_max(size)).await.unwrap();
        let (acme, globex) = (organization(&watch, "acme").await, organization(&watch, "globex").await);
        Self { database, db, acme, globex, watch }
    }

    /// An operator's connection, with the isolation of the service.
    pub(crate) async fn operator(&self) -> Operator {
        let config = self.database.config().clone().with_isolation(self.db.config().isolation());
        Operator::connect(&config).await.unwrap()
    }

    /// What the observer reads.
    pub(crate) async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        self.watch.query(sql, params).await.unwrap()
    }

    /// What the observer runs.
    pub(crate) async fn run(&self, sql: &str) {
        run(&self.watch, sql).await;
    }

    /// A session that has begun a transaction and holds what this statement locks. The observer's own could not watch then: a
    /// transaction sees the other sessions as they were when it first looked.
    pub(crate) async fn holder(&self, lock: &str) -> Client {
        let holder = connect(&self.database).await;
        run(&holder, &format!("begin; {lock}")).await;
        holder
    }

    /// Waits until a count satisfies the condition.
    pub(crate) async fn until_count(&self, sql: &str, is_so: impl Fn(i64) -> bool) {
        must_end(async {
            while !is_so(self.count(sql).await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until this many sessions of the database wait for a lock.
    pub(crate) async fn until_waiting(&self, number: i64) {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        self.until_count(waiting, |count| count == number).await;
    }

    /// Ends the sessions that wait for a lock, and waits until they are gone.
    pub(crate) async fn kill_waiting(&self) {
        self.run(
            "select pg_terminate_backend(pid) from pg_stat_activity
              where datname = current_database() and wait_event_type = 'Lock'",
        )
        .await;
        self.until_waiting(0).await;
    }

    /// An active user whose home is this organization, with this role.
    pub(crate) async fn user(&self, organization: OrganizationId, email: &str, role: &str) -> UserId {
        let insert = "insert into public.users (organization_id, email, role, status)
                      values ($1, $2, $3::text::public.user_role, 'active') returning id";
        self.watch.query_one(insert, &[&organization, &email, &role]).await.unwrap().get(0)
    }

    /// The single number that the observer reads.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.watch.query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[expect(clippy::disallowed_methods, reason = "the observer's session is not the library's")]
pub(crate) async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn organization(watch: &Client, slug: &str) -> OrganizationId {
    watch.query_one("select id from public.organizations where slug = $1", &[&slug]).await.unwrap().get(0)
}

/// A login as a service's should be: no superuser, nothing of its own, admitted to all shared tables. It is dropped with the
/// database.
pub(crate) async fn app_login(database: &TestDatabase, isolation: Isolation) -> Config {
    let operator = Operator::connect(&patient(database.config()).with_isolation(isolation)).await.unwrap();
    let name = format!("app_{}", DatabaseTag::of(database.name()).as_str()).parse().unwrap();
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::All);
    options.password = PasswordChange::New;
    let admission = login::admit(&operator, &name, &options).await.unwrap();
    let password = admission.password.as_ref().unwrap().reveal();
    Config::from_url(&database.config().url_of(admission.name.as_str(), Some(password))).unwrap()
}

/// With limits that no loaded machine reaches.
pub(crate) fn patient(config: &Config) -> Config {
    let session = SessionSettings {
        lock_timeout: LATER,
        statement_timeout: LATER,
        idle_in_transaction_timeout: LATER,
        migration_wait: LATER,
        ..config.session().clone()
    };
    config.clone().with_session(session).with_pool_wait(LATER)
}

pub(crate) async fn connect(database: &TestDatabase) -> Client {
    let url = match TestServer::shared().local() {
        Some(local) => local.url(database.name()),
        None => std::env::var(TEST_DATABASE_URL).unwrap(),
    };
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) =
        config.dbname(database.name()).application_name("observer").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The answer; a test that waits for ever fails instead.
pub(crate) async fn must_end<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work).await.expect("this does not end")
}

/// Says something that is shown with a failing test.
#[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
