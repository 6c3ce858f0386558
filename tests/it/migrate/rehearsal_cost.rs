//! What a rehearsal of a large set costs, in looks at the catalogue: none before the set is known to apply, and one for each
//! number of files that is not on record; and what a small file costs in statements.

use crate::sandbox::{Files, Proxy, Seen, migrate_all, tenants};
use cgk::{
    Error, MigrationError, Operator, drift,
    migrate::{self, Scope},
    testing::{TestDatabase, TestServer},
};

/// More files than are observed untried.
const FILES: usize = 40;

fn large_set(last: &str) -> Files {
    let files = Files::of_tenants(&[]);
    for number in 1..FILES {
        files.tenant(&format!("{number:03}_x.sql"), &format!("create table t{number} (i int)"));
    }
    files.tenant(&format!("{FILES:03}_x.sql"), last);
    files
}

/// How often the messages ask for the objects of the schema of a rehearsal.
fn looks(seen: &[Seen]) -> usize {
    seen.iter().map(|message| message.text.matches("select 'cgk:observed'").count()).sum()
}

/// How often the messages hold the last file.
fn tries(seen: &[Seen], last: &str) -> usize {
    seen.iter().filter(|message| message.text.contains(last)).count()
}

async fn behind_a_proxy(database: &TestDatabase) -> (Proxy, Operator) {
    let proxy = Proxy::to(database).await;
    let operator = Operator::connect(proxy.config()).await.unwrap();
    proxy.take();
    (proxy, operator)
}

#[tokio::test]
async fn a_large_set_that_does_not_apply_is_not_observed() {
    for (last, file_by_file) in [("select 1 / 0", "fails in each way"), ("create table t1 ()", "a name that is taken")]
    {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let (proxy, operator) = behind_a_proxy(&database).await;
        let error = migrate::rehearse(&operator, &large_set(last).load()).await.unwrap_err();
        assert!(matches!(error, Error::Migration(MigrationError::Rehearsal { .. })), "{file_by_file}: {error:?}");
        let seen = proxy.take();
        // Together, and file by file.
        assert_eq!((looks(&seen), tries(&seen, last)), (0, 2), "{file_by_file}");
    }
}

#[tokio::test]
async fn a_release_observes_only_what_it_adds() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let (proxy, operator) = behind_a_proxy(&database).await;
    let files = large_set("select 'the last'");
    assert!(migrate::rehearse(&operator, &files.load()).await.unwrap().is_new);
    // The control: all of it, and before the first file. It was tried before.
    let seen = proxy.take();
    assert_eq!((looks(&seen), tries(&seen, "'the last'")), (FILES + 1, 2));

    tenants(&database, &files.load(), &["acme"]).await;
    files.tenant("041_more.sql", "create table more ()").tenant("042_more.sql", "alter table more add n int");
    assert!(migrate::rehearse(&operator, &files.load()).await.unwrap().is_new);
    let seen = proxy.take();
    assert_eq!((looks(&seen), tries(&seen, "'the last'")), (2, 1));

    // What is on record of the earlier files is what tenants that have them are compared with.
    let raw = crate::sandbox::Raw::on(&database).await;
    let count = "select count(*) from cgk_references where set_name = 'tenant'";
    assert_eq!(raw.one::<i64>(count).await, i64::try_from(FILES).unwrap() + 3);
    let report = drift::verify(&operator, &files.load(), &Scope::Tenants).await.unwrap();
    assert!(report.tenants[0].is_clean() && report.tenants[0].head.as_ref().unwrap().version.get() == 40, "{report:?}");

    // A file that nobody has may be edited: what it made is no longer on record.
    files.tenant("042_more.sql", "alter table more add m int");
    migrate::rehearse(&operator, &files.load()).await.unwrap();
    assert_eq!(looks(&proxy.take()), 1);
    assert_eq!(raw.one::<i64>(count).await, i64::try_from(FILES).unwrap() + 3);

    // Another state of the shared schema may change what every file makes.
    files.public("800_x.sql", "create table public.lookup (i int)");
    cgk::setup::setup(&operator, &files.load(), &mut migrate::Silent).await.unwrap();
    proxy.take();
    migrate::rehearse(&operator, &files.load()).await.unwrap();
    assert_eq!(looks(&proxy.take()), FILES + 3);
}

/// How many statements the message of one tenant has in which a file's text is.
async fn statements_for(text: &str) -> usize {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[("001_orders.sql", "create table orders (id int)")]);
    tenants(&database, &files.load(), &["acme"]).await;
    files.tenant("002_file.sql", text);
    let (proxy, operator) = behind_a_proxy(&database).await;
    migrate_all(&operator, &files.load()).await.unwrap();
    let is_it = |message: &&Seen| message.text.contains(text) && message.text.contains("insert into \"tenant_acme\"");
    let seen = proxy.take();
    let message = seen.iter().find(is_it).expect("a message for the tenant");
    message
        .text
        .split(';')
        .filter(|part| !part.trim_matches(|c: char| c.is_whitespace() || c == '\0').is_empty())
        .count()
}

/// Each statement costs the server about as much as a part of a small migration.
#[tokio::test]
async fn what_guards_a_transaction_is_sent_where_a_word_of_the_file_could_touch_it() {
    let file = "alter table orders add column c int";
    // The first tenant's message also notes the file for the fleet, in three.
    assert_eq!(statements_for(file).await, 1 + 15 + 3);
    // The cursor that keeps the file from ending its transaction; a limit that the file may have set; a hidden BEGIN.
    for word in ["commit", "Timeout", "BEGIN"] {
        assert!(statements_for(&format!("{file} /* {word} */")).await > 1 + 15 + 3, "{word}");
    }
}
