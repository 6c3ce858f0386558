//! What a login is given beside the tenants that it is admitted to: what everybody has elsewhere, and no further tenants unless
//! it serves the configured isolation already.

use crate::stage::Stage;
use cgk::{
    Operator,
    config::Isolation,
    login::{self, LoginOptions, SharedTables},
};

#[tokio::test]
async fn a_login_that_uses_no_schema_by_itself_is_let_into_none() {
    let stage = Stage::set().await;
    let (login, operator) = (stage.app_name(), stage.config().with_isolation(Isolation::Path));
    let operator = Operator::connect(&operator).await.unwrap();
    let enters = async || {
        let may = |tenant: &str| format!("has_schema_privilege('{login}', 'tenant_{tenant}', 'usage')::int");
        stage.number(&format!("select 10::bigint * {} + {}", may("acme"), may("globex"))).await
    };
    let complete = async || login::complete(&operator).await.unwrap();

    // Made for roles, its policies show it every row of the shared tables whenever it is itself.
    stage.app(Isolation::Role, SharedTables::Registry).await;
    stage.sql(&format!("grant usage on schema tenant_acme to {login}")).await;
    complete().await;
    assert_eq!(enters().await, 10, "a login made for roles");

    stage.app(Isolation::Path, SharedTables::Registry).await;
    assert_eq!(enters().await, 11, "the control: admitted for paths");
    stage.sql(&format!("revoke usage on schema tenant_acme, tenant_globex from {login}")).await;
    complete().await;
    assert_eq!(enters().await, 0, "a login without a schema");

    // The control: with one it serves paths, and gets the other.
    stage.sql(&format!("grant usage on schema tenant_acme to {login}")).await;
    complete().await;
    assert_eq!(enters().await, 11);
}

#[tokio::test]
async fn a_login_is_given_by_name_what_was_taken_from_everybody() {
    let stage = Stage::set().await;
    let (login, database) = (stage.app_name(), stage.database.name());
    stage
        .sql(&format!("revoke connect on database {database} from public; revoke usage on schema public from public"))
        .await;
    let may = async |role: &str| {
        let connect = format!("has_database_privilege('{role}', current_database(), 'connect')::int");
        stage
            .number(&format!("select 10::bigint * {connect} + has_schema_privilege('{role}', 'public', 'usage')::int"))
            .await
    };
    // The control: a role that is not admitted.
    assert_eq!(may(&stage.role("acme")).await / 10, 0);
    let operator = Operator::connect(&stage.config()).await.unwrap();
    login::admit(&operator, &login, &LoginOptions::default()).await.unwrap();
    assert_eq!(may(login.as_str()).await, 11);
}
