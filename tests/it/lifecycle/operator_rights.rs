//! Setup and new tenants by operators with few rights: what works, what is refused, and which grant helps.

use super::setup_and_create::{EVERYONE_CREATES, bundled_files, create, set_up, slug};
use crate::sandbox::{Files, Raw, exists, login_role};
use cgk::{
    Config, Db, Error, ErrorKind, Operator, SetupError,
    config::Isolation,
    ident::RoleName,
    lifecycle::{self, CreateOptions, Creation},
    migrate::{self, Migrations},
    setup::{self, Hardening, IsolationChange},
    testing::{TestDatabase, TestServer},
};

#[tokio::test]
async fn a_right_that_the_operator_may_not_revoke_is_reported() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (role, config) = login_role(&database, &raw, "nosuperuser createrole").await;
    raw.run(&format!(
        "grant create on schema public to public; grant create on database {} to {role}",
        database.name()
    ))
    .await;
    let operator = Operator::connect(&config).await.unwrap();
    let report = set_up(&operator).await.unwrap();
    assert_eq!((report.hardened, report.applied.len()), (Hardening::NotAllowed, bundled_files().len()));
    assert!(raw.one::<bool>(EVERYONE_CREATES).await);
}

#[tokio::test]
async fn setup_without_the_rights_says_what_to_grant_and_the_grant_helps() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run("revoke create on schema public from public").await;
    let (_, config) = login_role(&database, &raw, "nosuperuser").await;
    for needed in ["create tables in schema public", "create schemas in database", "create roles"] {
        let operator = Operator::connect(&config).await.unwrap();
        let error = set_up(&operator).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        let Error::Setup(SetupError::Privilege { needed: found, grant, .. }) = error else { panic!("{error:?}") };
        assert!(found.starts_with(needed), "{found}");
        assert!(!exists(&raw, "public.schema_migrations").await);
        raw.run(&grant).await;
    }
    set_up(&Operator::connect(&config).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_read_only_session_is_refused_before_anything_is_tried() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!("alter database {} set default_transaction_read_only = on", database.name())).await;
    let operator = database.operator().await.unwrap();
    assert!(operator.facts().read_only);
    let error = set_up(&operator).await.unwrap_err();
    assert!(error.to_string().contains("default_transaction_read_only"), "{error}");
}

/// An operator without superuser, as managed services give it, whose login the service uses too.
async fn modest(attributes: &str) -> (TestDatabase, Raw, Config) {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    let (role, config) = login_role(&database, &raw, &format!("nosuperuser {attributes}")).await;
    raw.run(&format!(
        "alter database {} owner to {role}; grant create, usage on schema public to {role}",
        database.name()
    ))
    .await;
    let operator = Operator::connect(&config).await.unwrap();
    assert!(!operator.facts().superuser);
    set_up(&operator).await.unwrap();
    (database, raw, config)
}

