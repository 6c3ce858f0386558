//! Databases that change their names: two that swap them, one that is renamed under a service, and a copy under path isolation.

use super::database_identity::{Shop, by_hand, customers, drifts, fresh, server};
use crate::{
    sandbox::{Raw, migrate_all},
    stage::{as_login, slug},
};
use cgk::{
    ConnectionError, Db, Error, Operator, SetupError, TenantError,
    config::Isolation,
    ident::{DatabaseTag, RoleName},
    lifecycle::{self, CreateOptions},
    login::{self, LoginOptions, PasswordChange},
    migrate::{Migrations, Silent},
    setup,
    testing::TestServer,
};

/// Ends the sessions of a database, which can be renamed or copied then.
async fn end_sessions(database: &str) {
    let server = server().await;
    server
        .run(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend'"
        ))
        .await;
    server.wait_until(&format!("select not exists (select from pg_stat_activity where datname = '{database}')")).await;
}

async fn rename(from: &str, to: &str) {
    end_sessions(from).await;
    server().await.run(&format!("alter database {from} rename to {to}")).await;
}

fn role(database: &str, tenant: &str) -> String {
    RoleName::of_tenant(&slug(tenant), &DatabaseTag::of(database)).as_str().to_owned()
}

#[tokio::test]
async fn two_databases_that_swap_their_names_keep_what_is_theirs() {
    let (one, two) = (Shop::open().await, Shop::open().await);
    Raw::on(&two.database).await.run("insert into tenant_acme.customers (email) values ('b@example.com')").await;
    let (first, second) = (one.database.name().to_owned(), two.database.name().to_owned());
    let between = fresh("between");
    rename(&first, &between).await;
    rename(&second, &first).await;
    rename(&between, &second).await;

    // Each with the name that it has now, the name that it had, and how many customers acme has there.
    for (shop, now, before, rows) in [(&one, &second, &first, 1), (&two, &first, &second, 2)] {
        let db = Db::connect(&shop.service(now)).await.unwrap();
        assert_eq!(customers(&db, "acme").await.unwrap(), rows);
        assert_eq!(customers(&db, "globex").await.unwrap(), 0);
        let operator = Operator::connect(&shop.config(now)).await.unwrap();
        assert_eq!(operator.facts().database_tag(), DatabaseTag::of(before));
        let run = migrate_all(&operator, &Migrations::bundled()).await.unwrap();
        assert_eq!((run.at_head, run.failed()), (2, 0), "{run:?}");
        assert!(lifecycle::without_role(&operator).await.unwrap().is_empty());
        assert_eq!(drifts(&shop.config(now)).await, Vec::<String>::new());

        // A tenant that is made now gets a role of the same kind as the others, and the login may act as it.
        let options = CreateOptions::default();
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug("initech"), &options).await.unwrap();
        assert_eq!(customers(&db, "initech").await.unwrap(), 0);
        let raw = crate::registry::database_identity::raw(now).await;
        let made: bool = raw
            .one(&format!("select has_schema_privilege('{}', 'tenant_initech', 'usage')", role(before, "initech")))
            .await;
        assert!(made);
    }

    // The control: by hand the login acts as its tenant's role in its own database.
    assert_eq!(by_hand(&one.url(&second), &role(&first, "acme")).await, Ok(1));
    // In the other one, which has the name that its own had, that role may do nothing, and it may not act as the other's.
    assert_eq!(by_hand(&one.url(&first), &role(&first, "acme")).await, Err("42501".into()));
    assert_eq!(by_hand(&one.url(&first), &role(&second, "acme")).await, Err("42501".into()));
    // By the address that its service knows from before.
    let astray = Db::connect(&one.service(&first)).await;
    let entered = match &astray {
        Ok(db) => customers(db, "acme").await,
        Err(_) => Ok(0),
    };
    assert!(entered.is_err() || astray.is_err(), "the login of one entered the other: {entered:?}");
}

