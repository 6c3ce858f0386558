//! A database has an identity that a rename keeps and a copy does not share; and its registry gives up no organization whose
//! schema stands.

use crate::{
    sandbox::Raw,
    stage::{as_login, slug},
    support::score,
};
use cgk::{
    Config, Db, Error, Operator, SetupError, drift,
    ident::DatabaseTag,
    lifecycle::{self, CreateOptions, Creation},
    login::{self, Admission, LoginName, LoginOptions, PasswordChange, SharedTables},
    migrate::{Migrations, Scope, Silent},
    setup::{self, RegistryGuard},
    testing::{TestDatabase, TestServer},
};

/// A database with two tenants and a service's login.
pub(crate) struct Shop {
    pub(crate) database: TestDatabase,
    pub(crate) admission: Admission,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        database.with_tenants(&["acme", "globex"]).await.unwrap();
        let name: LoginName = format!("app_{}", DatabaseTag::of(database.name()).as_str()).parse().unwrap();
        let mut options = LoginOptions::default();
        options.password = PasswordChange::New;
        let operator = database.operator().await.unwrap();
        let admission = login::admit(&operator, &name, &options).await.unwrap();
        Raw::on(&database).await.run("insert into tenant_acme.customers (email) values ('a@example.com')").await;
        Self { database, admission }
    }

    pub(crate) fn login(&self) -> &str {
        self.admission.name.as_str()
    }

    /// The same server, another database.
    pub(crate) fn config(&self, database: &str) -> Config {
        self.database.config().with_database(database)
    }

    pub(crate) fn service(&self, database: &str) -> Config {
        as_login(self.database.config(), &self.admission).with_database(database)
    }

    /// The address of the service's login.
    pub(crate) fn url(&self, database: &str) -> String {
        let password = self.admission.password.as_ref().unwrap().reveal();
        self.config(database).url_of(self.login(), Some(password))
    }

    /// A copy by template.
    pub(crate) async fn copy(&self, name: &str) -> Raw {
        server().await.run(&format!("create database {name} template {}", self.database.name())).await;
        raw(name).await
    }
}

/// A session in the server's own database.
pub(crate) async fn server() -> Raw {
    raw("postgres").await
}

pub(crate) async fn raw(database: &str) -> Raw {
    let url = match TestServer::shared().local() {
        Some(local) => local.url(database),
        None => panic!("this test renames databases, and does so on a private server alone"),
    };
    Raw::connect(&url).await
}

pub(crate) async fn customers(db: &Db, tenant: &str) -> cgk::Result<i64> {
    let sql = "select count(*) from customers";
    db.with_tenant(&slug(tenant), async |tx| Ok(tx.query_one(sql, &[]).await?.get(0))).await
}