#[tokio::test]
async fn an_operator_without_superuser_makes_migrates_and_enters_tenants() {
    let (_database, raw, config) = modest("createrole").await;
    let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    for name in ["acme", "globex"] {
        assert_eq!(create(&operator, &db, name).await.unwrap().creation, Creation::New);
    }
    let id: uuid::Uuid = db
        .with_tenant(&slug("acme"), async |tx| {
            Ok(tx.query_one("insert into customers (email) values ('a@example.com') returning id", &[]).await?.get(0))
        })
        .await
        .unwrap();
    assert!(!id.is_nil());
    let error = db
        .with_tenant(&slug("acme"), async |tx| tx.query("table tenant_globex.customers", &[]).await)
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "42501");

    // Finishing what is half made needs no more rights than making it.
    let role = RoleName::of_tenant(&slug("acme"), &operator.facts().database_tag()).quoted();
    raw.run(&format!("revoke all on schema tenant_acme from {role}")).await;
    assert_eq!(create(&operator, &db, "acme").await.unwrap().creation, Creation::Finished);

    // And the next migration reaches both.
    let files = Files::of_tenants(&[]);
    for file in Migrations::bundled().set(migrate::Set::Tenant).files() {
        files.tenant(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
    }
    files.tenant("100_more.sql", "create table more (id int generated always as identity, note text)");
    let report = crate::sandbox::migrate_all(&operator, &files.load()).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 2), "{report:#?}");
    db.with_tenant(&slug("globex"), async |tx| tx.execute("insert into more (note) values ('x')", &[]).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_createrole_the_role_mode_is_denied_and_the_path_mode_works() {
    let (_database, raw, config) = modest("createrole").await;
    raw.run(&format!("alter role {} nocreaterole", config.target().user().unwrap())).await;
    let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    let error = create(&operator, &db, "acme").await.unwrap_err();
    let Error::Setup(SetupError::Privilege { grant, .. }) = error else { panic!("{error:?}") };
    assert!(grant.ends_with("createrole"), "{grant}");
    assert!(!exists(&raw, "tenant_acme.orders").await);
    // A set-up that is there needs that right no more.
    set_up(&operator).await.unwrap();

    let config = config.with_isolation(Isolation::Path);
    for step in [IsolationChange::Start, IsolationChange::Finish] {
        setup::change_isolation(&config, step).await.unwrap();
    }
    let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    assert_eq!(create(&operator, &db, "acme").await.unwrap().creation, Creation::New);
    assert_eq!(create(&operator, &db, "acme").await.unwrap().creation, Creation::Existed);
    db.with_tenant(&slug("acme"), async |tx| tx.query("table orders", &[]).await).await.unwrap();
    let roles: i64 = raw
        .one(&format!(
            "select count(*) from pg_roles where rolname like 'cgk\\_acme\\_{}'",
            operator.facts().database_tag().as_str()
        ))
        .await;
    assert_eq!(roles, 0);
}

#[tokio::test]
async fn without_create_on_the_database_the_grant_is_named() {
    let (database, raw, config) = modest("createrole").await;
    raw.run(&format!("alter database {0} owner to current_user; revoke all on database {0} from public; grant connect on database {0} to public", database.name())).await;
    let (operator, db) = (Operator::connect(&config).await.unwrap(), Db::connect(&config).await.unwrap());
    let error = create(&operator, &db, "acme").await.unwrap_err();
    let Error::Setup(SetupError::Privilege { grant, .. }) = error else { panic!("{error:?}") };
    raw.run(&grant).await;
    let operator = Operator::connect(&config).await.unwrap();
    create(&operator, &db, "acme").await.unwrap();
}

/// A second operator may migrate what the first one made only when it may act as its owner.
#[tokio::test]
async fn another_operator_without_the_owners_rights_is_denied_and_told_what_helps() {
    let (database, raw, first) = modest("createrole").await;
    let (operator, db) = (Operator::connect(&first).await.unwrap(), Db::connect(&first).await.unwrap());
    let files = Files::of_tenants(&[("001_a.sql", "create table a ()")]);
    lifecycle::create(&operator, &db, &files.load(), &slug("acme"), &CreateOptions::default()).await.unwrap();
    files.tenant("002_b.sql", "create table b ()");
    let (second, config) = login_role(&database, &raw, "nosuperuser createrole").await;
    raw.run(&format!("grant select on organizations, schema_migrations to {second}")).await;
    let other = Operator::connect(&config).await.unwrap();
    let migrations = files.load();
    // Not an empty fleet: row level security hides the registry, and that is said.
    let error = crate::sandbox::migrate_all(&other, &migrations).await.unwrap_err();
    assert!(
        matches!(&error, Error::Setup(SetupError::Privilege { needed, .. }) if needed.contains("row level security")),
        "{error:?}"
    );
    // With a policy for it the fleet is there, and the schemas are still the other's.
    raw.run(&format!("create policy readers on organizations to {second} using (true)")).await;
    let report = crate::sandbox::migrate_all(&other, &migrations).await.unwrap();
    let error = crate::sandbox::failure(&report, "acme");
    let Error::Setup(SetupError::Privilege { grant, .. }) = error else { panic!("{error:?}") };
    raw.run(grant).await;
    let report = crate::sandbox::migrate_all(&other, &migrations).await.unwrap();
    assert_eq!((report.failed(), report.migrated()), (0, 1), "{report:#?}");
    let owner: String =
        raw.one("select pg_get_userbyid(relowner)::text from pg_class where oid = 'tenant_acme.b'::regclass").await;
    assert_eq!(owner, operator.facts().role);
}
