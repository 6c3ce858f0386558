//! `cgk report` as people and programs see it.

use super::{fleet::Fleet, page::Page};
use crate::support::cgk::Shell;
use serde_json::Value;
use std::fs;

fn read(shell: &Shell, file: &str) -> String {
    fs::read_to_string(shell.folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_writes_page_and_data_of_the_same_report() {
    let fleet = Fleet::of(&["acme", "globex"]).await;
    let shell = Shell::on(&fleet.database);
    let answer = shell.run(&["report"]);
    assert_eq!((answer.code, answer.stdout.trim()), (0, "fleet.html"), "{}", answer.stderr);
    assert!(answer.stderr.contains("Report about 2 tenants."), "{}", answer.stderr);
    Page::of(read(&shell, "fleet.html")).check();

    let answer = shell.run(&["report", "--out", "a.html", "--data", "a.json", "--top", "1"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "a.html\na.json\n"), "{}", answer.stderr);
    let data: Value = serde_json::from_str(&read(&shell, "a.json")).unwrap();
    crate::support::json_schema::check(&read(&shell, "a.json"));
    let page = Page::of(read(&shell, "a.html"));
    let instant = data["generated_at"].as_str().unwrap();
    assert!(page.html.contains(&format!("<time datetime=\"{instant}\">")), "{instant}");
    assert_eq!(page.rows("The largest tenants").len(), 2, "one by name, and the rest");
    assert_eq!(data["states"][0]["named"], Value::from(vec!["acme"]));

    // `--json` prints the same, and writes a page only where one is named.
    fs::remove_file(shell.folder().join("fleet.html")).unwrap();
    let answer = shell.run(&["report", "--json"]);
    let printed: Value = serde_json::from_str(&answer.stdout).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((answer.code, keys(&printed)), (0, keys(&data)));
    assert!(!shell.folder().join("fleet.html").exists());

    let answer = shell.run(&["report", "--compare", "a.json", "--drift"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(read(&shell, "fleet.html").contains("No tenant has another size."));
}

/// `-` is standard output, and two answers never share a place.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_goes_to_standard_output_and_nothing_is_written_twice() {
    let fleet = Fleet::of(&["acme"]).await;
    let shell = Shell::on(&fleet.database);
    let answer = shell.run(&["report", "--out", "-", "--data", "a.json"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stderr.contains("a.json\n"), "{}", answer.stderr);
    Page::of(answer.stdout).check();
    let answer = shell.run(&["report", "--out", "a.html", "--data", "-", "-q"]);
    let data: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((answer.code, &data["tenants"][0]["tenant"]), (0, &"acme".into()));
    assert!(!shell.folder().join("-").exists());
    fs::remove_file(shell.folder().join("a.html")).unwrap();
    for arguments in [
        &["--out", "x", "--data", "x"][..],
        &["--out", "x", "--data", "./x"],
        &["--data", "fleet.html"],
        &["--out", "-", "--data", "-"],
        &["--out", "-", "--json"],
        &["--data", "-", "--json"],
    ] {
        let answer = shell.run(&[&["report"], arguments].concat());
        assert_eq!((answer.code, answer.stdout.lines().count() <= 1), (2, true), "{arguments:?}: {}", answer.stdout);
        assert!((answer.stdout + &answer.stderr).contains("is named twice"), "{arguments:?}");
        assert!(["x", "fleet.html"].iter().all(|file| !shell.folder().join(file).exists()), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused() {
    let fleet = Fleet::of(&["acme"]).await;
    let shell = Shell::on(&fleet.database);
    shell.write("no.json", "{\"tenants\": 1}");
    shell.write(
        "other.json",
        "{\"generated_at\": \"2026-01-01T00:00:00Z\", \"tenants\": [{\"tenant\": \"x\", \"id\": \"y\", \"bytes\": 1}]}",
    );
    for (arguments, code, says) in [
        (&["--compare", "no.json"][..], 2, "CGK0940"),
        (&["--compare", "missing.json"], 2, "could not read missing.json"),
        (&["--compare", "other.json"], 1, "CGK0941"),
        (&["--out", "no/where.html"], 2, "could not write no/where.html"),
        (&["--top", "0"], 2, "0 is not in 1..=1000"),
        (&["--serve=0.0.0.0:80"], 2, "other machines could reach it"),
        (&["--serve", "--out", "x.html"], 2, "cannot be used with"),
    ] {
        let answer = shell.run(&[&["report"], arguments].concat());
        assert!(
            answer.code == code && answer.stderr.contains(says),
            "{arguments:?}: {} {}",
            answer.code,
            answer.stderr
        );
    }
    let empty = cgk::testing::TestServer::shared().database().await.unwrap();
    let answer = Shell::on(&empty).run(&["report"]);
    assert!(answer.code == 1 && answer.stderr.contains("cgk setup:database"), "{} {}", answer.code, answer.stderr);
}
