//! Files of other tools, a row each: the up section is run, or the file is refused with a reason. The down section is never run.

use crate::sandbox::Files;
use cgk::{
    Error, MigrationError,
    migrate::{Migrations, Set},
};
use std::fs;

enum Expected {
    /// These statements are run.
    Runs(&'static [&'static str]),
    /// The file is refused, and the reason says so.
    Refused(&'static str),
    /// Another file holds the down section: it is no migration.
    LeftAside,
}
use Expected::{LeftAside, Refused, Runs};

const UP: &[&str] = &["create table g (a int)"];

/// Tool, file name, text. Each down section is `drop table orders`.
const TOOLS: &[(&str, &str, &str, Expected)] = &[
    ("dbmate", "002_g.sql", "-- migrate:up\ncreate table g (a int);\n-- migrate:down\ndrop table orders;", Runs(UP)),
    (
        "goose",
        "002_g.sql",
        "-- +goose Up\n-- +goose StatementBegin\ncreate table g (a int);\n-- +goose StatementEnd\n-- +goose Down\ndrop table orders;",
        Runs(UP),
    ),
    (
        "rockhopper",
        "002_g.sql",
        "-- @package main\n-- +up\n-- +begin\ncreate table g (a int);\n-- +end\n\n-- +down\n-- +begin\ndrop table orders;\n-- +end\n",
        Runs(UP),
    ),
    (
        "sql-migrate",
        "002_g.sql",
        "-- +migrate Up\ncreate table g (a int);\n-- +migrate Down\ndrop table orders;",
        Runs(UP),
    ),
    (
        "Migra (OCaml)",
        "002_g.sql",
        "-- +migrate up\ncreate table g (a int);\n-- +migrate down\ndrop table orders;",
        Runs(UP),
    ),
    ("micrate", "002_g.sql", "-- +micrate Up\ncreate table g (a int);\n-- +micrate Down\ndrop table orders;", Runs(UP)),
    (
        "node-pg-migrate",
        "002_g.sql",
        "-- Up Migration\ncreate table g (a int);\n-- Down Migration\ndrop table orders;",
        Runs(UP),
    ),
    ("rambler", "002_g.sql", "-- rambler up\ncreate table g (a int);\n-- rambler down\ndrop table orders;", Runs(UP)),
    ("shmig", "002_g.sql", "-- ==== UP ====\ncreate table g (a int);\n-- ==== DOWN ====\ndrop table orders;", Runs(UP)),
    ("Play evolutions", "002_g.sql", "# --- !Ups\ncreate table g (a int);\n# --- !Downs\ndrop table orders;", Runs(UP)),
    ("Play evolutions 2.8", "002_g.sql", "-- !Ups\ncreate table g (a int);\n-- !Downs\ndrop table orders;", Runs(UP)),
    ("Play, no space", "002_g.sql", "--!Ups\ncreate table g (a int);\n--!Downs\ndrop table orders;", Runs(UP)),
    ("tern", "002_g.sql", "create table g (a int);\n---- create above / drop below ----\ndrop table orders;", Runs(UP)),
    (
        "MyBatis Migrations",
        "002_g.sql",
        "-- // what it does\ncreate table g (a int);\n-- //@UNDO\ndrop table orders;",
        Runs(UP),
    ),
    ("dbdeploy", "002_g.sql", "create table g (a int);\n--//@UNDO\ndrop table orders;", Runs(UP)),
    ("drizzle", "002_g.sql", "create table g (a int);--> statement-breakpoint\n", Runs(UP)),
    ("Atlas", "002_g.sql", "-- atlas:nolint\ncreate table g (a int);", Runs(UP)),
    (
        "Atlas txtar",
        "002_g.sql",
        "-- atlas:txtar\n-- migration.sql --\ncreate table g (a int);\n-- down.sql --\ndrop table orders;",
        Refused("directive of Atlas"),
    ),
    ("yoyo", "002_g.sql", "-- a sentence\n-- depends: 001_a\n\ncreate table g (a int);", Runs(UP)),
    ("yoyo, rollback", "002_g.rollback.sql", "drop table orders;", Refused("002_g.rollback.sql")),
    ("graphile-migrate", "002_g.sql", "--! Previous: -\n--! Hash: sha1:x\n\ncreate table g (a int);", Runs(UP)),
    ("sqitch, deploy", "002_g.sql", "-- Deploy shop:g to pg\n-- requires: orders\n\ncreate table g (a int);", Runs(UP)),
    ("sqitch, revert", "002_g.sql", "-- Revert shop:g from pg\n\ndrop table orders;", Refused("heading of a rollback")),
    (
        "sqitch, transaction",
        "002_g.sql",
        "-- Deploy shop:g to pg\nBEGIN;\ncreate table g (a int);\nCOMMIT;",
        Refused("BEGIN in a migration"),
    ),
    (
        "Liquibase",
        "002_g.sql",
        "--liquibase formatted sql\n--changeset me:1\ncreate table g (a int);\n--rollback drop table orders;",
        Refused("directive of Liquibase"),
    ),
    (
        "Liquibase, headless",
        "002_g.sql",
        "--changeset me:1\ncreate table g (a int);\n--rollback drop table orders;",
        Refused("directive of Liquibase"),
    ),
    ("Flyway", "V2__g.sql", "create table g (a int);", Runs(UP)),
    ("Flyway, undo", "U2__g.sql", "drop table orders;", LeftAside),
    ("golang-migrate", "002_g.up.sql", "create table g (a int);", Runs(UP)),
    ("golang-migrate, down", "002_g.down.sql", "drop table orders;", LeftAside),
    ("postgrator, undo", "002.undo.g.sql", "drop table orders;", LeftAside),
    ("db-migrate, down", "002-g-down.sql", "drop table orders;", Refused("002-g-down.sql")),
    ("ley, phinx, Laravel", "002_g.php", "<?php Schema::drop('orders');", Refused("002_g.php")),
    (
        "Laravel, a dump",
        "002_g.sql",
        "create table g (a int);\nCOPY migrations (id) FROM stdin;\n1\n\\.\n",
        Refused("COPY"),
    ),
    (
        "Bytebase, a backup",
        "002_g.sql",
        "create table g (a int);\n-- Rollback SQL\ndrop table orders;",
        Refused("heading of a rollback"),
    ),
    ("Evolve", "002_g.sql", "-- evolve-repeat-always\ncreate table g (a int);", Refused("directive of Evolve")),
    (
        "migration-files",
        "002_g.sql",
        "------\n-- Up\n------\ncreate table g (a int);\n------\n-- Down\n------\ndrop table orders;",
        Refused("heading of a rollback"),
    ),
    (
        "unknown, +word",
        "002_g.sql",
        "-- +tool Up\ncreate table g (a int);\n-- +tool Down\ndrop table orders;",
        Refused("\"-- +tool Up\" is a directive"),
    ),
    (
        "unknown, +migrate:down",
        "002_g.sql",
        "-- +migrate:up\ncreate table g (a int);\n-- +migrate:down\ndrop table orders;",
        Refused("\"-- +migrate:up\" is a directive"),
    ),
    (
        "unknown, blocks",
        "002_g.sql",
        "/* migrate:up */\ncreate table g (a int);\n/* migrate:down */\ndrop table orders;",
        Refused("heading of a rollback"),
    ),
    (
        "unknown, begin and end",
        "002_g.sql",
        "-- up:begin\ncreate table g (a int);\n-- up:end\n-- down:begin\ndrop table orders;\n-- down:end",
        Refused("heading of a rollback"),
    ),
    (
        "unknown, alembic's words",
        "002_g.sql",
        "-- upgrade\ncreate table g (a int);\n-- downgrade\ndrop table orders;",
        Refused("heading of a rollback"),
    ),
    (
        "unknown, @ queries",
        "002_g.sql",
        "--@migrationQuery\ncreate table g (a int);\n--@rollbackQuery\ndrop table orders;",
        Refused("heading of a rollback"),
    ),
    (
        "by hand",
        "002_g.sql",
        "create table g (a int);\n\n-- To rollback:\ndrop table orders;",
        Refused("heading of a rollback"),
    ),
    (
        "by hand, in comments",
        "002_g.sql",
        "create table g (a int);\n\n-- To rollback:\n-- drop table orders;",
        Runs(UP),
    ),
];

