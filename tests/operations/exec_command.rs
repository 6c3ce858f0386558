//! `tenant:exec` as people and programs see it.

use crate::{
    stage::Stage,
    support::{cgk::Shell, json_schema},
};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

const ROWS: &str = "insert into tenant_acme.customers (email) values ('a@x'), ('b,\"c\"@x')";
const SELECT: &str = "select email, 7 as n, true as yes, null as nothing from customers order by email";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_printed_as_table_csv_and_json() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    stage.run(ROWS).await;
    let answer = shell.run(&["tenant:exec", "--sql", SELECT, "--all"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let lines: Vec<String> =
        answer.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines, ["TENANT email n yes nothing", "acme a@x 7 t NULL", "acme b,\"c\"@x 7 t NULL"]);
    assert!(answer.stderr.contains("2 tenants done, 2 rows returned"), "{}", answer.stderr);

    let answer = shell.run(&["tenant:exec", "--sql", SELECT, "--tenant", "acme", "--csv"]);
    assert_eq!(answer.stdout, "tenant,email,n,yes,nothing\nacme,a@x,7,t,\nacme,\"b,\"\"c\"\"@x\",7,t,\n");

    // What looks like a colour is data.
    let escape = ["tenant:exec", "--sql", "select E'\\x1b[31mred' as t", "--tenant", "acme", "--csv"];
    assert_eq!(shell.run(&escape).stdout, "tenant,t\nacme,\u{1b}[31mred\n");

    let answer = shell.run(&["tenant:exec", "--sql", SELECT, "--all", "--json"]);
    let records: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    json_schema::check(&answer.stdout);
    let rows: Vec<&Value> = records.iter().filter(|record| record["event"] == "row").collect();
    let row = serde_json::json!({"email": "a@x", "n": 7, "yes": true, "nothing": null});
    assert_eq!((rows.len(), &rows[0]["row"], &rows[0]["tenant"]), (2, &row, &Value::from("acme")));
    let last = records.last().unwrap();
    assert_eq!((&last["event"], &last["done"], &last["exit"]), (&"summary".into(), &2.into(), &0.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_tells() {
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database);
    shell.write("fix.sql", "-- a fix\ninsert into customers (email) values ('new@x');\nselect 1 as one, 2 as one;\n");
    let code = |arguments: &[&str]| {
        let answer = shell.run(&[&["tenant:exec"], arguments].concat());
        (answer.code, answer.stdout + &answer.stderr)
    };
    for (arguments, exit, says) in [
        (&["--sql", "select 1"][..], 2, "no tenant is named"),
        (&["--all"], 2, "--sql"),
        (&["--sql", "copy customers to stdout", "--all"], 2, "CGK0866"),
        (&["--sql", "select 1", "--tenant", "akme"], 1, "CGK0401"),
        (&["--file", "missing.sql", "--all"], 2, "missing.sql"),
        (&["--file", "fix.sql", "--all"], 4, "CGK0869"),
        (&["--sql", "select 1; select 2", "--all", "--csv"], 4, "CSV has one result"),
        (&["--file", "fix.sql", "--tenant", "acme", "--write", "--json"], 4, "CGK0868"),
        (&["--file", "fix.sql", "--all", "--write"], 0, "2 rows changed"),
    ] {
        let (found, text) = code(arguments);
        assert!(found == exit && text.contains(says), "{arguments:?}: {found}\n{text}");
    }
    assert_eq!(stage.count("select count(*) from tenant_acme.customers").await, 1);
    // The same error in several tenants is one message, which names the statement of a script with several. The advice is for
    // whoever runs the command.
    for (sql, says, not) in [
        ("selec 1", "a statement of tenant acme failed", "statement 1"),
        ("select 1; selec 1", "statement 2 of tenant acme failed", "a statement of"),
        ("select 1; commit", "error[CGK0510]: statement 2: `commit` is refused", "closure"),
        ("insert into customers (email) values ('x')", "CGK0869", "error[CGK0505]"),
        ("create table mine (id int)", "runs as the tenant's role", "setup:database"),
    ] {
        let arguments: &[&str] = if sql.starts_with("create") { &["--write"] } else { &[] };
        let (exit, text) = code(&[&["--all", "--sql", sql], arguments].concat());
        assert!(exit == 4 && text.contains(says) && !text.contains(not), "{sql}: {exit}: {text}");
        let is_one = text.matches("error[").count() == 1 && text.contains("tenants: acme, ");
        assert!(is_one, "{sql}: {text}");
    }
}

/// A million rows go through; the program never holds as much as a quarter of them.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_rows() {
    const ROWS: usize = 1_000_000;
    let stage = Stage::set().await;
    let shell = Shell::on(&stage.database).set("CGK_STATEMENT_TIMEOUT", "600s");
    let sql = format!("select n, repeat('x', 300) from generate_series(1, {ROWS}) n");
    let mut command = shell.command(&["tenant:exec", "--sql", &sql, "--tenant", "acme", "--csv", "-q"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut lines, mut bytes, mut peak) = (String::new(), 0, 0, 0);
    loop {
        line.clear();
        let read = output.read_line(&mut line).unwrap();
        if read == 0 {
            break;
        }
        (lines, bytes) = (lines + 1, bytes + read);
        // The rest does not fit into the pipe, so the process is still there.
        if lines == ROWS - 10_000 {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let of = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            peak = of.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024;
        }
    }
    assert!(child.wait().unwrap().success());
    crate::stage::say(&format!("{bytes} bytes of rows, {peak} bytes of memory at most"));
    assert_eq!(lines, ROWS + 1);
    assert!(peak > 0 && peak * 4 < bytes, "{peak} of {bytes}");
}
