//! What the tests share beside the stage.

use crate::stage::{HANG, Stage, connect, slug};
use cgk::{
    Config, Db, Error, ErrorKind, Operator,
    config::Isolation,
    ident::DatabaseTag,
    lifecycle,
    migrate::{Migrations, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};
use std::time::Instant;
use tokio_postgres::Client;

/// Waits until the observer's query says true.
pub(crate) async fn until(stage: &Stage, what: &str, sql: &str) {
    let began = Instant::now();
    loop {
        if stage.watch.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0) {
            return;
        }
        assert!(began.elapsed() < HANG, "{what}: {sql}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// A database whose operator owns it and is no superuser, and that operator's configuration.
pub(crate) async fn plain_operator() -> (TestDatabase, Config) {
    let database = TestServer::shared().database().await.unwrap();
    let watch = connect(&database).await;
    let role = format!("cgk_t{:08x}_{}", rand::random::<u32>(), DatabaseTag::of(database.name()).as_str());
    for sql in [
        format!("create role {role} login password 'secret' nosuperuser createrole"),
        format!("alter database {} owner to {role}", database.name()),
        format!("grant create, usage on schema public to {role}"),
    ] {
        watch.execute(&sql, &[]).await.unwrap();
    }
    let config = Config::from_url(&database.config().url_of(&role, Some("secret"))).unwrap();
    (database, config)
}

/// Such an operator in a database that it has set up, with the tenant acme, its pool and an observer.
pub(crate) async fn plain_acme(migrations: &Migrations, isolation: Isolation) -> (TestDatabase, Operator, Db, Client) {
    let (database, config) = plain_operator().await;
    let watch = connect(&database).await;
    let config = config.with_isolation(isolation);
    let operator = Operator::connect(&config).await.unwrap();
    setup::setup(&operator, migrations, &mut Silent).await.unwrap();
    let db = Db::connect(&config).await.unwrap();
    lifecycle::create(&operator, &db, migrations, &slug("acme"), &Default::default()).await.unwrap();
    (database, operator, db, watch)
}

/// Whether a service can be in the tenant.
pub(crate) async fn enters(db: &Db, tenant: &str) -> Result<(), Error> {
    db.with_tenant(&slug(tenant), async |tx| tx.query_typed("select 1", &[]).await.map(drop)).await
}

pub(crate) async fn refused_as(db: &Db, tenant: &str) -> ErrorKind {
    enters(db, tenant).await.expect_err("nobody enters it").kind()
}

/// What is left of a tenant: registry row, schema, role.
pub(crate) async fn left_of(stage: &Stage, tenant: &str) -> [bool; 3] {
    let sql = "select exists (select from organizations where slug = $1),
                      exists (select from pg_namespace where nspname = 'tenant_' || $1),
                      exists (select from pg_roles where rolname = 'cgk_' || $1 || '_' || cgk_database_tag())";
    let row = stage.watch.query_one(sql, &[&tenant]).await.unwrap();
    [row.get(0), row.get(1), row.get(2)]
}

/// Everything that a tenant consists of, as one text: to see that nothing of it changed.
pub(crate) async fn picture(stage: &Stage, tenant: &str) -> String {
    let sql = "select concat_ws(E'\\n',
        (select row_to_json(o)::text from organizations o where slug = $1),
        (select string_agg(concat_ws(' ', c.oid, c.relname, c.relkind, c.relacl, c.relfilenode, c.reltuples), E'\\n' order by c.oid)
           from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'tenant_' || $1),
        (select string_agg(concat_ws(' ', k.oid, k.conname, pg_get_constraintdef(k.oid)), E'\\n' order by k.oid)
           from pg_constraint k join pg_namespace n on n.oid = k.connamespace where n.nspname = 'tenant_' || $1),
        (select concat_ws(' ', n.oid, n.nspacl, obj_description(n.oid, 'pg_namespace')) from pg_namespace n where n.nspname = 'tenant_' || $1),
        (select string_agg(concat_ws(' ', m.member, m.admin_option), ',' order by m.member) from pg_auth_members m
           join pg_roles r on r.oid = m.roleid where r.rolname = 'cgk_' || $1 || '_' || cgk_database_tag()))";
    stage.watch.query_one(sql, &[&tenant]).await.unwrap().get(0)
}

/// Drops a tenant, and panics where that fails.
pub(crate) async fn dropped(stage: &Stage, tenant: &str) -> lifecycle::Dropped {
    let operator = stage.operator().await;
    lifecycle::drop_tenant(&operator, &slug(tenant), &Default::default(), &mut cgk::migrate::Silent).await.unwrap()
}
