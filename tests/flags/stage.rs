//! What the tests stand on: a database whose tenants `acme` and `globex` have the tables of the template.

use crate::platform::{app_login, connect, must_end, patient, slug};
use cgk::{
    Db, Operator,
    config::Isolation,
    lifecycle::{self, CreateOptions},
    migrate::{Migrations, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use tokio_postgres::{Client, error::DbError};

pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    /// Of the service's login.
    pub(crate) db: Db,
    /// A superuser's session, whose search path is that of the tenant `acme`.
    pub(crate) watch: Client,
}

/// The tables of a template alone, behind the bundled shared ones.
pub(crate) fn migrations() -> &'static Migrations {
    static MIGRATIONS: OnceLock<Migrations> = OnceLock::new();
    MIGRATIONS.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("cgk-flags-{}-{:016x}", std::process::id(), rand_of()));
        Migrations::write_bundled(&folder).unwrap();
        fs::remove_dir_all(folder.join("tenant")).unwrap();
        // Without the lines about the tenants' set that is left out.
        let accepted = fs::read_to_string(folder.join("accepted.txt")).unwrap();
        let accepted: String = accepted.split_inclusive('\n').filter(|line| !line.starts_with("tenant/")).collect();
        fs::write(folder.join("accepted.txt"), accepted).unwrap();
        fs::create_dir(folder.join("tenant")).unwrap();
        for set in ["public", "tenant"] {
            for file in files(set) {
                // Behind the bundled files of the shared set.
                let name = format!("9{}", file.file_name().unwrap().to_str().unwrap());
                fs::copy(&file, folder.join(set).join(name)).unwrap();
            }
        }
        let migrations = Migrations::from_directory(&folder);
        fs::remove_dir_all(&folder).unwrap();
        migrations.unwrap()
    })
}

fn files(set: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/flags").join(set);
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn rand_of() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_in(Isolation::Role).await
    }

    /// A service whose tenants are kept apart by the search path.
    pub(crate) async fn set_path_mode() -> Self {
        Self::set_in(Isolation::Path).await
    }

    async fn set_in(isolation: Isolation) -> Self {
        let database = TestServer::shared().database().await.unwrap();
        let operator = Operator::connect(database.config()).await.unwrap();
        setup::setup(&operator, migrations(), &mut Silent).await.unwrap();
        let own = database.db().await.unwrap();
        for tenant in ["acme", "globex"] {
            lifecycle::create(&operator, &own, migrations(), &slug(tenant), &CreateOptions::default()).await.unwrap();
        }
        let watch = connect(&database).await;
        // As while the isolation is being changed: services of both kinds are accepted.
        let both =
            "create or replace function cgk_isolation_modes() returns text stable parallel safe return 'path role'";
        watch.execute(both, &[]).await.unwrap();
        let config = patient(&app_login(&database, isolation).await).with_isolation(isolation);
        let db = Db::connect(&config.with_pool_size_max(4)).await.unwrap();
        watch.execute("set search_path = tenant_acme, public", &[]).await.unwrap();
        Self { database, db, watch }
    }

    /// What the observer runs in the tenant `acme`.
    #[expect(clippy::disallowed_methods, reason = "the observer's session is not the library's")]
    pub(crate) async fn run(&self, sql: &str) {
        self.watch.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// What the server says against a statement of the observer's.
    pub(crate) async fn refused(&self, sql: &str) -> DbError {
        match self.watch.execute(sql, &[]).await {
            Ok(rows) => panic!("{sql}: {rows} rows"),
            Err(error) => error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}")).clone(),
        }
    }

    /// What the server says against a file of the observer's; its transaction is rolled back.
    #[expect(clippy::disallowed_methods, reason = "the observer's session is not the library's")]
    pub(crate) async fn refused_all(&self, sql: &str) -> String {
        let error = self.watch.batch_execute(sql).await.expect_err("the file ran");
        self.run("rollback").await;
        error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default()
    }

    /// The single number that the observer reads.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.watch.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    /// Waits until a session of this database waits for a lock. Also inside the observer's transaction, which sees the sessions as
    /// they were at its first look unless it asks to look anew.
    pub(crate) async fn until_one_waits(&self) {
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let look = async {
            while self.count(waiting).await == 0 {
                self.run("select pg_stat_clear_snapshot()").await;
            }
        };
        must_end(look).await;
    }

    /// The single text that the observer reads.
    pub(crate) async fn text(&self, sql: &str) -> String {
        self.watch.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }
}

/// Says something that is shown with a failing test.
#[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
