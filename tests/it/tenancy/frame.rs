//! `cgk::frame`: a `with_tenant` over another driver's connection, made of its text and verdicts, attacked.

use super::enter::service;
use crate::stage::{Stage, address, slug};
use cgk::{
    TxOptions,
    config::{Isolation, SessionSettings},
    frame::{Failure, Frame, Frames, TransactionOutcome},
    ident::{DatabaseTag, Ident},
};
use std::time::Duration;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// How a framed transaction ended.
#[derive(Debug, PartialEq)]
enum Ended {
    NotEntered(String),
    NotSent,
    Left(TransactionOutcome),
}

/// The answer to a message: how many statements were completed, and the SQLSTATE of a failure.
#[expect(clippy::disallowed_methods, reason = "another driver's way of sending a message")]
async fn send(client: &Client, sql: &str) -> (usize, Option<String>) {
    use futures_util::StreamExt;
    let mut completed = 0;
    let mut parts = std::pin::pin!(client.simple_query_raw(sql).await.unwrap());
    while let Some(part) = parts.next().await {
        match part {
            Ok(SimpleQueryMessage::CommandComplete(_)) => completed += 1,
            Ok(_) => {}
            Err(error) => return (completed, Some(error.code().unwrap().code().to_owned())),
        }
    }
    (completed, None)
}

/// A `with_tenant` over a connection of the driver alone; failures of statements are ignored, as a careless closure does.
async fn with_tenant(client: &Client, frame: &Frame, statements: &[&str]) -> Ended {
    let (_, refused) = send(client, &frame.enter()).await;
    if let Some(state) = refused {
        send(client, &frame.roll_back()).await;
        return Ended::NotEntered(state);
    }
    for sql in statements {
        if frame.admit(sql).is_err() {
            send(client, &frame.roll_back()).await;
            return Ended::NotSent;
        }
        let _ = send(client, sql).await;
    }
    let (completed, failure) = send(client, &frame.leave()).await;
    let outcome = frame.judge(completed, failure.as_deref().map(Failure::server));
    if outcome != TransactionOutcome::Committed {
        send(client, &frame.roll_back()).await;
    }
    Ended::Left(outcome)
}

#[tokio::test]
async fn a_with_tenant_over_another_connection_keeps_the_tenant_apart() {
    let stage = Stage::set().await;
    let (client, connection) = address(stage.database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let frames = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Role).with_session(Default::default());
    let acme = slug("acme");
    let run = async |statements: &[&str]| {
        let frame = frames.frame(&acme, &TxOptions::default());
        let ended = with_tenant(&client, &frame, statements).await;
        // Whatever it was, the next user is in its own tenant.
        let globex = frames.frame(&slug("globex"), &TxOptions::default());
        let mark = "insert into marks (tag, n) values ('next', 1)";
        assert_eq!(
            with_tenant(&client, &globex, &[mark]).await,
            Ended::Left(TransactionOutcome::Committed),
            "{statements:?}"
        );
        ended
    };
    let insert = "insert into marks (tag, n) values ('frame', 1)";
    assert_eq!(run(&[insert]).await, Ended::Left(TransactionOutcome::Committed));
    assert_eq!(stage.marks("acme", "frame").await, (1, 0));
    let insert = "insert into marks (tag, n) values ('attack', 1)";
    for (attack, expected) in [
        ("commit", Ended::NotSent),
        ("set local role none", Ended::NotSent),
        ("select * from tenant_globex.marks", Ended::Left(TransactionOutcome::Aborted)),
        ("select 1 / 0", Ended::Left(TransactionOutcome::Aborted)),
        // The insert behind it is refused by the role: the path alone leads nowhere.
        ("select set_config('search_path', 'tenant_globex', true)", Ended::Left(TransactionOutcome::Aborted)),
        ("select set_config('search_path', 'tenant_acme', true)", Ended::Left(TransactionOutcome::Tampered)),
        ("select set_config('role', 'none', true)", Ended::Left(TransactionOutcome::Tampered)),
        ("select set_config('app.current_organization_id', 'x', true)", Ended::Left(TransactionOutcome::Tampered)),
        // Hidden in a message of several statements, which `admit` reads as its first.
        ("select 1; commit; begin", Ended::Left(TransactionOutcome::Tampered)),
    ] {
        let before = stage.marks("acme", "attack").await;
        assert_eq!(run(&[attack, insert]).await, expected, "{attack}");
        let after = stage.marks("acme", "attack").await;
        assert_eq!(before, after, "{attack}");
    }
    stage.sql("update organizations set status = 'suspended' where slug = 'acme'").await;
    assert_eq!(run(&[insert]).await, Ended::NotEntered("22012".into()));
    assert_eq!(stage.marks("acme", "attack").await, (0, 0));
    assert_eq!(stage.number("select count(*) from tenant_globex.marks where tag = 'next'").await, 11);
}

