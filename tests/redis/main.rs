//! `cgk::cache` against a real Redis.
//!
//! `scripts/redis-tests.sh` installs redis-server and runs this; plain `cargo test` leaves it out. Each test starts a server of
//! its own.

mod copies;
mod failures;
mod model;
mod server;
mod stampede;
mod stream;
mod values;
mod waiting;

use cgk::{
    Db, Tenant,
    cache::{CacheError, CacheSettings, OnFailure, TenantCache, TenantCaches},
    testing::{TestDatabase, TestServer},
};
use server::Server;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// An error of an application.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("{0}")]
    Own(&'static str),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A Redis, and tenants of a real registry.
struct Stage {
    server: Server,
    _database: TestDatabase,
    db: Db,
    tenants: Vec<Tenant>,
}

impl Stage {
    async fn set(slugs: &[&str]) -> Self {
        let (database, db, tenants) = registry(slugs).await;
        Self { server: Server::start().await, _database: database, db, tenants }
    }

    fn caches(&self) -> TenantCaches {
        self.caches_with(settings())
    }

    fn caches_with(&self, settings: CacheSettings) -> TenantCaches {
        TenantCaches::new(&self.db, &self.server.url(), settings).unwrap()
    }

    /// What the names of the first tenant's keys begin with.
    async fn prefix(&self) -> String {
        let tenant = &self.tenants[0];
        let row = self.db.tenant(&tenant.slug).query_one("select public.cgk_database_tag()", &[]).await.unwrap();
        format!("cgk:{}:{{{}}}:", row.get::<_, String>(0), tenant.id.uuid().simple())
    }

    /// The first tenant's cache.
    fn cache(&self) -> TenantCache {
        self.caches().tenant(&self.tenants[0])
    }
}

async fn registry(slugs: &[&str]) -> (TestDatabase, Db, Vec<Tenant>) {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(slugs).await.unwrap();
    let db: Db = Db::connect(database.config()).await.unwrap();
    let mut tenants = Vec::new();
    for slug in slugs {
        tenants.push(db.platform().find_tenant(&slug.parse().unwrap()).await.unwrap());
    }
    (database, db, tenants)
}

/// Nothing here depends on how busy the machine is: what is not about a time limit has a long one.
fn settings() -> CacheSettings {
    let mut settings = CacheSettings::default();
    settings.operation_limit = MINUTE;
    settings.lease = 10 * MINUTE;
    settings.wait_max = 10 * MINUTE;
    settings.on_failure = OnFailure::Error;
    settings
}