#[test]
fn of_a_file_of_another_tool_only_the_way_there_is_run() {
    for (tool, name, text, expected) in TOOLS {
        let files = Files::of_tenants(&[("001_orders.sql", "create table orders (id int)")]);
        files.tenant(name, text);
        match (files.try_load(), expected) {
            (Ok(migrations), Runs(statements)) => {
                let file = &migrations.set(Set::Tenant).files()[1];
                assert_eq!(&file.statement_texts().collect::<Vec<_>>(), statements, "{tool}");
            }
            (Ok(migrations), LeftAside) => {
                assert_eq!(migrations.set(Set::Tenant).files().len(), 1, "{tool}");
                assert_eq!(migrations.set(Set::Tenant).left_aside().len(), 1, "{tool}");
            }
            (Err(Error::Migration(MigrationError::Invalid { problems })), Refused(reason)) => {
                let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let is_said = |line: &String| line.to_lowercase().contains(&reason.to_lowercase());
                assert!(said.iter().any(is_said), "{tool}: {said:?}");
            }
            (Ok(_), Refused(_)) => panic!("{tool}: a run would begin"),
            (Err(error), _) => panic!("{tool}: {error:?}"),
        }
    }
}

#[test]
fn only_a_file_with_a_down_section_has_one() {
    let files = Files::of_tenants(&[
        ("001_both.sql", "-- +goose Up\ncreate table g (a int);\n-- +goose Down\ndrop table g;"),
        ("002_up.sql", "-- +goose Up\ncreate table h (a int);"),
        ("003_sqlx.sql", "-- no-transaction\ncreate table i (a int);"),
        ("004_none.sql", "create table j (a int);"),
    ]);
    let migrations = files.load();
    let found: Vec<_> =
        migrations.set(Set::Tenant).files().iter().map(|file| (file.tool(), file.has_down_section())).collect();
    assert_eq!(found, [(Some("goose"), true), (Some("goose"), false), (Some("sqlx"), false), (None, false)]);
}

