//! An operator that is no superuser: it may create schemas and roles, and owns what it created.

use crate::{
    fixture::plain_operator,
    stage::{connect, slug},
};
use cgk::{
    Db, ErrorKind, Operator,
    lifecycle::{self, CreateOptions, DropOptions, RemainingSessions, RenameOptions, SuspendOptions},
    migrate::{Migrations, Silent},
    setup,
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn it_suspends_renames_and_drops_its_tenants() {
    let (database, config) = plain_operator().await;
    let watch = connect(&database).await;
    let operator = Operator::connect(&config).await.unwrap();
    assert!(!operator.facts().superuser);
    let migrations = Migrations::bundled();
    setup::setup(&operator, &migrations, &mut Silent).await.unwrap();
    let db = Db::connect(&config).await.unwrap();
    for tenant in ["acme", "globex"] {
        lifecycle::create(&operator, &db, &migrations, &slug(tenant), &CreateOptions::default()).await.unwrap();
    }
    // A right of the tenant's role outside of its schema.
    let grant = "do $$ begin execute format('grant select on public.users to %I', 'cgk_acme_' || public.cgk_database_tag()); end $$";
    watch.execute(grant, &[]).await.unwrap();

    // A superuser's session is inside: this operator may not end it, and says so.
    watch.execute("begin", &[]).await.unwrap();
    watch.query_one("select public.cgk_enter('acme')", &[]).await.unwrap();
    let options = SuspendOptions::default().wait(Duration::ZERO).remaining(RemainingSessions::Terminate);
    let error = lifecycle::suspend(&operator, &slug("acme"), &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    watch.execute("rollback", &[]).await.unwrap();
    lifecycle::suspend(&operator, &slug("acme"), &SuspendOptions::default()).await.unwrap();
    lifecycle::activate(&operator, &slug("acme")).await.unwrap();

    let apex = RenameOptions::default().slug(slug("apex"));
    lifecycle::rename(&operator, &slug("acme"), &apex).await.unwrap();
    db.tenant(&slug("apex")).execute("insert into customers (email) values ('a@x')", &[]).await.unwrap();
    lifecycle::drop_tenant(&operator, &slug("apex"), &DropOptions::default(), &mut Silent).await.unwrap();
    let left = "select (select count(*) from organizations) + (select count(*) from pg_namespace where nspname like 'tenant\\_%')
        + (select count(*) from pg_roles where rolname like 'cgk\\_%\\_' || public.cgk_database_tag() and not rolcanlogin)";
    assert_eq!(watch.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 3, "one tenant of each is left");
    db.tenant(&slug("globex")).query("select 1", &[]).await.unwrap();
}
