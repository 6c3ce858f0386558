//! `docs/migrations.md`: what its tables say of files of other tools, its examples of SQL, and its commands.

use crate::{
    sandbox::{Files, Raw, migrate_all, tenants},
    support::cgk::Shell,
};
use cgk::{
    migrate::{Migrations, Set},
    testing::TestServer,
};

const PAGE: &str = include_str!("../../../docs/migrations.md");

/// The cells of the table below a heading row.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let table = PAGE.split_once(heading).unwrap_or_else(|| panic!("no table {heading}")).1;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The pieces of a text that stand in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn of_each_tool_the_way_there_is_run_alone() {
    let tools = rows("| tool | up section | down section |");
    assert!(tools.len() >= 10, "{tools:?}");
    for row in &tools {
        let [tool, up, down] = row.as_slice() else { panic!("{row:?}") };
        let up = quoted(up).first().map_or_else(String::new, |up| format!("{up}\n"));
        let down = quoted(down)[0];
        let text = format!("{up}create table there ();\n{down}\ndrop table back;\n");
        let migrations = Migrations::bundled().with_file(Set::Tenant, "900_x.sql", text.clone());
        let migrations = migrations.unwrap_or_else(|error| panic!("{tool}: {error:?}"));
        let file = migrations.set(Set::Tenant).files().last().unwrap();
        assert_eq!(file.tool(), Some(tool.as_str()), "{text}");
        assert_eq!(file.statement_texts().collect::<Vec<_>>(), ["create table there ()"], "{text}");
    }
}

#[test]
fn the_directives_without_a_transaction_are_those_of_the_page() {
    let list = PAGE
        .split_once("that a file runs without a transaction: ")
        .unwrap()
        .1
        .split("`+goose StatementBegin`")
        .next()
        .unwrap();
    let directives = quoted(list);
    assert!(directives.len() >= 9, "{directives:?}");
    for directive in directives {
        let up = if directive.starts_with("-- +goose") { "-- +goose Up\n" } else { "" };
        let text = format!("{directive}\n{up}create table there ();\n");
        let migrations = Migrations::bundled().with_file(Set::Tenant, "900_x.sql", text.clone());
        let migrations = migrations.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert!(!migrations.set(Set::Tenant).files().last().unwrap().is_transactional(), "{text}");
    }
}

#[test]
fn the_names_of_the_page_are_read_or_refused_as_it_says() {
    for row in rows("| layout | |") {
        let [names, says] = row.as_slice() else { panic!("{row:?}") };
        let reads = |name: &str| {
            let files = Files::of_tenants(&[]);
            let path = files.path().join("tenant").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "select 1").unwrap();
            files
                .try_load()
                .map(|migrations| migrations.set(Set::Tenant).files().first().map(|file| file.id().version.get()))
        };
        for name in quoted(names) {
            let read = reads(name);
            if says.contains("which is refused") {
                assert!(read.is_err(), "{name}");
            } else {
                assert!(read.unwrap_or_else(|error| panic!("{name}: {error:?}")).is_some(), "{name}");
            }
        }
        let refused = says.split_once("are refused").map(|(before, _)| before.rsplit(';').next().unwrap());
        for name in refused.map(quoted).unwrap_or_default().into_iter().filter(|name| name.ends_with(".sql")) {
            // The sentence before names what is read.
            if !quoted(names).contains(&name) {
                assert!(reads(name).is_err(), "{name}");
            }
        }
    }
}

/// Each block of SQL, in a set with the bundled tables, as a file of its own.
#[tokio::test]
async fn the_examples_of_the_page_are_carried_out() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let files = Files::of_tenants(&[]);
    for file in Migrations::bundled().set(Set::Tenant).files() {
        files.tenant(file.path().file_name().unwrap().to_str().unwrap(), file.sql());
    }
    files.tenant("100_own.sql", "alter table orders add column legacy_ref text");
    let operator = tenants(&database, &files.load(), &["acme"]).await;
    let blocks = PAGE.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let mut count = 0;
    for (number, block) in blocks.filter(|block| block.lines().any(|line| !line.starts_with("--"))).enumerate() {
        files.tenant(&format!("{}_example.sql", 200 + number), block);
        let report = migrate_all(&operator, &files.load()).await.unwrap_or_else(|error| panic!("{block}: {error:?}"));
        assert_eq!((report.migrated(), report.failed()), (1, 0), "{block}: {report:?}");
        count += 1;
    }
    assert!(count >= 3, "{count}");
    let raw = Raw::on(&database).await;
    let left = "select exists (select from pg_attribute where attrelid = 'tenant_acme.orders'::regclass and attname = 'legacy_ref')";
    assert!(!raw.one::<bool>(left).await);
}

