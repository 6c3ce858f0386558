//! A slug that an organization had before: the new one gets nothing of the old one's.

use crate::{
    sandbox::{Raw, login_role},
    stage::slug,
};
use cgk::{
    Db, Error, ErrorKind, Operator, TenantError, drift,
    ident::RoleName,
    lifecycle::{self, CreateManyOptions, CreateOptions, NewTenant},
    migrate::{Migrations, Scope, Silent},
    testing::{TestDatabase, TestServer},
};

const OPERATIONS: &str = include_str!("../../../docs/operations/tenants.md");

struct Shop {
    database: TestDatabase,
    operator: Operator,
    db: Db,
    raw: Raw,
    role: String,
}

impl Shop {
    /// A database in which acme was removed by hand, and its role was left.
    async fn with_role_left() -> Self {
        let shop = Self::with_acme().await;
        shop.raw.run("drop schema tenant_acme cascade; delete from organizations where slug = 'acme'").await;
        shop
    }

    async fn with_acme() -> Self {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let db = database.with_tenants(&["acme", "globex"]).await.unwrap();
        let operator = database.operator().await.unwrap();
        let role = RoleName::of_tenant(&slug("acme"), &operator.facts().database_tag()).as_str().to_owned();
        let raw = Raw::on(&database).await;
        Self { database, operator, db, raw, role }
    }

    async fn create(&self) -> Result<(), Error> {
        let options = CreateOptions::default();
        lifecycle::create(&self.operator, &self.db, &Migrations::bundled(), &slug("acme"), &options).await.map(drop)
    }

    async fn create_among_many(&self) -> Result<(), Error> {
        let (bundled, options) = (Migrations::bundled(), CreateManyOptions::default());
        let tenants = [NewTenant::from(slug("acme"))];
        let mut report =
            lifecycle::create_many(&self.operator, &self.db, &bundled, &tenants, &options, &mut Silent).await?;
        report.tenants.remove(0).result.map(drop)
    }

    fn filled(&self, sql: &str, stray: &str) -> String {
        sql.replace("{role}", &self.role).replace("{stray}", stray).replace("{database}", self.database.name())
    }

    async fn is_registered(&self) -> bool {
        self.raw.one("select exists (select from organizations where slug = 'acme')").await
    }
}

/// What a role may be left with, how it is taken away, and what the refusal says.
const LEFT: &[(&str, &str, &str)] = &[
    (
        "select lo_create(777); alter large object 777 owner to {role}",
        "drop owned by {role}",
        "it owns objects in database {database} (1)",
    ),
    (
        "grant select on tenant_globex.orders to {role}",
        "drop owned by {role}",
        "it has rights in database {database} (1)",
    ),
    (
        "alter default privileges for role {role} grant all on tables to public",
        "drop owned by {role}",
        "it owns objects in database {database} (1)",
    ),
    ("grant create on database {database} to {role}", "drop owned by {role}", "it has rights in the whole server (1)"),
    ("grant pg_read_all_data to {role}", "revoke pg_read_all_data from {role}", "it is a member of pg_read_all_data"),
    ("grant {role} to {stray}", "revoke {role} from {stray}", "role {stray} may act as it"),
    ("alter role {role} set work_mem = '1MB'", "alter role {role} reset work_mem", "it has settings of its own"),
    ("alter role {role} login", "alter role {role} nologin", "it has attributes such as login"),
];

#[tokio::test]
async fn a_new_organization_gets_no_role_that_has_anything() {
    let shop = Shop::with_role_left().await;
    let (stray, _) = login_role(&shop.database, &shop.raw, "noinherit").await;
    for (left, away, says) in LEFT {
        shop.raw.run(&shop.filled(left, &stray)).await;
        let says = shop.filled(says, &stray);
        for refused in [shop.create().await, shop.create_among_many().await] {
            let error = refused.expect_err(left);
            assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "CGK0412"), "{left}: {}", error.report());
            let Error::Tenant(TenantError::RoleInUse { role, holds, .. }) = &error else { panic!("{left}: {error:?}") };
            assert_eq!((role, holds), (&shop.role, &says), "{left}");
        }
        assert!(!shop.is_registered().await, "{left}");
        shop.raw.run(&shop.filled(away, &stray)).await;
    }
    // The control: the same role, without any of it, becomes the new organization's.
    shop.create().await.unwrap();
    assert!(shop.raw.one("select not exists (select from pg_largeobject_metadata)").await);
}

/// What the role has in another database of the server is named with the database.
#[tokio::test]
async fn what_it_has_in_another_database_counts() {
    let shop = Shop::with_role_left().await;
    let other = TestServer::shared().database().await.unwrap();
    let there = Raw::on(&other).await;
    there.run(&format!("create table kept (); grant select on kept to {}", shop.role)).await;
    let error = shop.create().await.unwrap_err();
    let expected = format!("it has rights in database {} (1)", other.name());
    assert!(error.to_string().contains(&expected), "{}", error.report());
    there.run(&format!("drop owned by {}", shop.role)).await;
    shop.create().await.unwrap();
}

/// The steps of the documentation leave nothing, and the slug is free.
#[tokio::test]
async fn a_tenant_that_was_removed_as_documented_is_gone() {
    let (shop, acme) = (Shop::with_acme().await, slug("acme"));
    let used = shop.db.with_tenant(&acme, async |tx| {
        tx.query_typed("select lo_from_bytea(777, 'a document of the first organization')", &[]).await?;
        tx.execute_typed("insert into customers (email) values ('ada@example.com')", &[]).await
    });
    used.await.unwrap();
    shop.raw.run(&format!("grant select on tenant_globex.orders to {}", shop.role)).await;
    let (_, page) = OPERATIONS.split_once("<!-- remove a tenant -->\n```sql\n").unwrap();
    shop.raw.run(page.split_once("```").unwrap().0).await;
    for gone in [
        "select not exists (select from organizations where slug = 'acme')".to_owned(),
        "select not exists (select from pg_namespace where nspname = 'tenant_acme')".to_owned(),
        format!("select not exists (select from pg_roles where rolname = '{}')", shop.role),
        "select not exists (select from pg_largeobject_metadata)".to_owned(),
    ] {
        assert!(shop.raw.one(&gone).await, "{gone}");
    }
    shop.create().await.unwrap();
    let looks = shop.db.with_tenant(&acme, async |tx| {
        assert!(tx.query_typed("select from customers", &[]).await?.is_empty());
        tx.query_typed("select lo_get(777)", &[]).await
    });
    assert_eq!(looks.await.unwrap_err().sqlstate().map(|state| state.code()), Some("42704"));
    let report = drift::verify(&shop.operator, &Migrations::bundled(), &Scope::Everything).await.unwrap();
    assert!(!report.has_drift(), "{report:?}");
}
