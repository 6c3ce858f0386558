//! The first setup writes down which database this is: several at once agree, and an earlier version's roles decide.

use crate::{
    sandbox::Raw,
    support::patience::{must_end, patient_operator},
};
use cgk::{
    Error, SetupError,
    ident::DatabaseTag,
    migrate::{Migrations, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};

/// The lock on what says which database this is.
const KEY: &str = "('x' || left(encode(sha256('cgk:database'), 'hex'), 16))::bit(64)::bigint";

#[tokio::test]
async fn two_first_setups_at_once_agree() {
    let database = TestServer::shared().database().await.unwrap();
    let raw = Raw::on(&database).await;
    raw.run(&format!("select pg_advisory_lock({KEY})")).await;
    let mut setups = Vec::new();
    for _ in 0..2 {
        let operator = patient_operator(&database).await;
        setups.push(tokio::spawn(async move {
            setup::setup(&operator, &Migrations::bundled(), &mut Silent).await?;
            Ok::<_, Error>(operator.facts().database_tag())
        }));
    }
    // Both have seen that nothing is written down.
    let waiting = "select count(*) = 2 from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database())";
    raw.wait_until(waiting).await;
    raw.run(&format!("select pg_advisory_unlock({KEY})")).await;
    for setup in setups {
        let tag = must_end("a setup", setup).await.unwrap().unwrap();
        assert_eq!(tag, DatabaseTag::of(database.name()));
    }
    assert_eq!(raw.one::<i64>("select count(*) from cgk_database").await, 1);
    assert_eq!(raw.one::<String>("select cgk_database_tag()").await, DatabaseTag::of(database.name()).as_str());
}

async fn set_up(database: &TestDatabase) -> cgk::Result<DatabaseTag> {
    let operator = database.operator().await?;
    setup::setup(&operator, &Migrations::bundled(), &mut Silent).await?;
    Ok(operator.facts().database_tag())
}

/// As after a change of hands in the days of an earlier version, which wrote nothing down.
#[tokio::test]
async fn of_several_tags_that_schemas_are_granted_to_its_own_counts() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme", "globex"]).await.unwrap();
    let raw = Raw::on(&database).await;
    let own = DatabaseTag::of(database.name());
    let others = [DatabaseTag::of("one that is gone"), DatabaseTag::of("another that is gone")];
    let role = |tenant: &str, tag: &DatabaseTag| format!("cgk_{tenant}_{}", tag.as_str());
    let (acme, globex) = (role("acme", &others[0]), role("globex", &others[1]));
    raw.run(&format!(
        "drop table cgk_database; drop function cgk_isolation_modes() cascade;
         create or replace function current_tenant_slug() returns text stable parallel safe return null;
         drop function cgk_database_tag();
         create role {acme} nologin; create role {globex} nologin;
         grant usage on schema tenant_acme to {acme}; grant usage on schema tenant_globex to {globex};
         revoke usage on schema tenant_acme from {}; revoke usage on schema tenant_globex from {}",
        role("acme", &own),
        role("globex", &own),
    ))
    .await;
    // The control: of two that are not its own, none can be told to be.
    let error = set_up(&database).await.unwrap_err();
    assert!(matches!(error, Error::Setup(SetupError::DatabaseCopied { .. })), "{error:?}");
    raw.run(&format!("grant usage on schema tenant_acme to {}", role("acme", &own))).await;
    assert_eq!(set_up(&database).await.unwrap(), own);
    raw.run(&format!("drop owned by {acme}, {globex}; drop role {acme}, {globex}")).await;
}

/// Only one reason is another setup's: that its table is there. The wait for its turn ends by a cancellation here.
#[tokio::test]
async fn a_setup_that_is_cancelled_says_so_although_another_has_written_the_identity() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (raw, holder) = (Raw::on(&database).await, Raw::on(&database).await);
    let rename = |from: &str, to: &str| {
        format!(
            "alter table cgk_database{from} rename to cgk_database{to};
                 alter function cgk_database_tag{from}() rename to cgk_database_tag{to}"
        )
    };
    raw.run(&rename("", "_later")).await;
    holder.run(&format!("select pg_advisory_lock({KEY})")).await;
    let operator = patient_operator(&database).await;
    let setup =
        tokio::spawn(async move { setup::setup(&operator, &Migrations::bundled(), &mut Silent).await.map(drop) });
    let waiting = "from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database())";
    raw.wait_until(&format!("select count(*) = 1 {waiting}")).await;
    raw.run(&rename("_later", "")).await;
    raw.run(&format!("select pg_cancel_backend(pid) {waiting}")).await;
    let error = must_end("the setup", setup).await.unwrap().unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("57014"), "{error:?}");
    holder.run(&format!("select pg_advisory_unlock({KEY})")).await;
    // The control: nothing else was wrong.
    assert_eq!(set_up(&database).await.unwrap(), DatabaseTag::of(database.name()));
}

/// Without a role that may use a schema the registry says that the database is no new one: roles with the tag of its name are its own.
#[tokio::test]
async fn a_registry_whose_roles_were_not_granted_anything_keeps_the_tag_of_its_name() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    database.with_tenants(&["acme"]).await.unwrap();
    let raw = Raw::on(&database).await;
    let own = DatabaseTag::of(database.name());
    raw.run(&format!(
        "drop table cgk_database;
         create or replace function current_tenant_slug() returns text stable parallel safe return null;
         drop function cgk_database_tag();
         revoke usage on schema tenant_acme from cgk_acme_{}",
        own.as_str()
    ))
    .await;
    assert_eq!(set_up(&database).await.unwrap(), own);
}
