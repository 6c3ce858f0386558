//! The commands that compare, adopt and repair: what they print, and what they end with.

use crate::support::cgk::{Shell, sql};
use cgk::testing::TestServer;
use insta::assert_snapshot;

#[tokio::test]
async fn drift_is_found_named_and_repaired() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    let quiet = ["setup:database -q", "tenant:create acme -q", "tenant:create globex -q"];
    shell.transcript(&quiet);
    let mut text = shell.transcript(&["tenant:verify acme globex", "tenant:verify --all --json", "drift"]);
    sql(
        &database,
        "alter table tenant_acme.orders alter id type integer; create table tenant_acme.scratch_copy (id int);
         create schema tenant_ghost; alter table public.organizations add column plan text",
    )
    .await;
    text.push_str(&shell.transcript(&[
        "tenant:verify acme globex",
        "drift",
        "drift --json",
        "tenant:verify globex -q",
    ]));
    sql(&database, "drop table tenant_acme.scratch_copy; alter table tenant_acme.orders alter id type bigint").await;
    shell.write("migrations/tenant/001_orders.sql", "create table orders (id bigint primary key); -- the orders\n");
    text.push_str(&shell.transcript(&[
        "tenant:verify acme",
        "migrate:repair --version 1 --tenant acme --reason comment",
        "migrate:repair --version 1 --all --reason comment --json",
        "migrate:repair --comment --all",
        "tenant:verify --all",
    ]));
    assert_snapshot!(text);
}

#[tokio::test]
async fn without_a_tenant_there_is_nothing_to_say_of_them() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.transcript(&["setup:database -q"]);
    for arguments in [&["tenant:verify", "--all"][..], &["tenant:verify", "--all", "--sql"]] {
        let answer = shell.run(arguments);
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(said.contains("0 schemas, in "), "{said}");
        assert_eq!(answer.code, 0);
    }
    // The control: with one there is.
    shell.transcript(&["tenant:create acme -q"]);
    assert!(shell.run(&["tenant:verify", "--all"]).stdout.contains("1 schema: 1 without differences, in "));
}

#[tokio::test]
async fn schemas_are_adopted() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    shell.transcript(&["setup:database -q"]);
    sql(
        &database,
        "create schema tenant_acme; create table tenant_acme.orders (id bigint primary key);
         create schema tenant_globex; create table tenant_globex.schema_migrations (version bigint primary key, dirty bool);
         create schema tenant_umbrella; create table tenant_umbrella.orders (id bigint primary key);
         create table tenant_umbrella.goose_db_version (id int, version_id bigint, is_applied bool);
         insert into tenant_umbrella.goose_db_version values (1, 0, true), (2, 1, true)",
    )
    .await;
    assert_snapshot!(shell.transcript(&[
        "migrate:baseline acme",
        "migrate:baseline acme --json",
        "migrate:baseline acme --version 1",
        "migrate:baseline acme --version 1 --json",
        "migrate:baseline globex",
        "migrate:baseline initech",
        "migrate:baseline acme globex",
        "migrate:baseline umbrella --from-table goose_db_version",
        "migrate:baseline --public",
        "migrate -q",
        "tenant:verify acme",
    ]));
}

#[test]
fn misuse() {
    let shell = Shell::new();
    assert_snapshot!(shell.transcript(&[
        "tenant:verify",
        "tenant:verify acme --all",
        "tenant:verify Acme",
        "migrate:baseline",
        "migrate:baseline acme --public",
        "migrate:repair --version 1 --all",
        "migrate:repair --version 1 --reason x",
        "migrate:repair --version x --all --reason x",
        "migrate:repair --all",
        "migrate:repair --version 1 --forget 2 --all --reason x",
    ]));
}
