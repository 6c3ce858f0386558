use super::*;
use crate::sql::cut;

/// Returns the statements that run, the tool, and whether the file runs without a transaction.
fn run(text: &str) -> Result<(Vec<String>, Option<&'static str>, bool), Fault> {
    let part = up_part(text)?;
    assert_eq!(part.text.len(), text.len());
    let found = cut(&part.text).map_err(|error| (error.at, error.problem))?;
    let said = directives(&part.text, &found.comments, &found.statements);
    if let Some(refused) = said.refused.into_iter().chain(said.rollbacks.into_iter().map(|(_, fault)| fault)).next() {
        return Err(refused);
    }
    let without = said.without_transaction;
    let texts = found.statements.into_iter().map(|statement| part.text[statement.range].to_owned()).collect();
    Ok((texts, part.tool, without))
}

#[test]
fn the_way_there_is_run_and_the_way_back_is_not() {
    for (tool, up, down) in [
        ("dbmate", "-- migrate:up", "-- migrate:down"),
        ("goose", "-- +goose Up", "--+goose down"),
        ("sql-migrate", "-- +migrate Up", "-- +migrate Down"),
        ("micrate", "-- +micrate Up", "-- +micrate Down"),
        ("node-pg-migrate", "-- Up Migration", "-- Down Migration"),
        ("rambler", "-- rambler up", "-- rambler down"),
        ("Play evolutions", "# --- !Ups", "# --- !Downs"),
        ("Play evolutions", "-- !Ups", "-- !Downs"),
        ("rockhopper", "-- +up", "-- +down"),
        ("rockhopper", "--- +Up", "--+DOWN"),
        ("shmig", "-- ==== UP ====", "-- ==== DOWN ===="),
        ("tern", "-- what it does", "---- create above / drop below ----"),
        ("tern", "-- what it does", "----create above / drop below----"),
        ("tern", "-- what it does", "---- create above/drop below ----"),
        ("tern", "-- what it does", "---- create above /drop below ----"),
        ("tern", "-- what it does", "---- Create above/ drop below"),
        ("MyBatis Migrations", "-- // what it does", "-- //@UNDO"),
    ] {
        for end in ["\n", "\r\n", "\r"] {
            let text = ["-- a head", up, "create table ü ();", down, "drop table 'ü \"$$ ;", ""].join(end);
            let expected = (vec!["create table ü ()".to_owned()], Some(tool), false);
            assert_eq!(run(&text).unwrap(), expected, "{text:?}");
            let part = up_part(&text).unwrap().text;
            assert_eq!(part.find("create"), text.find("create"));
        }
    }
    let (texts, tool, _) = run("-- +goose Up\nselect 1;\nselect 2;").unwrap();
    assert_eq!((texts.len(), tool), (2, Some("goose")));
    assert_eq!(run("create table a (); -- up\nselect 1 -- go down").unwrap().1, None);
}

#[test]
fn no_transaction_is_heeded_as_the_tool_means_it() {
    for text in [
        "-- migrate:up transaction:false\nselect 1",
        "-- +goose NO TRANSACTION\n-- +goose Up\nselect 1",
        "-- +migrate Up notransaction\nselect 1",
        "-- no-transaction\nselect 1",
        "---- tern: disable-tx ----\nselect 1",
        "-- atlas:txmode none\nselect 1",
        "--! no-transaction\nselect 1",
        "-- evolve-tx-off\nselect 1",
        "-- !txn\n-- +up\nselect 1",
        "-- transactional: false\nselect 1",
        "-- a head\n-- no-transaction\nselect 1",
        "-- +goose NO TRANSACTION\n-- +goose Up\nselect 1;\n-- +goose Down\nselect 2",
    ] {
        assert!(run(text).unwrap().2, "{text}");
    }
    for text in [
        "-- migrate:up transaction:true\nselect 1",
        "-- migrate:up\nselect 1\n-- migrate:down transaction:false\nselect 2",
        "select '\n-- no-transaction\n'",
        "--> statement-breakpoint\nselect 1",
        "-- +up\n-- +begin\nselect 1\n-- +end\n-- +down\nselect 2",
        "-- atlas:nolint\n-- atlas:txmode all\nselect 1",
        "-- +goose Up\n-- +goose StatementBegin\nselect 1\n-- +goose StatementEnd",
        "select 1; -- +migrate Up notransaction\nselect 2",
    ] {
        assert!(!run(text).unwrap().2, "{text}");
    }
}

