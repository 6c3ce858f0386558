//! The session of the server between two clients of the pooler: reset, or gone.

use crate::{pgbouncer::Stage, pid, slug, two_clients};
use cgk::{Config, Db, Error, TenantError, config::Pooling};
use std::time::Duration;
use tokio_postgres::{Client, SimpleQueryMessage};

/// What a client finds in the session that others would have left: settings, prepared text, channels, locks.
const LEFT: &str = "select concat_ws(' ', nullif(current_setting('a.secret', true), ''),
    (select string_agg(statement, ' ') from pg_prepared_statements where statement like '%secret%' and from_sql),
    (select string_agg(c, ' ') from pg_listening_channels() c),
    (select string_agg(mode, ' ') from pg_locks
      where pid = pg_backend_pid() and locktype = 'advisory' and mode = 'ExclusiveLock'),
    nullif(current_setting('default_transaction_read_only'), 'off'), nullif(current_setting('work_mem'), '4MB'))";

/// All of it. A channel is listened to from the commit on.
const ALL: &str = "acme prepare mine as select 'a secret' gossip ExclusiveLock on 77MB";
const ALL_BUT_THE_CHANNEL: &str = "acme prepare mine as select 'a secret' ExclusiveLock on 77MB";

/// Statements that leave all of that, as the text of one block.
fn leave(settings: u32) -> String {
    format!(
        "do $$ begin
           execute 'prepare mine as select ''a secret''';
           execute 'listen gossip';
           perform pg_advisory_lock(42), set_config('a.secret', 'acme', false), set_config('work_mem', '77MB', false),
                   set_config('default_transaction_read_only', 'on', false);
           perform count(set_config('b.p' || i, 'x', false)) from generate_series(1, {settings}) i;
           perform set_config('statement_timeout', '1', false), set_config('statement_timeout', '60000', true);
         end $$"
    )
}

/// What the next client finds, one that knows nothing of cgk, and in which session.
async fn found(client: &Client) -> (String, i32) {
    let rows = client.query_typed(&format!("select ({LEFT}), pg_backend_pid()"), &[]).await.unwrap();
    (rows[0].get(0), rows[0].get(1))
}

async fn acme_leaves_it(db: &Db, settings: u32, commit: bool) {
    let sql = leave(settings);
    let outcome = db
        .with_tenant(&slug("acme"), async |tx| {
            tx.execute_typed(&sql, &[]).await?;
            let seen: String = tx.query_typed(LEFT, &[]).await?[0].get(0);
            assert_eq!(seen, ALL_BUT_THE_CHANNEL, "this test proves nothing");
            if commit { Ok(()) } else { Err(Error::Tenant(TenantError::NotFound { tenant: slug("acme") })) }
        })
        .await;
    assert_eq!(outcome.is_ok(), commit, "{outcome:?}");
}

/// A timeout for the session, behind one that is local to the transaction, does not stop the reset.
#[tokio::test]
async fn a_timeout_that_is_left_does_not_stop_the_reset() {
    let stage = Stage::set().await;
    let (one, _two) = two_clients(&stage).await;
    let raw = stage.raw_client().await;
    let server = pid(&one, "acme").await;
    // The more settings, the longer the reset takes; older servers take long to make them.
    let version: i32 =
        raw.query_typed("select current_setting('server_version_num')::int", &[]).await.unwrap()[0].get(0);
    let many = if version >= 160_000 { 25_000 } else { 500 };
    for (settings, commit) in [(0, true), (0, false), (many, true)] {
        acme_leaves_it(&one, settings, commit).await;
        assert_eq!(found(&raw).await, (String::new(), server), "{settings} settings, commit: {commit}");
    }
}

/// In the message that commits, a statement of the reset is one that fails.
fn fails(sql: String) -> String {
    match sql.contains("; commit; set exit_on_error = on; ") {
        true => sql.replace("; deallocate all; ", "; deallocate missing; "),
        false => sql,
    }
}

fn fails_and_goes_on(sql: String) -> String {
    let sql = fails(sql);
    match sql.contains("; deallocate missing; ") {
        true => sql.replace("exit_on_error = on", "exit_on_error = off"),
        false => sql,
    }
}

/// Whatever it is that the reset fails by: the session ends, and the next client has another one.
#[tokio::test]
async fn a_session_that_cannot_be_reset_ends() {
    let stage = Stage::rewriting(fails).await;
    let config = stage.pooled().with_pool_size_max(1);
    let db = Db::connect(&config).await.unwrap();
    let (_, before) = found(&stage.raw_client().await).await;
    acme_leaves_it(&db, 0, true).await;
    let (left, after) = found(&stage.raw_client().await).await;
    assert_eq!(left, "");
    assert_ne!(after, before, "the session goes on");
    crate::score::note(10, "a session that cannot be reset, given to the next client", 1, 0, "it ends");
    // The handle goes on too, with a connection of the pooler's that is new.
    let insert = "insert into customers (email) values ('g@example.com')";
    db.tenant(&slug("globex")).query_typed("select 1", &[]).await.unwrap();
    let _ = db.tenant(&slug("globex")).execute_typed(insert, &[]).await.unwrap();
}