/// Each line of the blocks of commands, and the exit code that it has where a new file has a warning and no error.
#[cfg(unix)]
#[test]
fn the_commands_of_the_page_end_as_it_says() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let shell = Shell::new();
    shell.write_migrations();
    shell.write("migrations/tenant/008_vip.sql", "alter table orders drop column vip;\n");
    let steps = [
        ("cgk migrate:lint", 0),
        ("cgk migrate:lint migrations/tenant/008_vip.sql", 0),
        ("cgk migrate:lint --deny-warnings", 1),
        ("cgk migrate:lint --format github", 0),
        // xargs makes 123 of it.
        (CHECK_OF_NEW_FILES, 123),
    ];
    let blocks = PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let told: Vec<&str> = blocks.flat_map(str::lines).map(|line| line.split(" #").next().unwrap().trim()).collect();
    let [before @ .., "set -o pipefail", last] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!([before, &[*last]].concat(), steps.map(|(line, _)| line));
    // In place of git a program that names the new file.
    shell.write("bin/git", "#!/bin/sh\n[ \"$1 $4\" = 'diff origin/main' ] && echo migrations/tenant/008_vip.sql\n");
    let bin = shell.folder().join("bin");
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink(env!("CARGO_BIN_EXE_cgk"), bin.join("cgk")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let run = |line: &str| {
        let mut bash = std::process::Command::new("bash");
        let output =
            bash.args(["-c", line]).current_dir(shell.folder()).env_clear().env("PATH", &path).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), said)
    };
    for (line, code) in steps {
        let (found, said) = run(&format!("set -o pipefail\n{line}"));
        assert_eq!(found, Some(code), "{line}: {said}");
        assert!(said.contains("drops-data"), "{line}: {said}");
    }
    // A git that cannot compare, as in a checkout of depth 1. The control: without the first line nothing is checked.
    shell.write("bin/git", "#!/bin/sh\necho \"fatal: bad revision 'origin/main'\" >&2; exit 128\n");
    assert_eq!(run(&format!("set -o pipefail\n{CHECK_OF_NEW_FILES}")).0, Some(128));
    assert_eq!(run(CHECK_OF_NEW_FILES).0, Some(0));
}

const CHECK_OF_NEW_FILES: &str = "git diff --name-only --diff-filter=A origin/main -- 'migrations/*.sql' | xargs -r cgk migrate:lint --deny-warnings";

#[test]
fn a_folder_is_linted_by_its_file_and_the_tool_is_named() {
    let shell = Shell::new();
    shell.write_migrations();
    std::fs::create_dir_all(shell.folder().join("migrations/tenant/2024-01-01-000000_x")).unwrap();
    shell.write("migrations/tenant/2024-01-01-000000_x/up.sql", "create table x (id int);\ndrop table orders;\n");
    shell.write(
        "migrations/tenant/010_goose.sql",
        "-- +goose Up\ncreate table g (id int);\n-- +goose Down\ndrop table g;\n",
    );
    shell.write("migrations/tenant/011_sqlx.sql", "-- no-transaction\nvacuum orders;\n");
    shell.write("migrations/tenant/012_up.sql", "-- +goose Up\ncreate table up_only (id int);\n");
    let answer = shell.run(&["migrate:lint", "migrations/tenant/2024-01-01-000000_x/up.sql"]);
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    assert!(answer.stdout.contains("up.sql:2: warning drops-data"), "{}", answer.stdout);
    let answer = shell.run(&["migrate:lint", "-v"]);
    assert!(
        answer.stdout.contains("010_goose.sql: written for goose; its down section is ignored\n"),
        "{}",
        answer.stdout
    );
    assert!(answer.stdout.contains("011_sqlx.sql: written for sqlx\n"), "{}", answer.stdout);
    assert!(answer.stdout.contains("012_up.sql: written for goose\n"), "{}", answer.stdout);
    assert!(!answer.stdout.contains("up.sql: written for diesel"), "{}", answer.stdout);
    let answer = shell.run(&["migrate:lint", "--json", "migrations/tenant/010_goose.sql"]);
    assert!(answer.stdout.contains(r#""tool":"goose""#), "{}", answer.stdout);
    let answer = shell.run(&["migrate:lint", "migrations/other/deep/x/up.sql"]);
    assert_ne!(answer.code, 0);
}