/// Each directive that a file runs without a transaction shows its tool.
#[test]
fn no_transaction_shows_the_tool() {
    for (text, tool) in [
        ("-- +goose NO TRANSACTION", "goose"),
        ("-- no-transaction", "sqlx"),
        ("---- tern: disable-tx ----", "tern"),
        ("-- atlas:txmode none", "Atlas"),
        ("--! no-transaction", "graphile-migrate"),
        ("-- evolve-tx-off", "Evolve"),
        ("-- !txn", "rockhopper"),
        ("-- transactional: false", "yoyo"),
    ] {
        let text = format!("{text}\nselect 1");
        let cut = crate::sql::cut(&text).unwrap();
        assert_eq!(directives(&text, &cut.comments, &cut.statements).tool, Some(tool), "{text}");
    }
    let own = "-- cgk:no-transaction\nselect 1";
    let cut = crate::sql::cut(own).unwrap();
    assert_eq!(directives(own, &cut.comments, &cut.statements).tool, None);
}

#[test]
fn what_is_not_understood_is_refused_with_its_tool() {
    for (text, at, part) in [
        ("-- +goose Up\n-- +goose ENVSUB ON\nselect 1", 13, "directive of goose"),
        ("-- +goose Sideways\nselect 1", 0, "directive of goose"),
        ("-- +other Up\nselect 1", 0, "is a directive"),
        ("-- migrate:up lock:false\nselect 1", 0, "directive of dbmate"),
        ("-- migrate:down\nselect 1", 0, "no line begins the migration section"),
        ("select 0;\n-- +goose Up\nselect 1", 0, "before the line that begins the migration section of goose"),
        ("-- +goose Up\nselect 1;\n-- migrate:down\n", 23, "directive of dbmate in a file with directives of goose"),
        ("-- rambler up\nselect 1;\n-- rambler up\n", 24, "a second time"),
        ("-- rambler up\n-- rambler down\n-- rambler down\n", 30, "a second time"),
        ("-- liquibase formatted sql\n--changeset a:1\nselect 1", 0, "directive of Liquibase"),
        ("-- atlas:delimiter \\n\\n\nselect 1", 0, "directive of Atlas"),
        ("--!include x.sql\nselect 1", 0, "directive of graphile-migrate"),
        ("-- +up now\nselect 1", 0, "directive of rockhopper"),
        ("-- +migrate:down\nselect 1", 0, "is a directive"),
        ("-- +pgx\nselect 1", 0, "is a directive"),
        ("/* +pgx */ select 1", 0, "is a directive"),
        ("select 1; -- +goose NO TRANSACTION\nselect 2", 10, "write it in a line of its own"),
        ("/* no-transaction */ select 1", 0, "write it in a line of its own"),
        ("-- atlas:txtar\n-- checks.sql --\nselect 1", 0, "directive of Atlas"),
        ("--changeset a:1\nselect 1", 0, "directive of Liquibase"),
        ("-- +goose Up\ndo $$\n-- +goose Down\n$$", 16, "a dollar-quoted text starts here"),
    ] {
        let (place, problem) = run(text).unwrap_err();
        assert!(problem.contains(part) && place == at, "{text:?}: {place} {problem}");
    }
    for text in [
        "-- +1 day\nselect 1",
        "-- +---+\nselect 1",
        "-- + more\nselect 1",
        "select 1 -- +2",
        "/* +pgx\nmore */ select 1",
    ] {
        assert!(run(text).is_ok(), "{text:?}");
    }
}

