//! Exit codes as a table: what went wrong, in which command, with which code.

use crate::support::cgk::{Shell, sql};
use cgk::{
    Config, Operator, lifecycle,
    testing::{TestDatabase, TestServer},
};

const FULL: &str = "do $$ begin raise exception 'no space left' using errcode = '53100'; end $$;\n";

async fn fleet() -> (TestDatabase, Shell) {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    for command in [&["setup:database", "-q"][..], &["tenant:create", "acme", "globex", "-q"]] {
        let answer = shell.run(command);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
    }
    (database, shell)
}

fn ends_with(shell: &Shell, code: i32, commands: &[&str]) {
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let answer = shell.run(&words);
        assert_eq!(answer.code, code, "{command}: {}{}", answer.stdout, answer.stderr);
        // The records of a program say the same.
        let json = shell.run(&[&words[..], &["--json", "-q"]].concat());
        let last: serde_json::Value = serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
        assert_eq!((json.code, &last["exit"]), (code, &code.into()), "{command}: {}", json.stdout);
    }
}

/// A file that was edited after it was applied is 7 in every command that reads it.
#[tokio::test]
async fn an_edited_file_is_7_everywhere() {
    let (database, shell) = fleet().await;
    ends_with(&shell, 0, &["migrate --check", "migrate:status --check", "drift", "tenant:verify --all"]);
    for (file, first) in [
        ("migrations/tenant/001_orders.sql", "create table orders (id bigint primary key);\n"),
        ("migrations/tenant/002_items.sql", "create table items (id bigint primary key);\n"),
    ] {
        shell.write(file, &format!("{first}-- edited\n"));
        ends_with(
            &shell,
            7,
            &[
                "setup:database",
                "migrate",
                "migrate --check",
                "migrate --plan",
                "migrate --tenants",
                "migrate --tenant acme",
                "migrate --public",
                "migrate --all-or-nothing",
                "migrate --canary 1",
                "migrate:status --check",
                "migrate:baseline acme",
                "tenant:create acme",
                "tenant:create initech",
                "tenant:create initech hooli",
                "tenant:verify --all",
                "drift",
            ],
        );
        shell.write(file, first);
    }
    ends_with(&shell, 0, &["migrate --check", "drift"]);
    // In a folder without the configuration the bundled set is used, and the help says so.
    let elsewhere = Shell::on(&database);
    let answer = elsewhere.run(&["migrate", "--check"]);
    assert!(answer.code == 7 && answer.stderr.contains("cgk uses its bundled set"), "{}", answer.stderr);
    shell.write("migrations/tenant/001_orders.sql", "create table orders (id bigint primary key); -- edited\n");
    let own = shell.run(&["migrate", "--check"]).stderr;
    assert!(own.contains("CGK0610") && !own.contains("bundled set"), "the control: {own}");
    // What else is refused, and with which help.
    shell.write("migrations/tenant/001_orders.sql", "create table orders (id bigint primary key);\n");
    for (command, help) in [
        ("migrate:repair --forget 2 --all --reason x", "--forget is for a file that was deleted"),
        ("migrate --tenant acme --canary globex --no-rehearsal", "name a canary that is selected"),
        ("migrate --migrations migrations/tenant", "--migrations migrations\n"),
        ("tenant:exec --sql ' --all", "Correct the SQL on that line"),
        ("tenant:export acme --to nowhere/a.cgk", "Check the path"),
    ] {
        let answer = shell.run(&command.split(' ').collect::<Vec<_>>());
        let text = answer.stdout + &answer.stderr;
        assert!(answer.code != 0 && text.contains(help), "{command}: {text}");
    }
    assert_eq!(shell.run(&["tenant:suspend", "acme", "-q"]).code, 0);
    let refused = shell.run(&["tenant:exec", "--sql", "select 1", "--tenant", "acme"]).stderr;
    assert!(refused.contains("CGK0402") && refused.contains("`cgk tenant:activate acme`"), "{refused}");
}

/// A full disk is 5 in every command that writes, whichever schema is written.
#[tokio::test]
async fn a_full_disk_is_5_everywhere() {
    let (_database, shell) = fleet().await;
    shell.write("migrations/tenant/003_full.sql", FULL);
    ends_with(
        &shell,
        5,
        &[
            "migrate",
            "migrate --no-rehearsal",
            "migrate --tenant acme --no-rehearsal",
            "migrate --all-or-nothing --no-rehearsal",
            "migrate --canary 1 --no-rehearsal",
            "tenant:create initech",
            "tenant:create initech hooli",
        ],
    );
    std::fs::remove_file(shell.folder().join("migrations/tenant/003_full.sql")).unwrap();
    shell.write("migrations/public/002_full.sql", FULL);
    ends_with(&shell, 5, &["setup:database", "migrate", "migrate --public", "migrate --all-or-nothing"]);
}

