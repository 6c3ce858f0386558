//! A copy of a database, as staging has one of production, beside its original.

use crate::{
    MINUTE,
    server::{Server, until},
    settings,
};
use cgk::{
    Config, Db, Tenant,
    cache::{TenantCache, TenantCaches},
    ident::Ident,
    lifecycle,
    testing::{TestServer, create_database, drop_database},
};

async fn cache(config: &Config, redis: &Server) -> (Tenant, TenantCache) {
    let db: Db = Db::connect(config).await.unwrap();
    let tenant = db.platform().find_tenant(&"acme".parse().unwrap()).await.unwrap();
    let cache = TenantCaches::new(&db, &redis.url(), settings()).unwrap().tenant(&tenant);
    (tenant, cache)
}

#[tokio::test]
async fn a_copy_shares_no_value_with_its_original() {
    let server = TestServer::shared();
    let original = server.set_up_database().await.unwrap();
    drop(original.with_tenants(&["acme"]).await.unwrap());
    let name = Ident::new(&format!("copy_{:016x}", rand::random::<u64>())).unwrap();
    // Sessions of the original that are about to end are waited for.
    until("the database is copied", async || {
        create_database(server.config(), &name, Some(original.name())).await.is_ok()
    })
    .await;
    let copy = original.config().with_database(name.as_str());
    assert!(lifecycle::new_identity(&copy).await.unwrap().was_copy);

    let redis = Server::start().await;
    let (tenant, production) = cache(original.config(), &redis).await;
    let (copied, staging) = cache(&copy, &redis).await;
    assert_eq!((&tenant.id, &tenant.slug), (&copied.id, &copied.slug), "the same organization to all appearances");
    production.set("k", &"production", MINUTE).await.unwrap();
    assert_eq!(staging.get::<String>("k").await.unwrap(), None);
    staging.set("k", &"staging", MINUTE).await.unwrap();
    assert_eq!(production.get::<String>("k").await.unwrap().as_deref(), Some("production"));
    staging.flush().await.unwrap();
    assert_eq!(production.get::<String>("k").await.unwrap().as_deref(), Some("production"));
    // The control: another process of the original shares it, also under a new handle.
    let (_, beside) = cache(original.config(), &redis).await;
    assert_eq!(beside.get::<String>("k").await.unwrap().as_deref(), Some("production"));
    drop_database(server.config(), &name).await.unwrap();
}
