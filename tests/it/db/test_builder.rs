//! `TestServer::builder`: a test's database with own migrations, tenants and a service's login.

use crate::sandbox::{Files, Raw};
use cgk::{config::Isolation, login::SharedTables, testing::TestServer};

#[tokio::test]
async fn a_database_has_own_migrations_tenants_and_a_service_login() {
    let files = Files::of_tenants(&[("001_orders.sql", "create table orders (id int)")]);
    let migrations = files.load();
    let server = TestServer::shared();
    let acme = "acme".parse().unwrap();
    for (isolation, role) in [(Isolation::Role, true), (Isolation::Path, false)] {
        let built = server.builder().migrations(&migrations).isolation(isolation);
        let built = built.tenants(["acme".parse().unwrap(), "globex".parse().unwrap()]);
        let database = built.service_login(SharedTables::Registry).create().await.unwrap();
        let service = database.service().await.unwrap();
        let rows = service.with_tenant(&acme, async |tx| {
            tx.query("select current_user::text from orders right join (values (1)) v (n) on true", &[]).await
        });
        let user: String = rows.await.unwrap()[0].get(0);
        assert_eq!(user.starts_with("cgk_acme_"), role, "{user}");
        // The login has only a service's rights: the database of an operator has more.
        let denied = service.platform().query("select * from users", &[]).await.unwrap_err();
        assert_eq!(denied.sqlstate().map(|state| state.code()), Some("42501"), "{denied}");
        database.db().await.unwrap().platform().query("select * from users", &[]).await.unwrap();
        let login = database.service_config().unwrap().target().user().unwrap().to_owned();
        assert!(login.starts_with("app_"), "{login}");
    }
}

#[tokio::test]
async fn databases_of_one_set_are_copies_and_those_of_another_are_not() {
    let server = TestServer::shared();
    let one = Files::of_tenants(&[("001_one.sql", "create table one ()")]);
    let (first, second) = (one.load(), one.load());
    let a = server.builder().migrations(&first).create().await.unwrap();
    let b = server.builder().migrations(&second).create().await.unwrap();
    one.public("900_more.sql", "create table more_shared ()");
    let other = one.load();
    let c = server.builder().migrations(&other).create().await.unwrap();
    // When the shared schema was set up is a row of its ledger: a copy has the template's.
    let set_up = async |database| -> String {
        let sql = "select min(applied_at)::text from public.schema_migrations";
        Raw::on(database).await.one(sql).await
    };
    let (times, other) = ((set_up(&a).await, set_up(&b).await), set_up(&c).await);
    assert_eq!(times.0 == times.1, server.local().is_some(), "{times:?}");
    assert_ne!(times.0, other);
    let has_more = async |database| -> bool {
        Raw::on(database).await.one("select to_regclass('public.more_shared') is not null").await
    };
    assert!(!has_more(&b).await && has_more(&c).await);
    assert_ne!(a.name(), b.name());
}

#[tokio::test]
async fn a_database_without_a_login_says_so() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    assert!(database.service_config().is_none());
    let error = database.service().await.unwrap_err();
    assert!(error.to_string().contains("without a login"), "{error}");
}
