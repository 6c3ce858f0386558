use cgk::testing::TestServer;

#[tokio::test]
async fn two_tenants() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let db = database.with_tenants(&["acme", "globex"]).await.unwrap();
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    db.with_tenant(&acme, async |tx| {
        tx.execute("insert into customers (email) values ($1)", &[&"a@example.com"]).await?;
        Ok(())
    })
    .await
    .unwrap();
    let n: i64 = db
        .with_tenant(&globex, async |tx| Ok(tx.query_one("select count(*) from customers", &[]).await?.get(0)))
        .await
        .unwrap();
    assert_eq!(n, 0);
    let n: i64 = db
        .with_tenant(&acme, async |tx| Ok(tx.query_one("select count(*) from customers", &[]).await?.get(0)))
        .await
        .unwrap();
    assert_eq!(n, 1);
    let error = db
        .with_tenant(&acme, async |tx| tx.query("select * from tenant_globex.customers", &[]).await)
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42501");
}
