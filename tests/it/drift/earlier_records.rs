//! Records of the shared schema that another version of cgk, another server or another database wrote: what was made by hand
//! stays a difference, and what only reads differently is none.

use crate::sandbox::{Files, Raw};
use cgk::{
    Operator, drift,
    migrate::{self, Scope, Silent},
    setup,
    testing::{TestDatabase, TestServer},
};
use sha2::{Digest as _, Sha256};

/// The catalogue's query of an earlier version.
const EARLIER: &str = include_str!("../../../src/catalogue/earlier/001.sql");

fn digest(query: &str) -> String {
    Sha256::digest(query.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..16].to_owned()
}

async fn differences(operator: &Operator, files: &Files) -> Vec<String> {
    let report = drift::verify(operator, &files.load(), &Scope::Public).await.unwrap();
    let public = report.public.unwrap();
    assert_eq!(public.not_compared, None);
    public.differences.iter().map(ToString::to_string).collect()
}

/// A shared schema with a publication of some columns, whose text the earlier version wrote in another way.
async fn published(database: &TestDatabase) -> (Operator, Files, Raw) {
    let files = Files::of_tenants(&[("001_a.sql", "create table a ()")]);
    let raw = Raw::on(database).await;
    let columns =
        if raw.one::<i32>("select current_setting('server_version_num')::int").await >= 150_000 { "(id)" } else { "" };
    files.public("800_x.sql", "create table offers (id int primary key, name text)");
    let operator = database.operator().await.unwrap();
    setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    // Taken as it is.
    raw.run(&format!("create publication offers_out for table offers {columns}; delete from cgk_references")).await;
    migrate::rehearse(&operator, &files.load()).await.unwrap();
    assert_eq!(differences(&operator, &files).await, Vec::<String>::new());
    (operator, files, raw)
}

/// Makes the record one that the earlier version wrote.
async fn as_earlier(raw: &Raw) {
    raw.run(&format!(
        "update cgk_references set context = regexp_replace(context, '^query [0-9a-f]+', 'query {}'),
             objects = (select array_agg(regexp_replace(o, 'publications=offers_out \\([^)]*\\)', 'publications=offers_out ([1])') order by n)
                        from unnest(objects) with ordinality u (o, n))
         where set_name = 'public'",
        digest(EARLIER)
    ))
    .await;
}

const BY_HAND: &str = "alter table users add column by_hand text; create table public.by_hand (i int);
    alter table offers alter column name set default 'x'";

fn named(found: &[String]) -> bool {
    found.len() == 3
        && found.iter().all(|line| line.contains("by_hand") || line.contains("column offers.name: default"))
}

#[tokio::test]
async fn an_upgrade_of_cgk_takes_nothing_by_hand_into_the_record() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (operator, files, raw) = published(&database).await;
    raw.run(BY_HAND).await;
    as_earlier(&raw).await;
    // Read as it is, the earlier text would be a difference on servers that have lists of columns.
    let context =
        "select bool_and(context like 'query ' || $$EARLIER$$ || '%') from cgk_references where set_name = 'public'"
            .replace("EARLIER", &digest(EARLIER));
    assert!(raw.one::<bool>(&context).await);
    let found = differences(&operator, &files).await;
    assert!(named(&found), "before anything is written: {found:?}");
    assert!(raw.one::<bool>(&context).await, "drift writes nothing");

    // What the next run records is the same.
    migrate::rehearse(&operator, &files.load()).await.unwrap();
    files.tenant("002_b.sql", "create table b ()");
    migrate::rehearse(&operator, &files.load()).await.unwrap();
    assert!(!raw.one::<bool>(&context).await, "it is written anew");
    let found = differences(&operator, &files).await;
    assert!(named(&found), "{found:?}");
}

#[tokio::test]
async fn a_migration_of_the_shared_schema_after_an_upgrade_takes_nothing_by_hand_either() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (operator, files, raw) = published(&database).await;
    raw.run(BY_HAND).await;
    as_earlier(&raw).await;
    files.public("801_y.sql", "create table more (i int)");
    setup::setup(&operator, &files.load(), &mut Silent).await.unwrap();
    let found = differences(&operator, &files).await;
    assert!(named(&found), "{found:?}");
    // Taken back by hand, nothing is left.
    raw.run("alter table users drop column by_hand; drop table public.by_hand; alter table offers alter column name drop default").await;
    assert_eq!(differences(&operator, &files).await, Vec::<String>::new());
}

/// Rights that no version recorded are never taken as given.
#[tokio::test]
async fn a_right_that_an_earlier_version_did_not_see_is_named() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (operator, files, raw) = published(&database).await;
    raw.run("grant insert on schema_migrations to pg_monitor").await;
    as_earlier(&raw).await;
    migrate::rehearse(&operator, &files.load()).await.unwrap();
    let found = differences(&operator, &files).await;
    assert!(found.len() == 1 && found[0].contains("schema_migrations") && found[0].contains("pg_monitor"), "{found:?}");
}

/// Another server's or database's record of the same version, and that of a version that is not known.
#[tokio::test]
async fn a_record_from_elsewhere_is_kept() {
    for change in [
        "regexp_replace(context, 'server \\d+', 'server 13')",
        "regexp_replace(context, 'database \\d+', 'database 1')",
        "regexp_replace(context, '^query [0-9a-f]+', 'query 0123456789abcdef')",
    ] {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (operator, files, raw) = published(&database).await;
        raw.run(BY_HAND).await;
        raw.run(&format!("update cgk_references set context = {change} where set_name = 'public'")).await;
        migrate::rehearse(&operator, &files.load()).await.unwrap();
        let found = differences(&operator, &files).await;
        assert!(named(&found), "{change}: {found:?}");
        // The control, and what an operator does who takes the schema as it is: without a record it is recorded as it is found.
        raw.run("delete from cgk_references where set_name = 'public'; delete from cgk_rehearsals").await;
        migrate::rehearse(&operator, &files.load()).await.unwrap();
        assert_eq!(differences(&operator, &files).await, Vec::<String>::new(), "{change}");
    }
}