/// With a right missing that the next command needs, the database is not ready.
#[tokio::test]
async fn a_database_in_which_no_tenant_can_be_created_is_not_ready() {
    let database = TestServer::shared().database().await.unwrap();
    let role = database.name();
    sql(
        &database,
        &format!(
            "create role {role} login; alter database {role} owner to {role}; alter schema public owner to {role}"
        ),
    )
    .await;
    let shell = Shell::as_role(&database, Some(role));
    let answer = shell.run(&["setup:database"]);
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(!answer.stderr.contains("is ready") && answer.stderr.contains("createrole"), "{}", answer.stderr);
    let json = shell.run(&["setup:database", "--json", "-q"]);
    let last: serde_json::Value = serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((json.code, &last["exit"], &last["code"]), (1, &1.into(), &"CGK0301".into()));
    assert_eq!(shell.run(&["tenant:create", "acme"]).code, 1);
    // The control: with the right, both work.
    sql(&database, &format!("alter role {role} createrole")).await;
    let answer = shell.run(&["setup:database"]);
    assert!(answer.code == 0 && answer.stderr.contains("is ready"), "{}", answer.stderr);
    assert_eq!(shell.run(&["tenant:create", "acme"]).code, 0);
    // A rehearsal that is due needs a connection.
    let limited = format!("truncate public.cgk_rehearsals; alter role {role} connection limit");
    sql(&database, &format!("{limited} 1")).await;
    ends_with(&shell, 5, &["migrate", "migrate --all-or-nothing"]);
    let refused = shell.run(&["migrate"]).stderr;
    assert!(refused.contains("CGK0201") && refused.contains("no tenant was changed"), "{refused}");
    sql(&database, &format!("{limited} -1")).await;
    ends_with(&shell, 0, &["migrate"]);
    // A database that is set up, whose operator has lost the right.
    sql(&database, &format!("alter role {role} nocreaterole")).await;
    let answer = shell.run(&["setup:database"]);
    assert!(answer.code == 1 && !answer.stderr.contains("is ready"), "{}", answer.stderr);
    let json = shell.run(&["setup:database", "--json", "-q"]);
    let last: serde_json::Value = serde_json::from_str(json.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((json.code, &last["exit"], &last["not_ready"]["code"]), (1, &1.into(), &"CGK0301".into()));
    assert_eq!(shell.run(&["tenant:create", "globex"]).code, 1);
    let operator = Operator::connect(&Config::from_url(&shell.database_url()).unwrap()).await.unwrap();
    assert_eq!(lifecycle::check_rights(&operator).await.unwrap_err().code(), "CGK0301");
    let owned = format!(
        "drop schema public cascade; drop schema tenant_acme cascade; reassign owned by {role} to current_user"
    );
    sql(&database, &owned).await;
}

/// Neither is one in whose shared schema every role may create, where the operator may not take the right away.
#[tokio::test]
async fn a_database_in_which_every_role_may_create_in_public_is_not_ready() {
    let database = TestServer::shared().database().await.unwrap();
    let role = database.name();
    sql(
        &database,
        &format!(
            "create role {role} login createrole; grant create on database {role} to {role};
             grant create, usage on schema public to {role}; grant create on schema public to public"
        ),
    )
    .await;
    let shell = Shell::as_role(&database, Some(role));
    let answer = shell.run(&["setup:database", "--json", "-q"]);
    let last: serde_json::Value = serde_json::from_str(answer.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((answer.code, &last["not_ready"]["code"]), (1, &"CGK0304".into()), "{}", answer.stdout);
    let created = shell.run(&["tenant:create", "acme"]);
    assert!(created.code != 0 && created.stderr.contains("CGK0304"), "{}", created.stderr);
    // The control: without that right, both work.
    sql(&database, "revoke create on schema public from public").await;
    assert_eq!(shell.run(&["setup:database"]).code, 0);
    assert_eq!(shell.run(&["tenant:create", "acme"]).code, 0);
    sql(&database, &format!("drop schema tenant_acme cascade; drop owned by {role} cascade")).await;
}

/// What waiting does not help is not 5.
#[test]
fn wrong_values_are_refused_before_anything_is_done() {
    let shell = Shell::new().set("DATABASE_URL", "postgresql://cgk@127.0.0.1:1/app");
    for command in [
        "tenant:create acme --jobs 0",
        "migrate --jobs 0",
        "migrate --max-failures 0",
        "migrate:status --watch=0",
        "tenant:create acme --name=",
        "migrate --lock-timeout 3",
    ] {
        assert_eq!(shell.run(&command.split(' ').collect::<Vec<_>>()).code, 2, "{command}");
    }
    assert_eq!(shell.run(&["tenant:create", "acme", "--name", " "]).code, 2);
    // The control: with values that are right, the server is asked, and not there.
    assert_eq!(shell.run(&["tenant:create", "acme", "--jobs", "2", "--name", "x"]).code, 5);
}