/// A `with_tenant` over a driver that commits by a call of its own.
async fn with_own_commit(client: &Client, frame: &Frame, statements: &[&str], guarded: bool) -> Ended {
    let (_, refused) = send(client, &frame.enter()).await;
    assert_eq!(refused, None);
    for sql in statements {
        let _ = send(client, sql).await;
    }
    let (completed, failure) = if guarded { send(client, &frame.guard()).await } else { (0, None) };
    let outcome = match &failure {
        Some(state) => frame.judge(completed, Some(Failure::server(state))),
        None => TransactionOutcome::Committed,
    };
    let end = if failure.is_some() { "rollback" } else { "commit" };
    assert_eq!(send(client, end).await.1, None, "{statements:?}");
    assert_eq!(send(client, &frame.scrub()).await.1, None, "{statements:?}");
    Ended::Left(outcome)
}

#[tokio::test]
async fn a_driver_that_commits_itself_is_guarded_before_and_scrubbed_after() {
    let stage = Stage::set().await;
    let (client, connection) = address(stage.database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let frames = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Role);
    let insert = "insert into marks (tag, n) values ('own', 1)";
    let leave_it = "select set_config('role', 'none', true), set_config('search_path', 'tenant_globex', true)";
    // A trigger that would run inside COMMIT, and there leave a row in another tenant's table.
    let deferred = "create temp table late (n int);
         create function pg_temp.late() returns trigger language plpgsql as
             $$ begin perform set_config('role', 'none', true);
                      insert into tenant_globex.marks (tag, n) values ('late', 1); return null; end $$;
         create constraint trigger late after insert on late deferrable initially deferred
             for each row execute function pg_temp.late();
         insert into late values (1)";
    let state = "select count(*) from pg_catalog.pg_listening_channels()";
    for (statements, guarded, expected, rows) in [
        (vec![insert, "listen news", "set work_mem = '77MB'"], true, TransactionOutcome::Committed, (1, 0)),
        (vec![insert, leave_it], true, TransactionOutcome::Tampered, (0, 0)),
        (vec![insert, "select 1; commit; begin"], true, TransactionOutcome::Tampered, (1, 0)),
        (vec![insert, "select 1 / 0"], true, TransactionOutcome::Aborted, (0, 0)),
        (vec![insert, deferred], true, TransactionOutcome::Tampered, (0, 0)),
        (vec![leave_it, insert], true, TransactionOutcome::Tampered, (0, 0)),
        // The control: without the guard, both leave a row in the other tenant.
        (vec![insert, deferred], false, TransactionOutcome::Committed, (1, 1)),
        (vec![leave_it, insert], false, TransactionOutcome::Committed, (0, 1)),
    ] {
        stage.sql("delete from tenant_acme.marks where tag = 'own'; delete from tenant_globex.marks where tag <> 'globex'").await;
        let frame = frames.frame(&slug("acme"), &TxOptions::default());
        assert_eq!(
            with_own_commit(&client, &frame, &statements, guarded).await,
            Ended::Left(expected),
            "{statements:?}"
        );
        let found = (
            stage.number("select count(*) from tenant_acme.marks where tag = 'own'").await,
            stage.number("select count(*) from tenant_globex.marks where tag <> 'globex'").await,
        );
        assert_eq!(found, rows, "{statements:?}");
        let row = client
            .query_typed(
                &format!("select current_user = session_user, current_setting('work_mem') <> '77MB', ({state})"),
                &[],
            )
            .await
            .unwrap();
        let clean = (row[0].get::<_, bool>(0), row[0].get::<_, bool>(1), row[0].get::<_, i64>(2));
        assert_eq!(clean, (true, true, 0), "{statements:?}");
    }
    // The control: without the scrub, the setting and the channel stay.
    let frame = frames.frame(&slug("acme"), &TxOptions::default());
    for sql in [&frame.enter(), "listen news", "set work_mem = '77MB'", &frame.guard(), "commit"] {
        assert_eq!(send(&client, sql).await.1, None, "{sql}");
    }
    let rows = client.query_typed(&format!("select current_setting('work_mem'), ({state})"), &[]).await.unwrap();
    assert_eq!((rows[0].get::<_, String>(0), rows[0].get::<_, i64>(1)), ("77MB".into(), 1));
}

