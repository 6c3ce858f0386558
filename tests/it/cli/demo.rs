//! The demo: what it tells, and that nothing of it is left.

use crate::support::{
    cgk::{Answer, Shell, url},
    patience::HANG,
};
use cgk::testing::{TestDatabase, TestServer};
use insta::assert_snapshot;
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

#[test]
fn on_a_private_server() {
    let folder = std::env::temp_dir().join(format!("cgk-it-demo-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&folder).unwrap();
    // Where the server runs as another user, that one makes a directory in it.
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let shell = Shell::new().set("CGK_PG_TMP", folder.to_str().unwrap());
    let answer = shell.run(&["demo", "-q"]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "the server's directory is gone");
    std::fs::remove_dir(&folder).unwrap();
    assert_snapshot!(shell.shown(&["demo", "-q"], &answer));
}

#[tokio::test]
async fn on_a_server_of_ones_own() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let answer = shell.run(&["demo"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let name = demo_name(&answer.stderr);
    assert!(answer.stdout.contains(&format!("Database {name} is dropped.")), "{}", answer.stdout);
    assert!(answer.stdout.contains("permission denied for schema tenant_acme (42501)"));
    assert_eq!(left_of(&database, &name).await, 0);

    let answer = shell.run(&["demo", "--json"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let records: Vec<serde_json::Value> =
        answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&records[0]["event"], &records[0]["private_server"]), (&"start".into(), &false.into()));
    assert_eq!(records.last().unwrap()["event"], "summary");

    let path = shell.run(&["demo", "--isolation", "path"]);
    assert_eq!(path.code, 0, "{}", path.stderr);
}

/// Killed at any moment, the database and its roles are gone a little later.
#[tokio::test]
async fn killed_at_any_step() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    for (signal, step) in [("KILL", "cgk demo"), ("KILL", "2."), ("KILL", "7."), ("INT", "2."), ("TERM", "5.")] {
        let mut child = shell.command(&["demo"]).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The pipe is small and the demo quick: what is read may be behind, which is one more moment to be killed at.
        let _ = lines.map_while(Result::ok).find(|line| line.starts_with(step));
        let _ = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let answer = Answer::of(child.wait_with_output().unwrap());
        let name = demo_name(&answer.stderr);
        let began = Instant::now();
        while left_of(&database, &name).await > 0 {
            assert!(began.elapsed() < HANG, "{signal} at {step}: {name} is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!answer.stderr.contains("panicked"), "{}", answer.stderr);
    }
}

fn demo_name(stderr: &str) -> String {
    let name =
        stderr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').find(|word| word.starts_with("cgk_demo_"));
    name.unwrap_or_else(|| panic!("no database is named: {stderr}")).to_owned()
}

/// Databases of this name, and roles that carry its tag.
async fn left_of(database: &TestDatabase, name: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(&url(database, None), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let tag = format!("_{}", cgk::ident::DatabaseTag::of(name).as_str());
    let row = client
        .query_one(
            "select (select count(*) from pg_database where datname = $1)
                  + (select count(*) from pg_roles where right(rolname, length($2)) = $2)",
            &[&name, &tag],
        )
        .await
        .unwrap();
    row.get(0)
}
