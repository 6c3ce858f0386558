//! The example of a service does what its comments say.

#[path = "../../../examples/service.rs"]
#[allow(dead_code, reason = "its main is run by a person")]
mod service;

use crate::stage::Stage;
use service::App;

#[tokio::test]
async fn each_error_has_its_status() {
    let stage = Stage::set().await;
    stage.database.with_tenants(&["umbrella"]).await.unwrap();
    stage.sql("create unique index one_email on tenant_acme.customers (email)").await;
    stage.sql("update organizations set status = 'suspended' where slug = 'umbrella'").await;
    let app = App::connect(&stage.config()).await.unwrap();
    let ada = "{\"email\": \"ada@example.com\"}";
    assert_eq!(app.health().await, 200);
    assert_eq!(app.add_customer("acme", ada).await.unwrap(), 1);
    let status = async |tenant: &str, body: &str| app.add_customer(tenant, body).await.unwrap_err().status();
    assert_eq!(status("acme", ada).await, 409);
    assert_eq!(status("acme", "{").await, 400);
    assert_eq!(status("Acme", ada).await, 404);
    assert_eq!(status("nobody", ada).await, 404);
    assert_eq!(status("umbrella", ada).await, 403);
    let emails: Vec<String> = app.customers("acme").await.unwrap().into_iter().map(|customer| customer.email).collect();
    assert_eq!(emails, ["ada@example.com"]);
    assert!(app.customers("globex").await.unwrap().is_empty());
    // What is not to be sent to a caller is a 500.
    stage.sql("drop table tenant_acme.customers cascade").await;
    assert_eq!(status("acme", ada).await, 500);
}
