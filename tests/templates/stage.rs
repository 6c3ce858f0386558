//! What the tests of a template stand on: a project that `cgk init` would make, two tenants, the pool of a service's login,
//! and an observer outside of the library.

use cgk::{
    Config, Db, Error, Operator, TenantSlug,
    ident::DatabaseTag,
    lifecycle,
    login::{self, LoginOptions, PasswordChange, SharedTables},
    migrate::{Migrations, Silent},
    setup,
    templates::{self, InitOptions, InitPlan, TemplateError},
    testing::{TestDatabase, TestServer},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tokio_postgres::{Client, NoTls};

use crate::support::cgk::url;

/// What has not ended by now hangs. No test measures by it.
pub(crate) const HANG: std::time::Duration = std::time::Duration::from_secs(120);

/// A folder that is removed with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let path =
            std::env::temp_dir().canonicalize().unwrap().join(format!("cgk-templates-{:016x}", rand::random::<u64>()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn migrations(&self) -> PathBuf {
        self.0.join("migrations")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Every file, by its path from here, and its text.
    pub(crate) fn files(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.0).unwrap().display().to_string();
                    found.insert(name, fs::read_to_string(&path).unwrap());
                }
            }
        }
        found
    }

    pub(crate) fn plan(&self, options: &InitOptions) -> Result<InitPlan, TemplateError> {
        templates::plan(&self.0, &self.migrations(), options)
    }

    /// Adds templates.
    pub(crate) fn add(&self, names: &[&str]) {
        self.plan(&adding(names)).unwrap().write().unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn adding(names: &[&str]) -> InitOptions {
    let mut options = InitOptions::default();
    options.templates = names.iter().map(|name| (*name).to_owned()).collect();
    options
}

pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    /// Of the service's login.
    pub(crate) db: Db,
    /// A superuser's session, outside of all tenants.
    pub(crate) watch: Client,
}

pub(crate) fn slug(text: &str) -> TenantSlug {
    text.parse().unwrap()
}

impl Stage {
    /// The tenants `acme` and `globex` of a project with these templates.
    pub(crate) async fn with(names: &[&str]) -> Self {
        let folder = Folder::new();
        folder.add(names);
        let migrations = Migrations::from_directory(folder.migrations()).unwrap();
        let database = TestServer::shared().database().await.unwrap();
        let operator = Operator::connect(database.config()).await.unwrap();
        setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
        let own = Db::connect(database.config()).await.unwrap();
        for name in ["acme", "globex"] {
            lifecycle::create(&operator, &own, &migrations, &slug(name), &Default::default()).await.unwrap();
        }
        let db = Db::connect(&service(&database, &operator).await.with_pool_size_max(8)).await.unwrap();
        let (watch, connection) = tokio_postgres::connect(&url(&database, None), NoTls).await.unwrap();
        tokio::spawn(connection);
        Self { database, db, watch }
    }

    /// A single value that a tenant reads.
    pub(crate) async fn one<T>(&self, tenant: &str, sql: &str) -> T
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let row = self.db.tenant(&slug(tenant)).query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }

    /// A statement of a tenant's that must succeed; returns how many rows it changed.
    pub(crate) async fn run(&self, tenant: &str, sql: &str) -> u64 {
        self.db.tenant(&slug(tenant)).execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// The SQLSTATE and the constraint of a statement that must be refused.
    pub(crate) async fn refusal(&self, tenant: &str, sql: &str) -> (String, String) {
        let error: Error = match self.db.tenant(&slug(tenant)).execute(sql, &[]).await {
            Err(error) => error,
            Ok(rows) => panic!("accepted, {rows} rows: {sql}"),
        };
        let state = error.sqlstate().unwrap_or_else(|| panic!("{sql}: {error:?}")).code().to_owned();
        (state, error.constraint().unwrap_or_default().to_owned())
    }

    /// Names of constraints and unique indexes of a schema's tables, without those of NOT NULL, which PostgreSQL 18 names.
    pub(crate) async fn constraints(&self, schema: &str, tables: &[&str]) -> Vec<String> {
        let sql = "select n.conname::text from pg_constraint n
                    where n.conrelid in (select c.oid from pg_class c where c.relnamespace = $1::text::regnamespace
                                            and c.relname = any ($2::text[])) and n.contype <> 'n'
                   union
                   select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
                    where i.indisunique and c.relnamespace = $1::text::regnamespace and c.relname = any ($2::text[])
                      and not exists (select from pg_constraint n where n.conindid = i.indexrelid)
                    order by 1";
        let rows = self.watch.query(sql, &[&schema, &tables]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0).rsplit('.').next().unwrap().to_owned()).collect()
    }

    /// Names of the indexes of a schema's tables.
    pub(crate) async fn indexes(&self, schema: &str, tables: &[&str]) -> Vec<String> {
        let sql = "select i.indexname::text from pg_indexes i
                    where i.schemaname = $1::text and i.tablename = any ($2::text[]) order by 1";
        let rows = self.watch.query(sql, &[&schema, &tables]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The foreign keys of a schema that no index begins with: PostgreSQL reads the whole table for them.
    pub(crate) async fn foreign_keys_without_index(&self, schema: &str) -> Vec<String> {
        let sql = "select n.conname::text from pg_constraint n
                    where n.contype = 'f' and n.connamespace = $1::text::regnamespace
                      and not exists (select from pg_index i where i.indrelid = n.conrelid
                                         and (string_to_array(i.indkey::text, ' ')::int2[])[1:cardinality(n.conkey)] = n.conkey)";
        let rows = self.watch.query(sql, &[&schema]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// The plan of a query in a tenant's schema when reading a whole table is made expensive.
    pub(crate) async fn plan_of(&self, tenant: &str, sql: &str) -> String {
        let settings =
            format!("set search_path = tenant_{tenant}, public; set enable_seqscan = off; set enable_bitmapscan = off");
        self.observe(&settings).await;
        let rows =
            self.watch.query(&format!("explain {sql}"), &[]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    }

    /// Statements of the observer's.
    #[expect(clippy::disallowed_methods, reason = "the observer's session is not the library's")]
    pub(crate) async fn observe(&self, sql: &str) {
        self.watch.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// A login as a service's should be: no superuser, nothing of its own. It is dropped with the database.
async fn service(database: &TestDatabase, operator: &Operator) -> Config {
    let name = format!("app_{}", DatabaseTag::of(database.name()).as_str()).parse().unwrap();
    let mut options = LoginOptions::default();
    options.shared_tables = Some(SharedTables::All);
    options.password = PasswordChange::New;
    let admission = login::admit(operator, &name, &options).await.unwrap();
    let password = admission.password.as_ref().unwrap().reveal();
    Config::from_url(&database.config().url_of(admission.name.as_str(), Some(password))).unwrap()
}

/// Says something that is shown with a failing test.
#[expect(clippy::print_stderr, reason = "the test harness shows it when the test fails")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