pub(crate) async fn drifts(config: &Config) -> Vec<String> {
    let operator = Operator::connect(config).await.unwrap();
    let report = drift::verify(&operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
    let schemas = report.schemas().flat_map(|schema| schema.differences.iter().map(ToString::to_string));
    schemas.chain(report.strays.iter().map(ToString::to_string)).collect()
}

/// What drift says of the logins of services and of PUBLIC.
async fn rights(config: &Config) -> Vec<String> {
    let operator = Operator::connect(config).await.unwrap();
    let report = drift::verify(&operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
    let elsewhere = report.rights.iter().filter(|found| found.to_string().contains("of another database"));
    assert!(elsewhere.flat_map(|found| &found.fix).next().is_none(), "no statement takes it from the other database");
    report.rights.iter().map(ToString::to_string).collect()
}

pub(crate) fn fresh(name: &str) -> String {
    format!("cgk_test_{name}_{:08x}", rand::random::<u32>())
}

/// What a login does in a tenant's schema by hand, as its tenant's role of the first database.
pub(crate) async fn by_hand(url: &str, role: &str) -> Result<i64, String> {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let state =
        |error: tokio_postgres::Error| error.code().map_or_else(|| error.to_string(), |code| code.code().to_owned());
    client.execute_typed(&format!("set role \"{role}\""), &[]).await.map_err(state)?;
    let rows = client.query_typed("select count(*) from tenant_acme.customers", &[]).await.map_err(state)?;
    Ok(rows[0].get(0))
}

#[tokio::test]
async fn a_renamed_database_keeps_its_roles_logins_and_rows() {
    let shop = Shop::open().await;
    let (old, new) = (shop.database.name().to_owned(), fresh("renamed"));
    assert_eq!(customers(&Db::connect(&shop.service(&old)).await.unwrap(), "acme").await.unwrap(), 1);
    server()
        .await
        .run(&format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{old}'"))
        .await;
    server().await.run(&format!("alter database {old} rename to {new}")).await;

    let db = Db::connect(&shop.service(&new)).await.unwrap();
    assert_eq!(customers(&db, "acme").await.unwrap(), 1);
    let operator = Operator::connect(&shop.config(&new)).await.unwrap();
    assert_eq!(operator.facts().database_tag(), DatabaseTag::of(&old));
    let report = setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    assert_eq!((report.applied.len(), report.registry_guard), (0, RegistryGuard::Present));
    assert!(lifecycle::without_role(&operator).await.unwrap().is_empty());
    let made =
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug("initech"), &CreateOptions::default()).await;
    assert_eq!(made.unwrap().creation, Creation::New);
    // Row level security tells the tenant by the same tag.
    let seen: i64 = db
        .with_tenant(&slug("acme"), async |tx| {
            Ok(tx.query_one("select count(*) from organizations", &[]).await?.get(0))
        })
        .await
        .unwrap();
    assert_eq!(seen, 1);
    assert_eq!(drifts(&shop.config(&new)).await, Vec::<String>::new());

    // A new database of the old name does not get the old one's roles.
    server().await.run(&format!("create database {old}")).await;
    let second = Operator::connect(&shop.config(&old)).await.unwrap();
    setup::setup(&second, &Migrations::bundled(), &mut Silent).await.unwrap();
    assert_ne!(second.facts().database_tag(), DatabaseTag::of(&old));
    assert_eq!(drifts(&shop.config(&old)).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_copy_is_refused_until_it_has_an_identity_of_its_own() {
    let shop = Shop::open().await;
    let old = shop.database.name().to_owned();
    let role = format!("cgk_acme_{}", DatabaseTag::of(&old).as_str());
    let mut all = LoginOptions::default();
    all.shared_tables = Some(SharedTables::All);
    login::admit(&shop.database.operator().await.unwrap(), &shop.admission.name, &all).await.unwrap();
    server()
        .await
        .run(&format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{old}'"))
        .await;
    let copy = fresh("copy");
    let raw = shop.copy(&copy).await;
    // The roles that read the shared tables are the original's too.
    let readers = "select count(*) from pg_policy where polname ~ '^cgk_reader_cgk__'";
    assert!(raw.one::<i64>(readers).await > 0);

    assert!(
        matches!(Operator::connect(&shop.config(&copy)).await, Err(Error::Setup(SetupError::DatabaseCopied { database })) if database == copy)
    );
    for config in [shop.config(&copy), shop.service(&copy)] {
        assert!(matches!(Db::connect(&config).await, Err(Error::Setup(SetupError::DatabaseCopied { .. }))));
    }
    // The control: past cgk, the original's login acts in the copy.
    assert_eq!(by_hand(&shop.url(&copy), &role).await, Ok(1));
    score::note(14, "connections to a copy of a database, made", 3, 0, "operator and two logins");
    score::control(14, "a connection to the copy past cgk", 1, 1, "the original's login reads a tenant's rows");

    let renewed = lifecycle::new_identity(&shop.config(&copy)).await.unwrap();
    assert!(renewed.was_copy && renewed.failed.is_empty(), "{renewed:?}");
    assert_eq!(raw.one::<i64>(readers).await, 0);
    assert_eq!((renewed.finished.len(), renewed.logins.as_slice()), (2, &[shop.login().to_owned()][..]));
    assert_eq!(by_hand(&shop.url(&copy), &role).await, Err("42501".into()));
    let own_role = format!("cgk_acme_{}", DatabaseTag::of(&copy).as_str());
    assert_eq!(by_hand(&shop.url(&copy), &own_role).await, Err("42501".into()));
    assert_eq!(drifts(&shop.config(&copy)).await, Vec::<String>::new());
    assert_eq!(customers(&Db::connect(&shop.config(&copy)).await.unwrap(), "acme").await.unwrap(), 1);
    let error = customers(&Db::connect(&shop.service(&copy)).await.unwrap(), "acme").await.unwrap_err();
    assert!(matches!(error, Error::Setup(SetupError::Privilege { .. })), "{error:?}");

    // Again: nothing is left to do, and a login that was admitted meanwhile stays.
    let operator = Operator::connect(&shop.config(&copy)).await.unwrap();
    login::admit(&operator, &shop.admission.name, &LoginOptions::default()).await.unwrap();
    let again = lifecycle::new_identity(&shop.config(&copy)).await.unwrap();
    assert!(!again.was_copy && again.logins.is_empty() && again.failed.is_empty(), "{again:?}");
    assert_eq!(customers(&Db::connect(&shop.service(&copy)).await.unwrap(), "acme").await.unwrap(), 1);

    // Its memberships of one database's roles are none of the other's. A role of the other one that has something here is.
    let members = async |database: &str| {
        let found = rights(&shop.config(database)).await;
        found.into_iter().filter(|line| line.contains("is a member of")).collect::<Vec<_>>()
    };
    for database in [&old, &copy] {
        assert_eq!(members(database).await, Vec::<String>::new());
    }
    for (sql, back) in [
        ("grant select on tenant_acme.customers to {role}", "revoke select on tenant_acme.customers from {role}"),
        ("alter role {role} createdb", "alter role {role} nocreatedb"),
        ("grant pg_monitor to {role}", "revoke pg_monitor from {role}"),
    ] {
        raw.run(&sql.replace("{role}", &role)).await;
        let found = members(&copy).await;
        let expected =
            format!("login {}: is a member of {role}, which looks like a role of another database", shop.login());
        assert!(found.len() == 1 && found[0].starts_with(&expected), "{sql}: {found:?}");
        raw.run(&back.replace("{role}", &role)).await;
        assert_eq!(members(&copy).await, Vec::<String>::new(), "{back}");
    }

    // The original never noticed.
    assert_eq!(customers(&Db::connect(&shop.service(&old)).await.unwrap(), "acme").await.unwrap(), 1);
    assert_eq!(drifts(&shop.config(&old)).await, Vec::<String>::new());
    drop(raw);
}

#[tokio::test]
async fn a_database_of_an_earlier_version_gets_the_tag_that_its_roles_carry() {
    let shop = Shop::open().await;
    let (old, new, copy) = (shop.database.name().to_owned(), fresh("before"), fresh("beside"));
    let forget =
        "drop table cgk_database; create or replace function current_tenant_slug() returns text stable parallel safe
                  return null; drop function cgk_database_tag(); drop function cgk_isolation_modes() cascade";
    Raw::on(&shop.database).await.run(forget).await;
    let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{old}'");
    server().await.run(&end).await;
    // A copy beside the original: whose roles they are is certain.
    shop.copy(&copy).await;
    let operator = Operator::connect(&shop.config(&copy)).await.unwrap();
    let error = setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap_err();
    assert!(matches!(error, Error::Setup(SetupError::DatabaseCopied { .. })), "{error:?}");
    assert!(lifecycle::new_identity(&shop.config(&copy)).await.unwrap().was_copy);
    assert_eq!(customers(&Db::connect(&shop.config(&copy)).await.unwrap(), "acme").await.unwrap(), 1);
    let recorded: String = raw(&copy).await.one("select cgk_database_tag()").await;
    assert_eq!(recorded, DatabaseTag::of(&copy).as_str(), "the identity was not recorded");

    // Renamed while the earlier version was in use.
    server().await.run(&end).await;
    server().await.run(&format!("alter database {old} rename to {new}")).await;
    let operator = Operator::connect(&shop.config(&new)).await.unwrap();
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.unwrap();
    assert_eq!(operator.facts().database_tag(), DatabaseTag::of(&old));
    assert_eq!(customers(&Db::connect(&shop.service(&new)).await.unwrap(), "acme").await.unwrap(), 1);
}

#[tokio::test]
async fn the_registry_keeps_an_organization_while_its_schema_stands() {
    let shop = Shop::open().await;
    let raw = Raw::on(&shop.database).await;
    let refused = [
        "delete from organizations where slug = 'acme'",
        "update organizations set slug = 'other' where slug = 'acme'",
        "update organizations set id = gen_random_uuid() where slug = 'acme'",
        "insert into organizations (id, slug, name) select id, slug, name from organizations where slug = 'acme'
           on conflict (slug) do update set slug = 'other'",
        "truncate organizations cascade",
    ];
    for sql in refused {
        let error = raw.try_run(sql).await.unwrap_err();
        let said = error.as_db_error().unwrap();
        assert_eq!(said.code().code(), "23001", "{sql}: {said:?}");
        assert!(
            said.message().contains("schema tenant_acme") && said.hint().unwrap().contains("drop schema"),
            "{said:?}"
        );
    }
    // What is no identity may change, and what has no schema may go.
    raw.run("update organizations set name = 'Acme Inc.', status = 'suspended' where slug = 'acme'").await;
    raw.run("insert into organizations (slug, name) values ('signup', 'x'); update organizations set slug = 'y' where slug = 'signup';
             delete from organizations where slug = 'y'").await;
    // The ways that the hint names.
    raw.run("begin; alter schema tenant_acme rename to tenant_apex; update organizations set slug = 'apex', status = 'active'
             where slug = 'acme'; commit").await;
    let operator = shop.database.operator().await.unwrap();
    let db = shop.database.db().await.unwrap();
    let made =
        lifecycle::create(&operator, &db, &Migrations::bundled(), &slug("apex"), &CreateOptions::default()).await;
    assert_eq!(made.unwrap().creation, Creation::Finished);
    assert_eq!(customers(&db, "apex").await.unwrap(), 1);
    raw.run("begin; drop schema tenant_apex cascade; delete from organizations where slug = 'apex'; commit").await;
    // The control: without the triggers everything goes through.
    raw.run("alter table organizations disable trigger user; delete from organizations where slug = 'globex'").await;
}

/// The tag costs no query: the server puts the function's body in its place, in `cgk_enter` and in the policies.
#[tokio::test]
async fn the_tag_is_read_without_a_query() {
    let shop = Shop::open().await;
    let raw = raw(shop.database.name()).await;
    let plan: Vec<String> = raw.all("explain (verbose, costs off) select public.cgk_database_tag()").await;
    let plan = plan.join("\n");
    assert!(plan.contains("pg_relation_filepath"), "{plan}");
    let oid = "select d.oid::text from pg_database d where d.datname = current_database()";
    let folder = "select split_part(pg_relation_filepath('pg_class'::regclass), '/', -2)";
    assert_eq!(raw.one::<String>(folder).await, raw.one::<String>(oid).await);
}
