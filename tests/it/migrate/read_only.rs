//! Settings of a database and of a session under which nothing can be written, or no statement may fail.

use crate::{
    sandbox::Raw,
    support::{
        cgk::Shell,
        fleet::{Fleet, said},
    },
};
use cgk::testing::TestServer;

#[tokio::test]
async fn a_setting_that_makes_sessions_read_only_is_named() {
    let fleet = Fleet::of(&["acme"]).await;
    let database = fleet.database.name();
    fleet.file("003_next.sql", "create table x (id int);\n");
    fleet.raw.run(&format!("alter database {database} set default_transaction_read_only = on")).await;
    for command in [
        vec!["migrate"],
        vec!["migrate", "--no-rehearsal"],
        vec!["migrate", "--all-or-nothing"],
        vec!["tenant:create", "new"],
    ] {
        let answer = fleet.shell.run(&command);
        let text = said(&answer);
        assert!(answer.code == 1 && text.contains("default_transaction_read_only is on"), "{command:?}: {text}");
        assert!(!text.contains("primary server"), "{command:?}: {text}");
    }
    // Who only looks is served.
    assert_eq!(fleet.shell.run(&["migrate", "--check"]).code, 3);
    assert_eq!(fleet.drift().code, 0);
    fleet.raw.run(&format!("alter database {database} reset default_transaction_read_only")).await;
    fleet.ok(&["migrate", "-q"]);
}

#[tokio::test]
async fn a_file_that_makes_its_session_read_only_is_named() {
    let fleet = Fleet::of(&["acme", "globex"]).await;
    let set = "set session characteristics as transaction read only;\n";
    fleet.file("003_next.sql", &format!("-- cgk:no-transaction\n{set}create table x (id int);\n"));
    let answer = fleet.shell.run(&["migrate"]);
    let text = said(&answer);
    assert!(answer.code != 0 && answer.code != 5 && text.contains("003_next.sql"), "{text}");
    assert!(!text.contains("primary server"), "{text}");
}

/// Statements that may fail are how cgk finds out whether a condition holds; with this setting the server ends the session.
#[tokio::test]
async fn a_database_that_ends_sessions_at_errors_is_set_up_and_migrated() {
    let database = TestServer::shared().database().await.unwrap();
    let (shell, raw) = (Shell::on(&database), Raw::on(&database).await);
    raw.run(&format!("alter database {} set exit_on_error = on", database.name())).await;
    // Neither does a time limit of the database end a session of the operator's that waits or works.
    let mut limits = vec!["idle_session_timeout"];
    if raw.one::<i32>("select current_setting('server_version_num')::int4").await >= 170_000 {
        limits.push("transaction_timeout");
    }
    for limit in &limits {
        raw.run(&format!("alter database {} set {limit} = '10min'", database.name())).await;
    }
    shell.write_migrations();
    let limited: Vec<String> = limits.iter().map(|limit| format!("current_setting('{limit}') <> '0'")).collect();
    let refuse = format!("do $$ begin if {} then raise 'limited'; end if; end $$;\n", limited.join(" or "));
    shell.write("migrations/tenant/003_limits.sql", &refuse);
    for command in [
        vec!["setup:database", "-q"],
        vec!["tenant:create", "-q", "acme", "globex"],
        vec!["migrate", "-q"],
        vec!["tenant:create", "-q", "acme"],
        vec!["drift", "-q"],
    ] {
        let answer = shell.run(&command);
        assert_eq!(answer.code, 0, "{command:?}: {}", said(&answer));
    }
    // A file that fails in one tenant is that tenant's failure and no lost connection.
    raw.run("insert into tenant_acme.orders values (7)").await;
    let sql = "create table x (id int check (id < 5)); insert into x select id from orders;\n";
    shell.write("migrations/tenant/004_next.sql", sql);
    let answer = shell.run(&["migrate"]);
    assert!(answer.code == 4 && said(&answer).contains("CGK0603"), "{}", said(&answer));
    // The control: the setting is in force for others.
    let other = Raw::on(&database).await;
    assert_eq!(other.one::<String>("select current_setting('exit_on_error')").await, "on");
    assert_eq!(other.try_run(&refuse).await.unwrap_err().as_db_error().unwrap().message(), "limited");
}