#[tokio::test]
async fn a_frame_finds_what_is_in_a_schema_of_extensions() {
    let stage = Stage::set().await;
    let (client, connection) = address(stage.database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    stage.sql("create schema extensions; create extension citext schema extensions; grant usage on schema extensions to public").await;
    let frames = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Role);
    let work = ["insert into marks (tag, n) select 'ext', 1 where 'A'::citext = 'a'::citext"];
    // The control: the type is not found.
    let frame = frames.frame(&slug("acme"), &TxOptions::default());
    assert_eq!(with_tenant(&client, &frame, &work).await, Ended::Left(TransactionOutcome::Aborted));
    let frames = frames.with_search_path([Ident::new("extensions").unwrap()]);
    let frame = frames.frame(&slug("acme"), &TxOptions::default());
    assert_eq!(with_tenant(&client, &frame, &work).await, Ended::Left(TransactionOutcome::Committed));
    assert_eq!(stage.marks("acme", "ext").await, (1, 0));
    // A schema in which a tenant may create is refused.
    stage.sql("grant create on schema extensions to public").await;
    let frame = frames.frame(&slug("acme"), &TxOptions::default());
    assert_eq!(with_tenant(&client, &frame, &work).await, Ended::NotEntered("22012".into()));
}

/// With path isolation the session's user stays, and the path and the organization are guarded.
#[tokio::test]
async fn with_path_isolation_another_connection_keeps_the_tenant_apart_by_its_path() {
    let stage = Stage::set().await;
    let client = service(&stage, Isolation::Path).await;
    let session = SessionSettings { statement_timeout: Duration::from_secs(7), ..Default::default() };
    let frames = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Path).with_session(session);
    let acme = slug("acme");
    let user = stage.app_name().as_str().to_owned();
    let own = &format!(
        "do $$ begin perform 1 / (current_user = '{user}' and current_setting('statement_timeout') = '7s'
                                  and exists (select from marks where tag = 'acme'))::int; end $$"
    );
    let insert = "insert into marks (tag, n) values ('path', 1)";
    for (attack, expected) in [
        (own.as_str(), TransactionOutcome::Committed),
        ("select set_config('search_path', 'tenant_globex', true)", TransactionOutcome::Tampered),
        ("select set_config('app.current_organization_id', 'x', true)", TransactionOutcome::Tampered),
    ] {
        let before = (stage.marks("acme", "path").await.0, stage.marks("globex", "path").await.0);
        let frame = frames.frame(&acme, &TxOptions::default());
        assert_eq!(with_tenant(&client, &frame, &[attack, insert]).await, Ended::Left(expected), "{attack}");
        let after = (stage.marks("acme", "path").await.0, stage.marks("globex", "path").await.0);
        assert_eq!(after, (before.0 + i64::from(expected == TransactionOutcome::Committed), before.1), "{attack}");
    }
    // The control: what the entry of the other isolation does fails here, since this login has no role to take.
    stage.sql(&format!("revoke {} from {user}", stage.role("acme"))).await;
    let by_role = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Role);
    let entered = with_tenant(&client, &by_role.frame(&acme, &TxOptions::default()), &[insert]).await;
    assert!(matches!(entered, Ended::NotEntered(_)), "{entered:?}");
    assert_eq!(
        with_tenant(&client, &frames.frame(&acme, &TxOptions::default()), &[]).await,
        Ended::Left(TransactionOutcome::Committed)
    );
}

