//! Several at once, readers who leave, and signals.

use crate::support::{
    cgk::{Answer, Shell, sql},
    patience::HANG,
};
use cgk::testing::TestServer;
use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const AT_ONCE: usize = 8;

fn at_once(shell: &Shell, arguments: &[&str]) -> Vec<Answer> {
    let started: Vec<_> = (0..AT_ONCE).map(|_| shell.start(arguments)).collect();
    started.into_iter().map(|child| Answer::of(child.wait_with_output().unwrap())).collect()
}

#[tokio::test]
async fn eight_setups_eight_creations_eight_migrations() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database).set("CGK_MIGRATION_WAIT", "10min").set("CGK_LOCK_TIMEOUT", "10min");
    for answer in at_once(&shell, &["setup:database"]) {
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    let answers = at_once(&shell, &["tenant:create", "acme"]);
    let said = |word: &str| answers.iter().filter(|answer| answer.stdout.contains(word)).count();
    assert!(
        answers.iter().all(|answer| answer.code == 0),
        "{:?}",
        answers.iter().map(|a| &a.stderr).collect::<Vec<_>>()
    );
    assert_eq!((said("created tenant acme"), said("tenant acme exists")), (1, AT_ONCE - 1));

    shell.run(&["tenant:create", "globex"]);
    shell.run(&["migrate:new", "gift_cards"]);
    shell.write("migrations/tenant/008_gift_cards.sql", "create table gift_cards (code text primary key);\n");
    for answer in at_once(&shell, &["migrate"]) {
        assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
    }
    assert_eq!(shell.run(&["migrate:status", "--check"]).code, 0);
}

/// `cgk … | head -1` and a closed standard output must not end a fleet run in the middle, and never in a panic.
#[tokio::test]
async fn a_reader_who_leaves_stops_nothing() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    for arguments in [
        &["tenant:create", "acme"][..],
        &["tenant:list"],
        &["migrate:status", "--json"],
        &["--help"],
        &["completions", "bash"],
        &["demo"],
    ] {
        let mut child = shell.start(arguments);
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // Both ends: nobody is left to be told anything.
    let mut child = shell.start(&["tenant:create", "Bad"]);
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_a_failure() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let answer = Shell::on(&database).command(&["migrate:status"]).stdout(Stdio::from(full)).output().unwrap();
    let answer = Answer::of(answer);
    assert_eq!(answer.code, 1);
    assert!(answer.stderr.contains("could not write to standard output"), "{}", answer.stderr);
}

#[tokio::test]
async fn an_interrupted_migration_is_whole_or_not_there() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.run(&["migrate"]);
    for slug in ["acme", "globex"] {
        assert_eq!(shell.run(&["tenant:create", slug]).code, 0);
    }
    // Holds the migration of the first tenant up until the row is gone.
    sql(&database, "create table gate (id int); insert into gate values (1)").await;
    let wait = "create table late (id int);\ndo $$ begin while exists (select from gate) loop perform pg_sleep(0.01); end loop; end $$;\n";
    shell.write("migrations/tenant/003_late.sql", wait);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut child = shell.start(&["migrate", "--json", "--no-rehearsal"]);
        until_migrating(&database).await;
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("stopping: ") {
            assert!(errors.read_line(&mut said).unwrap() > 0, "{said}");
        }
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
        let answer = Answer::of(child.wait_with_output().unwrap());
        let last = answer.stdout.lines().last().unwrap();
        assert_eq!(answer.code, code, "{last}");
        assert!(
            last.contains("\"stopped\":\"interrupted\",\"left\":2") && last.contains(&format!("\"exit\":{code}")),
            "{last}"
        );
    }
    sql(&database, "delete from gate").await;
    assert_eq!(shell.run(&["migrate"]).code, 0);
    assert_eq!(shell.run(&["migrate:status", "--check"]).code, 0);
}

/// Another run holds the shared schema's lock for longer than this one waits.
#[tokio::test]
async fn a_run_that_gets_no_turn_ends_with_six() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database).set("CGK_MIGRATION_WAIT", "50ms");
    let file = shell.run(&["migrate:new", "late", "--public"]).stdout;
    shell.write(file.trim(), "create table late (id int);\n");
    let url = crate::support::cgk::url(&database, None);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let key = cgk::lock::migration_key(&cgk::ident::SchemaName::public());
    client.query_one("select pg_advisory_lock($1)", &[&key]).await.unwrap();
    let answer = shell.run(&["migrate", "--json"]);
    assert_eq!(answer.code, 6, "{}", answer.stderr);
    assert!(
        answer.stderr.contains("error[CGK0605]") && answer.stdout.contains("\"kind\":\"locked\""),
        "{}",
        answer.stderr
    );
    client.query_one("select pg_advisory_unlock($1)", &[&key]).await.unwrap();
    assert_eq!(shell.run(&["migrate"]).code, 0);
}

async fn until_migrating(database: &cgk::testing::TestDatabase) {
    let began = Instant::now();
    let url = crate::support::cgk::url(database, None);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let running = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    while client.query_one(running, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(began.elapsed() < HANG, "the migration does not begin");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
