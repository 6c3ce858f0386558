//! One statement as a tenant.

use cgk::testing::TestServer;

#[tokio::test]
async fn one_statement() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let db = database.with_tenants(&["acme"]).await.unwrap();
    let slug: cgk::TenantSlug = "acme".parse().unwrap();
    for i in 0..3 {
        let db = db.clone();
        let slug = slug.clone();
        tokio::spawn(async move {
            let email = format!("a{i}@example.com");
            let n = db.tenant(&slug).execute("insert into customers (email) values ($1)", &[&email]).await.unwrap();
            assert_eq!(n, 1);
        })
        .await
        .unwrap();
    }
    let n: i64 = db.tenant(&slug).query_one("select count(*) from customers", &[]).await.unwrap().get(0);
    assert_eq!(n, 3);
    assert!(db.tenant(&slug).query_one("select * from nothing", &[]).await.is_err());
    let error = db.tenant(&"zzz".parse().unwrap()).query("select 1", &[]).await.unwrap_err();
    assert_eq!(error.code(), "CGK0401");
    let error = db.tenant(&slug).query_one("select $1::int", &[&"text"]).await.unwrap_err();
    assert_eq!(error.code(), "CGK0505", "{error}");
    let operator = database.operator().await.unwrap();
    drop(operator);
    db.tenant(&slug).query("select * from customers", &[]).await.unwrap();
}
