//! The guides say what the program does: their commands are run, and their output is compared.

use crate::support::cgk::Shell;
use cgk::testing::TestServer;
use regex::Regex;
use std::collections::BTreeSet;

const README: &str = include_str!("../../../README.md");
const GUIDE: &str = include_str!("../../../docs/setup/DATABASE.md");
const OPERATIONS: &str = concat!(
    include_str!("../../../docs/operations.md"),
    include_str!("../../../docs/operations/releases.md"),
    include_str!("../../../docs/operations/tenants.md"),
);
const REFERENCE: &str = include_str!("../../../docs/reference.md");
const FLEET: &str = include_str!("../../../docs/fleet.md");
const MIGRATIONS: &str = include_str!("../../../docs/migrations.md");
const LANGUAGES: &str = include_str!("../../../docs/other-languages.md");
const ENTER: &str = include_str!("../../../migrations/public/009_enter.sql");
const ERRORS: [&str; 10] = [
    include_str!("../../../src/error/mod.rs"),
    include_str!("../../../src/error/connection.rs"),
    include_str!("../../../src/error/exec.rs"),
    include_str!("../../../src/error/transfer.rs"),
    include_str!("../../../src/error/report.rs"),
    include_str!("../../../src/error/seed.rs"),
    include_str!("../../../src/error/setup.rs"),
    include_str!("../../../src/error/tenant.rs"),
    include_str!("../../../src/error/transaction.rs"),
    include_str!("../../../src/error/migration.rs"),
];

/// Lines that name a server of the guide's, and a version.
fn told_alike(shell: &Shell, text: &str) -> Vec<String> {
    let place = ["database_url", "  tls ", "connected to", "encryption:", "  ok  role "];
    shell
        .tame(text)
        .lines()
        .filter(|line| !place.iter().any(|word| line.contains(word)))
        // The length of a date or a time sets the width of its column.
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[tokio::test]
async fn the_commands_of_the_readme_answer_as_it_says() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let block = README.split("```console\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let mut commands = 0;
    for part in block.split("$ cgk ").skip(1) {
        let (line, told) = part.split_once('\n').unwrap();
        let answer = shell.run(&words(line));
        assert_eq!(answer.code, 0, "{line}: {}", answer.stderr);
        // Where the README is silent, so is this.
        if !told.is_empty() {
            assert_eq!(told_alike(&shell, &answer.stdout), told_alike(&shell, told), "cgk {line}");
        }
        commands += 1;
    }
    assert_eq!(commands, 6);
}

#[tokio::test]
async fn the_commands_of_the_guide_answer_as_it_says() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let marked = Regex::new(r"(?s)<!-- (output|file): ([^>]*?) -->\n```\w+\n(.*?)```").unwrap();
    let mut outputs = 0;
    let text = format!("{GUIDE}\n{OPERATIONS}");
    for found in marked.captures_iter(&text) {
        let (what, told) = (&found[2], &found[3]);
        if &found[1] == "file" {
            assert_eq!(shell.run(&["tenant:create", "globex"]).code, 0);
            assert_eq!(shell.run(&["migrate:new", "gift_cards", "--tenant"]).code, 0);
            shell.write(what, told);
            continue;
        }
        let answer = shell.run(&words(what));
        assert_eq!(answer.code, 0, "{what}: {}", answer.stderr);
        assert_eq!(told_alike(&shell, &answer.stdout), told_alike(&shell, told), "cgk {what}");
        outputs += 1;
    }
    assert_eq!(outputs, 6);
}

