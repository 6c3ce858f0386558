//! Sets of files laid out as other tools lay theirs out, in `tests/corpus/read`: what cgk makes of each is what the server makes of
//! the statements of `expected.sql`, and what is refused is refused with its file and its tool.

use crate::sandbox::{Files, Raw, migrate_all, picture, tenants};
use cgk::testing::TestServer;
use std::{fs, path::Path};

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// What a schema holds, without its name, its ledger and what is granted.
async fn held(raw: &Raw, schema: &str) -> Vec<String> {
    let lines = picture(raw, schema).await.into_iter();
    let lines = lines.filter(|line| !line.contains("schema_migrations") && !line.starts_with("row "));
    let kept = lines.filter_map(|line| match line.split_once(' ') {
        Some(("schema" | "default", _)) => None,
        Some(("relation", rest)) => Some(rest.split(' ').take(2).collect::<Vec<_>>().join(" ")),
        _ => Some(line.replace(schema, "s")),
    });
    kept.collect()
}

#[tokio::test]
async fn every_layout_gives_what_its_statements_give() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/read");
    let mut layouts: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    layouts.sort();
    assert!(layouts.len() >= 20, "{layouts:?}");
    for layout in layouts {
        let name = layout.file_name().unwrap().to_str().unwrap();
        let database = TestServer::shared().set_up_database().await.unwrap();
        let raw = Raw::on(&database).await;
        let files = Files::of_tenants(&[]);
        copy(&layout, &files.path().join("tenant"));
        let expected = fs::read_to_string(files.path().join("tenant/expected.sql")).unwrap();
        let files = files.without("expected.sql");
        let migrations = files.try_load().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        tenants(&database, &migrations, &["acme"]).await;
        raw.run("create schema by_hand").await;
        raw.run(&format!("set local search_path to by_hand, public; {expected}")).await;
        let (ours, theirs) = (held(&raw, "tenant_acme").await, held(&raw, "by_hand").await);
        assert_eq!(ours, theirs, "{name}");
        assert!(ours.iter().any(|line| line.contains("invoices")), "{name}: {ours:?}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_its_file() {
    for (file, text, part) in [
        ("R__views.sql", "select 1", "Flyway"),
        ("V1_1__x.sql", "select 1", "Flyway"),
        ("0000_x.sql", "select 1", "drizzle"),
        ("001_x.sql", "create table a ();\n-- +goose Down\ndrop table a", "goose"),
        ("001_x.sql", "-- migrate:up\nselect 1;\n-- migrate:sideways", "dbmate"),
        ("001_x.sql", "--liquibase formatted sql\n--changeset a:1\nselect 1", "Liquibase"),
        ("001_x.sql", "\\restrict abc\nselect 1", "psql command"),
        ("001_x.sql", "copy t from stdin;\n1\tO'Brien\n\\.\n", "COPY"),
        ("001_x.sql", "insert into t values (:id)", "psql variable"),
        ("001_x.sql", "create table {{ .name }} ()", "template"),
        ("001_x.sql", "create table ${name} ()", "Flyway"),
        ("001_x.sql", "<<<<<<< HEAD\nselect 1;\n=======\nselect 2;\n>>>>>>> x\n", "conflict markers"),
        ("001_x.sql", "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n", "Git LFS"),
    ] {
        let files = Files::of_tenants(&[(file, text)]);
        let error = files.try_load().expect_err(file);
        let cgk::Error::Migration(cgk::MigrationError::Invalid { problems }) = &error else { panic!("{error:?}") };
        assert!(
            problems.iter().any(|problem| problem.file.ends_with(file) && problem.problem.contains(part)),
            "{file}: {problems:?}"
        );
    }
}

/// What ends the transaction of a file and begins another that may write, however it is written: refused by its text, or read by
/// the server as the data that it looks like. Nothing of it stays either way.
#[tokio::test]
async fn a_hidden_end_of_the_transaction_leaves_nothing() {
    const END: &str = "rollback; begin read write; create table guarded (); commit;";
    let hidden = [
        END.to_owned(),
        END.to_uppercase(),
        format!("-- a comment\r{END}"),
        format!("-- a comment\r\n{END}"),
        format!("/* /* */ */ {END} /* */"),
        format!("/* /* */ {END} */ select 1"),
        format!("select E'a'\n'b\\'; {END} select ''';"),
        format!("select E'a' -- x\n'b\\''; {END}"),
        format!("select '\\'; {END} select ''';"),
        format!("select '\\'''; {END} select '\\''';"),
        format!("select $x$; {END} $x$;"),
        format!("select $x$ $y$ $x$; {END} select $x$ $y$ $x$;"),
        format!("select $é$ $ $é$; {END}"),
        format!("select 1 as \"a\"\"b;\"; {END}"),
        format!("select U&'\\0061' uescape '!'; {END}"),
        format!("create function f() returns int begin atomic select 1 as case; end; {END}"),
        format!("select case when true then 1 end; {END}"),
        format!("select 1 $1; {END}"),
        format!("select 1;;; {END}"),
        format!("do $$ begin execute '{END}'; end $$"),
    ];
    for setting in ["database", "role"] {
        let database = TestServer::shared().set_up_database().await.unwrap();
        let raw = Raw::on(&database).await;
        let name = database.name();
        raw.run(&match setting {
            "database" => format!("alter database {name} set standard_conforming_strings = off"),
            _ => format!(
                "do $$ begin execute format('alter role %I in database {name} set standard_conforming_strings = off', current_user); end $$"
            ),
        })
        .await;
        // The controls: sessions read backslashes so, and the text does what it says where nobody looks at it.
        let other = Raw::on(&database).await;
        assert_eq!(other.one::<i32>(r"select length('\\')").await, 1, "{setting}");
        other.run("create schema by_hand; set search_path = by_hand").await;
        other.run(&format!("begin; {END}")).await;
        let guarded =
            "select count(*) from pg_class where relname = 'guarded' and relnamespace <> to_regnamespace('by_hand')";
        assert!(other.one::<bool>("select to_regclass('by_hand.guarded') is not null").await);

        let files = Files::of_tenants(&[("001_first.sql", "create table invoices (id int)")]);
        tenants(&database, &files.load(), &["acme"]).await;
        let operator = database.operator().await.unwrap();
        let (mut refused, mut failed, mut carried_out) = (0, 0, 0);
        for (number, text) in hidden.iter().enumerate() {
            for first in ["", "-- cgk:no-transaction\n"] {
                let file = format!("{:03}_x.sql", 100 + 2 * number + usize::from(!first.is_empty()));
                std::fs::write(files.path().join("tenant").join(&file), format!("{first}{text}")).unwrap();
                let is_whole = match files.try_load() {
                    Err(_) => {
                        refused += 1;
                        false
                    }
                    Ok(migrations) => match migrate_all(&operator, &migrations).await {
                        Ok(report) if report.failed() == 0 => {
                            carried_out += 1;
                            true
                        }
                        _ => {
                            failed += 1;
                            false
                        }
                    },
                };
                if !is_whole {
                    std::fs::remove_file(files.path().join("tenant").join(&file)).unwrap();
                }
                assert_eq!(raw.one::<i64>(guarded).await, 0, "{setting}: {first}{text}");
            }
        }
        assert!(
            refused >= 16 && carried_out >= 4,
            "{setting}: {refused} refused, {failed} failed, {carried_out} carried out"
        );
    }
}