/// The control: where it goes on, the next client has all of it.
#[tokio::test]
async fn control_a_session_that_is_not_reset_is_the_next_clients() {
    let stage = Stage::rewriting(fails_and_goes_on).await;
    let db = Db::connect(&stage.pooled().with_pool_size_max(1)).await.unwrap();
    let raw = stage.raw_client().await;
    // The pooler closes a session whose client goes before the server was ready again, and cgk's goes at the error: then there
    // is another session, with nothing of it, and it is tried again.
    let mut goes_on = false;
    for _ in 0..50 {
        let (_, before) = found(&raw).await;
        acme_leaves_it(&db, 0, true).await;
        let (left, after) = found(&raw).await;
        goes_on = after == before;
        assert_eq!(left, if goes_on { ALL } else { "" });
        if goes_on {
            break;
        }
    }
    assert!(goes_on, "the pooler has closed the session each time");
    crate::score::control(10, "the same where the session goes on", 1, 1, "the next client has all of it");
    // A client of cgk does not meet it all the same: the session is reset before a transaction too.
    let other = Db::connect(&stage.pooled().with_pool_size_max(1)).await.unwrap();
    let met = other.tenant(&slug("globex")).query_typed(LEFT, &[]).await.unwrap();
    assert_eq!(met[0].get::<_, String>(0), "");
}

/// What a program without cgk leaves in the session is gone before a tenant is entered, and for the platform too.
#[tokio::test]
async fn what_another_program_leaves_does_not_reach_a_tenant() {
    let stage = Stage::set().await;
    let (one, _two) = two_clients(&stage).await;
    let careless = stage.raw_client().await;
    let server = pid(&one, "acme").await;
    let soil = async || {
        let sql = leave(0).replace("set_config('statement_timeout', '1', false), ", "");
        careless.query_typed(&sql, &[]).await.unwrap();
        assert_eq!(found(&careless).await, (ALL.to_owned(), server), "this test proves nothing");
        careless.query_typed("select set_config('role', 'pg_monitor', false)", &[]).await.unwrap();
    };
    soil().await;
    let met = one
        .with_tenant(&slug("globex"), async |tx| {
            tx.execute_typed("insert into customers (email) values ('x@example.com')", &[]).await?;
            Ok(tx.query_typed(LEFT, &[]).await?[0].get::<_, String>(0))
        })
        .await;
    assert_eq!(met.unwrap(), "");
    soil().await;
    let met = one.tenant(&slug("globex")).query_typed(LEFT, &[]).await.unwrap();
    assert_eq!(met[0].get::<_, String>(0), "");
    soil().await;
    let met = one.platform().query_typed(LEFT, &[]).await.unwrap();
    assert_eq!(met[0].get::<_, String>(0), "");
    assert_eq!(pid(&one, "acme").await, server);
}

/// The reset keeps what the pooler has set for the client: the encoding that the driver speaks, and the application's name.
#[tokio::test]
async fn the_encoding_and_the_name_of_the_client_survive_the_reset() {
    let stage = Stage::set().await;
    let name = stage.database().name();
    let (direct, connection) = tokio_postgres::connect(&stage.direct_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    direct.query_typed(&format!("alter database \"{name}\" set client_encoding = 'LATIN1'"), &[]).await.unwrap();
    // Only a session that begins now has the setting.
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and pid <> pg_backend_pid()";
    direct.query_typed(kill, &[]).await.unwrap();
    let url = format!("{}&application_name=shop", stage.url());
    let config = Config::from_url(&url).unwrap().with_pooling(Pooling::Transaction).with_pool_size_max(1);
    let db = connected(&config).await;
    let sql =
        "select current_setting('client_encoding'), current_setting('application_name'), 'äß€', char_length('äß€')";
    let row = db.tenant(&slug("acme")).query_one(sql, &[]).await.unwrap();
    let texts: Vec<String> = (0..3).map(|column| row.get(column)).collect();
    assert_eq!((texts.join(" "), row.get::<_, i32>(3)), ("UTF8 shop äß€".to_owned(), 3));
    // The control: the reset alone leaves the session its own.
    let reset = said(&stage.raw_client().await, "reset all; show client_encoding").await;
    assert_eq!(reset, ["LATIN1"]);
}

/// The rows of a message of several statements.
#[expect(clippy::disallowed_methods, reason = "a session that knows nothing of the library")]
async fn said(client: &Client, sql: &str) -> Vec<String> {
    let answers = client.simple_query(sql).await.unwrap();
    let rows = answers.iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

/// The pooler notices only at the next use that its server connection is gone.
async fn connected(config: &Config) -> Db {
    for _ in 0..200 {
        match Db::connect(config).await {
            Ok(db) => return db,
            Err(error) => eprintln!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the pooler finds no server connection");
}