/// The README shortens the demo and changes nothing.
#[test]
fn the_demo_prints_what_the_readme_shows() {
    let shell = Shell::new();
    let printed = shell.tame(&shell.run(&["demo", "-q"]).stdout);
    let block = README.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for line in shell.tame(block).lines().filter(|line| line.trim() != "…") {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
}

#[test]
fn the_guide_lists_every_error_code_once() {
    let code = Regex::new(r"CGK\d{4}").unwrap();
    let table =
        REFERENCE.split("<!-- error-codes -->").nth(1).and_then(|rest| rest.split("<!-- /error-codes -->").next());
    let told: Vec<_> = table.unwrap().lines().filter_map(|line| code.find(line)).map(|found| found.as_str()).collect();
    let known: BTreeSet<_> = ERRORS.iter().flat_map(|text| code.find_iter(text)).map(|found| found.as_str()).collect();
    assert_eq!(told, known.into_iter().collect::<Vec<_>>());
}

#[test]
fn the_exit_codes_are_the_same_everywhere() {
    let table = Shell::new().run(&["exit-codes"]).stdout;
    for line in table.lines() {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        if code.len() == 1 {
            let row = format!("| {code} | {} |", meaning.replace("(--check)", "(`--check`)"));
            assert!(README.contains(&row), "{row}");
        }
        assert!(REFERENCE.contains(&format!("\n| {code}")) || REFERENCE.contains(&format!(", {code} |")), "{code}");
    }
}

/// Every flag that the page for operators names is one of `cgk migrate` or `tenant:create`.
#[test]
fn the_page_for_operators_names_no_flag_that_is_not_there() {
    let shell = Shell::new();
    let help: String = ["migrate", "tenant:create", "migrate:status", "drift"]
        .iter()
        .map(|name| shell.run(&["help", name]).stdout)
        .collect();
    let flag = Regex::new(r"--[a-z][a-z-]+").unwrap();
    let named: BTreeSet<_> = flag.find_iter(FLEET).map(|found| found.as_str()).collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        assert!(
            help.contains(&format!("{name} "))
                || help.contains(&format!("{name}\n"))
                || help.contains(&format!("{name}[")),
            "{name}"
        );
    }
}

/// What the page on other languages shows is the file that is tested, and it shows all of them.
#[test]
fn the_page_on_other_languages_shows_the_tested_files() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let shown = Regex::new(r"(?s)<!-- file: (\S+) -->\n```\w+\n(.*?)```\n").unwrap();
    let mut files = BTreeSet::new();
    for found in shown.captures_iter(LANGUAGES) {
        let text = std::fs::read_to_string(root.join(&found[1])).unwrap();
        assert_eq!(&found[2], text, "{}", &found[1]);
        files.insert(root.join(&found[1]));
    }
    let examples =
        ["python", "node/src", "go", "java", "ruby"].map(|folder| root.join("examples/clients").join(folder));
    let all: BTreeSet<_> = examples
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind != "txt"))
        .collect();
    assert!(all.len() >= 13 && all.is_subset(&files), "{all:?}");
}

/// Every code that the functions raise has its row, and no other has.
#[test]
fn the_page_on_other_languages_lists_every_code_once() {
    let code = Regex::new(r"TN\d{3}").unwrap();
    let table = LANGUAGES.split("<!-- codes -->").nth(1).and_then(|rest| rest.split("<!-- /codes -->").next()).unwrap();
    let listed: Vec<_> = table.lines().filter_map(|line| code.find(line)).map(|found| found.as_str()).collect();
    let raised = Regex::new(r"errcode = '(TN\d{3})'").unwrap();
    let raised: BTreeSet<_> = raised.captures_iter(ENTER).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(listed, raised.into_iter().collect::<Vec<_>>());
}

/// Every test that the table of faults names is there.
#[test]
fn no_fault_is_without_its_test() {
    let table = MIGRATIONS.split("<!-- faults -->").nth(1).and_then(|rest| rest.split("<!-- /faults -->").next());
    let name = Regex::new(r"`((?:[a-z_]+::)*[a-z_]+)::([a-z0-9_]+)`").unwrap();
    let rows: Vec<_> = table.unwrap().lines().filter(|line| line.contains("::")).collect();
    for (number, row) in (1..).zip(&rows) {
        assert!(row.starts_with(&format!("| {number} | ")), "{row}");
        for found in name.captures_iter(row) {
            let (module, test) = (found[1].replace("::", "/"), &found[2]);
            let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
            let files = [format!("{tests}/it/{module}.rs"), format!("{tests}/{module}/main.rs")];
            let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
            assert!(text.contains(&format!("fn {test}() {{")), "{module}::{test}");
        }
    }
    assert_eq!(rows.len(), 20);
}

/// The words of a line as a shell splits it.
fn words(line: &str) -> Vec<&str> {
    let word = Regex::new(r#""([^"]*)"|(\S+)"#).unwrap();
    word.captures_iter(line).map(|found| found.get(1).or(found.get(2)).unwrap().as_str()).collect()
}
