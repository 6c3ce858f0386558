//! A registry that is missing, or has another form than any of cgk's: what the server says is passed on and not explained away.

use crate::stage::{Stage, slug};
use cgk::{Db, Error, SetupError, TenantError, testing::TestServer};

#[tokio::test]
async fn a_tenant_is_looked_for_where_there_is_no_registry() {
    let database = TestServer::shared().database().await.unwrap();
    let db: Db = database.db().await.unwrap();
    let error = db.platform().find_tenant(&slug("acme")).await.unwrap_err();
    let Error::Setup(SetupError::NotSetUp { database: named, missing }) = &error else { panic!("{error:?}") };
    assert_eq!(named, database.name());
    assert!(missing.contains("public.organizations"), "{missing}");
}

#[tokio::test]
async fn a_column_that_is_missing_is_no_missing_table_and_no_missing_right() {
    let stage = Stage::set().await;
    let db: Db = stage.db.clone();
    // The control: it is there.
    assert_eq!(db.platform().find_tenant(&slug("acme")).await.unwrap().slug, slug("acme"));
    let error = db.platform().find_tenant(&slug("initech")).await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::NotFound { .. })), "{error:?}");
    stage.sql("alter table organizations rename column status to state").await;
    for error in [
        db.platform().find_tenant(&slug("acme")).await.map(drop).unwrap_err(),
        db.tenant(&slug("acme")).execute("select 1", &[]).await.map(drop).unwrap_err(),
    ] {
        assert!(!matches!(error, Error::Setup(_)), "{error:?}");
        assert_eq!(error.sqlstate().map(|state| state.code()), Some("42703"), "{error:?}");
    }
}

/// Which database it is and how it keeps tenants apart is not guessed: what fails while it is asked is no missing function.
#[tokio::test]
async fn an_identity_or_isolation_that_cannot_be_read_is_an_error() {
    let stage = Stage::set().await;
    let with_body = async |function: &str, body: &str| {
        let function = format!("create or replace function {function}() returns text language plpgsql as");
        stage.sql(&format!("{function} $$ begin {body}; end $$")).await;
        Db::<Error>::connect(&stage.config()).await.map(drop)
    };
    let failing = "raise exception 'made up'";
    let error = with_body("cgk_isolation_modes", failing).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("P0001"), "{error:?}");
    // The control: the function itself is fine.
    with_body("cgk_isolation_modes", "return 'path role'").await.unwrap();
    let error = with_body("cgk_database_tag", failing).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("P0001"), "{error:?}");
}