/// Each is followed by a statement.
#[test]
fn the_heading_of_a_rollback_is_told_from_other_comments() {
    let refused = |comment: &str| {
        let (at, problem) = run(&format!("select 1;\n{comment}\ndrop table a")).err()?;
        assert!(problem.contains("looks like the heading of a rollback"), "{comment:?}: {problem}");
        assert_eq!(at, 10 + (comment.len() - comment.trim_start().len()), "{comment:?}");
        Some(())
    };
    for heading in [
        "-- DOWN",
        "  -- @undo",
        "-- step:rollback --",
        "/* down */",
        "/* migrate:down */",
        "/* Down Migration */",
        "/** DOWN **/",
        "/*\n * Down\n */",
        "-- up:end\n-- down:begin".split_once('\n').unwrap().1,
        "-- downgrade",
        "-- Downgrade script",
        "-- down below",
        "-- Rollback script:",
        "-- ROLLBACK SCRIPT (run if it fails)",
        "-- Rollback Script for Migration 008",
        "-- PART 5: Rollback Script",
        "-- To rollback:",
        "-- How to undo",
        "-- to roll back, run:",
        "-- Save this for emergency rollback:",
        "-- Revert x from pg",
        "-- Rollback",
        "-- Roll back",
        "-- undo everything",
        "-- revert 001",
        "-- rollback of the old design:",
        "-- [down]",
        "-- <down>",
        "-- == Down ==",
        "-- ### Down",
        "-- section: down",
        "-- name: down",
        "-- migrate down",
        "-- flyway:undo",
        "-- @rollbackQuery",
        "-- down.sql --",
        "-- 001_x.down.sql",
        "-- Down\n-- this takes it back",
        "-- direction=down",
        "-- Teardown",
        "--\tDowns",
        "-- Rollback:\n-- drop table b;",
        "-- revert migration",
        "-- (down)",
        "-- 2. Down",
        "/* Rollback:\n   as before */",
        "-- down it goes now",
        "-- undo orders table",
        "-- how to undo what somebody did last",
        "-- undo what somebody did last year:",
        "-- do this to undo:",
        "-- undo f(1);",
        "-- undoing",
        "-- reverse migration",
        "-- @orders down",
        "-- Schema Down",
        "-- schema rollback",
        "-- reverse",
        "-- == Backward ==",
        "-- backwards:",
        "-- Uninstall",
        "/* Rollback:\nx; */",
        "-- Rollback:\n-- later\n",
    ] {
        assert!(refused(heading).is_some(), "{heading:?}");
    }
    for comment in [
        "-- slow down",
        "-- down to one",
        "-- rollback of the old design",
        "-- revert the price change of release 12",
        "-- orders that went down",
        "-- down payment of an order",
        "-- downgrades of plans",
        "-- undo_log holds what users take back",
        "-- Rollback: drop table b;",
        "-- Rollback:\n-- drop table b;\n",
        "-- Rollback:\n--   alter table b\n--     drop column c;\n\n-- next",
        "/* Rollback:\n   drop table b;\n */",
        "-- Rollback:\n/* drop table b; */",
        "-- up",
        "-- backwards compatible",
        "-- reverse index for the search",
        "-- uninstall hooks of the old plugin",
        "-- schema of the orders",
        "-- breakdown:",
        "-- shut down: the queue",
        "-- slow down:",
        "-- they slow downs:",
        "-- nobody wants to undo",
        "-- no_rollback",
        "-- undo_log",
        "-- down here be dragons always",
        "-- to undo what somebody did last year",
        "-- undo what somebody did here last year:",
        "/* Rollback:\nf(1); */",
        "/* Rollback:\n  x; */",
        "-- Rollback:\n--  x;\n",
    ] {
        assert!(refused(comment).is_none(), "{comment:?}");
    }
    // In a statement or a function, or without a following statement.
    for text in [
        "do $$\nbegin\n-- rollback\nend $$",
        "create table a (\n-- down\nb int)",
        "select 1;\n-- Rollback:\n",
        "select 1;\n-- Rollback\n-- drop table a",
    ] {
        assert!(run(text).is_ok(), "{text:?}");
    }
    // The statement may begin where the comment ends.
    assert!(run("select 1;\n/* undo */drop table a").is_err());
    // After a statement on the same line, where no tool looks for it.
    assert!(run("create table g (a int); -- migrate:down\ndrop table a").is_err());
}

#[test]
fn an_unknown_directive_of_cgk_is_refused() {
    let refused = |text: &str| {
        let cut = crate::sql::cut(text).unwrap();
        directives(text, &cut.comments, &cut.statements).refused
    };
    for comment in [
        "-- cgk:no_transaction",
        "-- cgk:notransaction",
        "-- cgk: no-transaction",
        "-- CGK:no-transaction",
        "-- cgk :no-transaction",
        "-- cgk:no-transaction please",
        "-- cgk:No-Transaction",
        "-- cgk:acept drops-data it is empty",
        "-- cgk: accept drops-data it is empty",
        "-- cgk:accepted drops-data it is empty",
        "-- cgk:",
        "--cgk:whatever",
    ] {
        let found = refused(&format!("select 1;\n{comment}\nselect 2"));
        assert_eq!(found.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [10], "{comment}");
        assert!(found[0].1.contains("of cgk: only `-- cgk:no-transaction`"), "{found:?}");
    }
    for comment in [
        "-- cgk:no-transaction",
        "--  cgk:no-transaction  ",
        "-- cgk:accept drops-data it is empty",
        "-- cgk: these rows are read by the tool of that name",
        "-- see cgk:whatever",
        "-- cgkx:y",
        "-- cgk::provisioning reads this table",
        "/* cgk:whatever */",
    ] {
        assert_eq!(refused(&format!("select 1;\n{comment}\nselect 2")), [], "{comment}");
    }
}