#[test]
fn a_heading_that_is_none_is_accepted_in_its_file_and_beside_it() {
    let text = "create table g (a int);\n-- rollback plan\ncreate table h (a int);";
    let with = |text: &str, accepted: &str| {
        let files = Files::of_tenants(&[("001_orders.sql", "create table orders (id int)")]);
        files.tenant("002_g.sql", text);
        fs::write(files.path().join("accepted.txt"), accepted).unwrap();
        files.try_load()
    };
    assert!(with(text, "").is_err());
    let of_statement =
        text.replace("-- rollback plan", "-- cgk:accept rollback-section a table of plans\n-- rollback plan");
    let of_file = format!("-- cgk:accept rollback-section a table of plans\n\n{text}");
    for (text, accepted) in [
        (of_statement.as_str(), ""),
        (&text.replace("-- rollback plan", "-- rollback plan\n-- cgk:accept rollback-section a table of plans"), ""),
        (&of_file, ""),
        (text, "tenant/002_g.sql rollback-section a table of plans\n"),
    ] {
        let migrations: Migrations = with(text, accepted).unwrap();
        assert_eq!(migrations.set(Set::Tenant).files()[1].statement_texts().count(), 2);
        assert_eq!(migrations.warnings(), [], "{text}");
    }
    // Of another statement, without a reason, of another rule.
    for text in [
        format!("-- cgk:accept rollback-section a table of plans\n{text}"),
        text.replace("-- rollback plan", "-- cgk:accept rollback-section\n-- rollback plan"),
        text.replace("-- rollback plan", "-- cgk:accept directive a table of plans\n-- rollback plan"),
    ] {
        assert!(with(&text, "").is_err(), "{text}");
    }
}