/// The row of [`Frame::diagnose`], as texts.
#[expect(clippy::disallowed_methods, reason = "another driver's way of sending a message")]
async fn diagnosed(client: &Client, frame: &Frame) -> Option<cgk::Error> {
    let answer = client.simple_query(&frame.diagnose()).await.unwrap();
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.expect("one row");
    frame.explain((0..row.len()).map(|column| row.get(column)))
}

#[tokio::test]
async fn a_refused_entry_is_explained_as_the_library_explains_it() {
    let stage = Stage::set().await;
    let (client, connection) = address(stage.database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let frames = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Role);
    // The control: nothing is wrong with a tenant that can be entered.
    assert!(diagnosed(&client, &frames.frame(&slug("globex"), &TxOptions::default())).await.is_none());
    let role = stage.role("acme");
    for (name, sql, undo) in [
        ("acme", "select 1", "select 1"),
        (
            "acme",
            "update organizations set status = 'suspended' where slug = 'acme'",
            "update organizations set status = 'active' where slug = 'acme'",
        ),
        (
            "acme",
            &format!("revoke usage on schema tenant_acme from \"{role}\""),
            &format!("grant usage on schema tenant_acme to \"{role}\""),
        ),
        (
            "acme",
            "comment on schema tenant_acme is 'cgk organization 00000000-0000-0000-0000-000000000001'",
            "comment on schema tenant_acme is null",
        ),
        ("acme", "alter schema tenant_acme rename to acme_away", "alter schema acme_away rename to tenant_acme"),
        ("unknown", "select 1", "select 1"),
    ] {
        stage.sql(sql).await;
        let frame = frames.frame(&slug(name), &TxOptions::default());
        let entered = with_tenant(&client, &frame, &[]).await;
        let found = diagnosed(&client, &frame).await.map(|error| (error.code(), error.to_string()));
        let library = stage.db.with_tenant(&slug(name), async |_| Ok(())).await.err();
        assert_eq!(found, library.map(|error| (error.code(), error.to_string())), "{sql}");
        assert_eq!(found.is_some(), matches!(entered, Ended::NotEntered(_)), "{sql}: {entered:?} {found:?}");
        stage.sql(undo).await;
    }
    let frame = frames.frame(&slug("acme"), &TxOptions::default());
    assert_eq!(frame.explain([Some("x")]).unwrap().code(), "CGK0902");
}

#[test]
fn the_session_and_a_lost_connection_are_judged() {
    let frame = Frames::new(DatabaseTag::of("shop"), Isolation::Path).frame(&slug("acme"), &TxOptions::default());
    assert!(frame.is_clean([]) && frame.is_clean([Some("f")]));
    assert!(!frame.is_clean([Some("f"), Some("t")]) && !frame.is_clean([None]));
    assert_eq!(frame.judge(2, Some(Failure::lost())), TransactionOutcome::Unknown);
    assert_eq!(frame.judge(5, Some(Failure::lost())), TransactionOutcome::CommittedUnclean);
}

/// The row of the registry is found by its index, in a registry that the server would otherwise read whole.
#[tokio::test]
async fn an_entry_does_not_read_the_whole_registry() {
    let stage = Stage::set().await;
    let (client, connection) = address(stage.database.name()).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let fill = "insert into organizations (slug, name) select 'x' || n, 'x' from generate_series(1, 150) n; analyze organizations";
    stage.sql(fill).await;
    let plan = async |sql: &str| -> String {
        let rows = client.query_typed(&format!("explain (costs off) {sql}"), &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n")
    };
    let frames = Frames::new(DatabaseTag::of(stage.database.name()), Isolation::Role);
    let enter = frames.frame(&slug("acme"), &TxOptions::default()).enter();
    let (_, enter) = enter.split_once("/* cgk: enter */").unwrap();
    let plan_of_entry = plan(enter).await;
    assert!(plan_of_entry.contains("using organizations_slug_key"), "{plan_of_entry}");
    // The control: the same condition alone.
    let alone = plan("select id from public.organizations where slug = 'acme' and status = 'active'").await;
    assert!(alone.contains("Seq Scan on organizations"), "{alone}");
}