#[tokio::test]
async fn a_service_whose_database_is_renamed_fails_and_comes_back() {
    let (one, two) = (Shop::open().await, Shop::open().await);
    Raw::on(&two.database).await.run("insert into tenant_acme.customers (email) values ('b@example.com')").await;
    let (name, other, away) = (one.database.name().to_owned(), two.database.name().to_owned(), fresh("away"));
    let db = Db::connect(&one.service(&name).with_pool_size_max(1)).await.unwrap();
    // The control.
    assert_eq!(customers(&db, "acme").await.unwrap(), 1);

    rename(&name, &away).await;
    let error = customers(&db, "acme").await.unwrap_err();
    assert!(
        matches!(&error, Error::Connection(ConnectionError::DatabaseMissing { database, .. }) if *database == name),
        "{error:?}"
    );

    // Another database gets the name, with tenants of the same slugs. Its rows are not handed out.
    rename(&other, &name).await;
    let error = customers(&db, "acme").await.unwrap_err();
    assert!(matches!(error, Error::Setup(SetupError::Privilege { .. })), "{error:?}");
    // Not even where the same login is admitted to both: a service enters as the roles of the database that it began with.
    let operator = Operator::connect(&two.config(&name)).await.unwrap();
    login::admit(&operator, &one.admission.name, &LoginOptions::default()).await.unwrap();
    let error = customers(&db, "acme").await.unwrap_err();
    assert!(matches!(error, Error::Tenant(TenantError::NotReady { .. })), "{error:?}");
    assert_eq!(customers(&Db::connect(&one.service(&name)).await.unwrap(), "acme").await.unwrap(), 2);
    // The control: the other database's own login reads them there.
    assert_eq!(customers(&Db::connect(&two.service(&name)).await.unwrap(), "acme").await.unwrap(), 2);

    rename(&name, &other).await;
    rename(&away, &name).await;
    assert_eq!(customers(&db, "acme").await.unwrap(), 1);
}

/// What a login reads of acme by hand, without a role.
async fn reads(url: &str) -> Result<i64, String> {
    let raw = Raw::connect(url).await;
    match raw.try_run("select from tenant_acme.customers").await {
        Ok(()) => Ok(raw.one("select count(*) from tenant_acme.customers").await),
        Err(error) => Err(error.code().unwrap().code().to_owned()),
    }
}

#[tokio::test]
async fn a_copy_under_path_isolation_gets_an_identity_of_its_own() {
    let database = TestServer::shared().database().await.unwrap();
    let original = database.config().clone().with_isolation(Isolation::Path);
    let operator = Operator::connect(&original).await.unwrap();
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    let login = crate::access::service_login::app_name(&database);
    let mut options = LoginOptions::default();
    options.password = PasswordChange::New;
    let admission = login::admit(&operator, &login, &options).await.unwrap();
    let service = as_login(&original, &admission).with_isolation(Isolation::Path);
    let db: Db = Db::connect(&service).await.unwrap();
    for tenant in ["acme", "globex"] {
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug(tenant), &CreateOptions::default())
            .await
            .unwrap();
    }
    db.tenant(&slug("acme")).execute("insert into customers (email) values ('a@example.com')", &[]).await.unwrap();
    drop((db, operator));

    let copy = fresh("path_copy");
    end_sessions(database.name()).await;
    server().await.run(&format!("create database {copy} template {}", database.name())).await;
    let (copied, copied_service) = (original.clone().with_database(&copy), service.clone().with_database(&copy));
    let password = admission.password.as_ref().unwrap().reveal();
    let url = copied.url_of(login.as_str(), Some(password));
    assert!(
        matches!(Operator::connect(&copied).await, Err(Error::Setup(SetupError::DatabaseCopied { database })) if database == copy)
    );
    assert!(matches!(Db::connect(&copied_service).await, Err(Error::Setup(SetupError::DatabaseCopied { .. }))));
    // The control: past cgk, the original's login reads the copy's rows.
    assert_eq!(reads(&url).await, Ok(1));

    // The isolation that the copy says it has is asked for first.
    let wrong = lifecycle::new_identity(&copied.clone().with_isolation(Isolation::Role)).await;
    assert!(matches!(wrong, Err(Error::Setup(SetupError::IsolationMismatch { .. }))), "{wrong:?}");
    let renewed = lifecycle::new_identity(&copied).await.unwrap();
    assert!(renewed.was_copy && renewed.failed.is_empty(), "{renewed:?}");
    assert_eq!((renewed.finished.len(), renewed.logins.as_slice()), (2, &[login.as_str().to_owned()][..]));
    assert_eq!(reads(&url).await, Err("42501".into()));
    assert_eq!(drifts(&copied).await, Vec::<String>::new());
    assert_eq!(customers(&Db::connect(&copied).await.unwrap(), "acme").await.unwrap(), 1);
    let refused = match Db::connect(&copied_service).await {
        Ok(db) => customers(&db, "acme").await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(refused, Error::Setup(SetupError::Privilege { .. })), "{refused:?}");

    // Admitted again, it reads; and a second time there is nothing to do.
    let operator = Operator::connect(&copied).await.unwrap();
    login::admit(&operator, &login, &LoginOptions::default()).await.unwrap();
    let again = lifecycle::new_identity(&copied).await.unwrap();
    assert!(!again.was_copy && again.logins.is_empty() && again.failed.is_empty(), "{again:?}");
    assert_eq!(customers(&Db::connect(&copied_service).await.unwrap(), "acme").await.unwrap(), 1);

    // The original never noticed.
    assert_eq!(customers(&Db::connect(&service).await.unwrap(), "acme").await.unwrap(), 1);
    assert_eq!(drifts(&original).await, Vec::<String>::new());
}
