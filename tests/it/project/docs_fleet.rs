//! `docs/fleet.md`: its commands are run, each flag of its table is taken, and each exit code of its table is met.

use crate::{
    sandbox::Raw,
    support::cgk::{Answer, Shell},
};
use cgk::{ident::SchemaName, testing::TestServer};
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../docs/fleet.md");

/// The first cells of the table below a heading row.
fn first_cells(heading: &str) -> Vec<&'static str> {
    let table = PAGE.split_once(heading).unwrap_or_else(|| panic!("no table {heading}")).1;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_start_matches('|').split(" | ").next().unwrap().trim()).collect()
}

/// The commands of the page: those in blocks, and those in backquotes, in their order.
fn commands() -> Vec<String> {
    let (mut found, mut blocks) = (Vec::new(), PAGE.split("```"));
    while let (Some(prose), block) = (blocks.next(), blocks.next()) {
        let inline = prose.replace('\n', " ");
        let inline = inline.split('`').skip(1).step_by(2).filter(|code| code.starts_with("cgk ")).map(squeezed);
        found.extend(inline.collect::<Vec<_>>());
        let lines = block.unwrap_or_default().lines().map(str::trim).filter(|line| line.starts_with("cgk "));
        found.extend(lines.map(squeezed));
    }
    found
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The bundled files in a folder of one's own, for tests to add to.
fn own_files(shell: &Shell) {
    assert_eq!(shell.run(&["migrate:new", "next"]).code, 0);
    std::fs::remove_file(shell.folder().join("migrations/tenant/008_next.sql")).unwrap();
}

fn run(shell: &Shell, command: &str) -> Answer {
    shell.run(&command.split(' ').skip(1).collect::<Vec<_>>())
}

#[tokio::test]
async fn the_commands_of_the_page_do_what_it_says() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    own_files(&shell);
    shell.write("tenants.txt", "acme\nglobex, Globex Inc.\ninitech\tInitech\nhooli Hooli\n");
    // In the order in which the page has them; a command that is new there has no place here yet.
    let steps: &[(&str, i32, &str)] = &[
        ("cgk tenant:create --from tenants.txt --jobs 4", 0, ""),
        ("cgk tenant:create --from tenants.txt --jobs 4", 0, "a second time, there is nothing to do"),
        ("cgk migrate", 0, "nothing is pending"),
        ("cgk migrate --check", 3, "a file is pending"),
        ("cgk migrate --plan -v", 0, ""),
        ("cgk migrate --plan-out plan.json", 0, ""),
        ("cgk migrate --apply plan.json --canary 5 --max-failures 20", 0, ""),
        ("cgk migrate:status --check", 0, ""),
        ("cgk migrate:status", 0, ""),
        ("cgk migrate:status --watch", 0, "with --check"),
        ("cgk migrate:history", 0, ""),
        ("cgk migrate:history <RUN>", 0, ""),
        ("cgk migrate --retry-failed", 0, "nobody failed"),
        ("cgk drift", 0, ""),
        ("cgk drift --json", 0, ""),
        ("cgk drift --sql", 0, "nothing to bring back"),
        ("cgk setup:database", 0, "nothing to do"),
    ];
    let told: BTreeSet<String> = commands().into_iter().collect();
    let ran: BTreeSet<String> = steps.iter().map(|(command, ..)| (*command).to_owned()).collect();
    assert_eq!(told, ran);
    for (command, code, why) in steps {
        if *command == "cgk migrate --check" {
            shell.write("migrations/tenant/008_notes.sql", "create table notes (id bigint);\n");
        }
        let mut line = (*command).to_owned();
        if command.contains("<RUN>") {
            let runs = run(&shell, "cgk migrate:history --json").stdout;
            let runs: serde_json::Value = serde_json::from_str(runs.lines().next().unwrap()).unwrap();
            line = line.replace("<RUN>", runs["runs"][0]["run"].as_str().unwrap());
        }
        if command.ends_with("--watch") {
            line.push_str(" --check");
        }
        let answer = run(&shell, &line);
        assert_eq!(answer.code, *code, "{line} ({why}): {}{}", answer.stdout, answer.stderr);
    }
    let raw = Raw::on(&database).await;
    assert_eq!(raw.one::<i64>("select count(*) from pg_class where relname = 'notes'").await, 4);
}

#[tokio::test]
async fn the_flags_of_the_page_are_taken() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    own_files(&shell);
    shell.write("fleet.txt", "acme\n");
    assert_eq!(shell.run(&["tenant:create", "acme", "globex"]).code, 0);
    let mut count = 0;
    for cell in first_cells("| flag | |") {
        for flag in cell.split('`').skip(1).step_by(2) {
            let flag = flag.replace("SLUG…", "acme globex").replace("FILE", "fleet.txt").replace(" N", " 2");
            let answer = run(&shell, &format!("cgk migrate {flag}"));
            assert_eq!(answer.code, 0, "{flag}: {}{}", answer.stdout, answer.stderr);
            count += 1;
        }
    }
    assert!(count >= 11, "{count}");
}

/// The exit codes of drift, and that the ledgers which the page names are known, and no others are.
#[tokio::test]
async fn drift_ends_as_the_page_says() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    assert_eq!(shell.run(&["tenant:create", "acme"]).code, 0);
    let raw = Raw::on(&database).await;
    let mut met = Vec::new();
    let mut meets = |code: &'static str, answer: Answer| {
        assert_eq!(answer.code.to_string(), code, "{}{}", answer.stdout, answer.stderr);
        met.push(code);
    };
    meets("0", shell.run(&["drift"]));
    meets("5", shell.run(&["drift", "--database-url", "postgresql://nobody@127.0.0.1:1/none"]));
    raw.run("create table tenant_acme.plain (id int)").await;
    meets("7", shell.run(&["drift"]));
    raw.run("drop table tenant_acme.plain; delete from cgk_references where set_name = 'tenant'").await;
    meets("8", shell.run(&["drift"]));
    assert_eq!(shell.run(&["migrate"]).code, 0);
    assert_eq!(shell.run(&["drift"]).code, 0, "after what the row says");
    assert_eq!(first_cells("| exit code | what it says | what to do |"), met);

    let list =
        PAGE.split_once("The ledgers that are known:").unwrap().1.split_once(" A `schema_migrations`").unwrap().0;
    let names: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    for name in &names {
        raw.run(&format!("create table tenant_acme.\"{name}\" ({})", COLUMNS.join(" int, ") + " int")).await;
    }
    let answer = shell.run(&["drift", "--json"]);
    assert_eq!((answer.code, answer.stdout.matches("is the ledger of").count()), (0, names.len()), "{}", answer.stdout);

    // The block of the configuration is taken, and its rules are about nothing here.
    let rule = PAGE.split_once("```toml\n").unwrap().1.split("```").next().unwrap();
    shell.write("cgk.toml", rule);
    let answer = shell.run(&["drift"]);
    assert_eq!(answer.code, 0, "{}{}", answer.stdout, answer.stderr);
    assert!(
        answer.stderr.contains("no difference matches object = \"events_2*\", kind = \"table\""),
        "{}",
        answer.stderr
    );
}

/// Every column by which a ledger of the page is known.
const COLUMNS: &[&str] = &[
    "id",
    "checksum",
    "migration_name",
    "started_at",
    "version",
    "run_on",
    "installed_rank",
    "script",
    "success",
    "version_id",
    "is_applied",
    "description",
    "hash",
    "created_at",
    "key",
    "value",
    "app",
    "name",
    "applied",
    "batch",
    "migration_time",
    "is_locked",
    "version_num",
    "author",
    "filename",
    "locked",
    "applied_on",
    "applied_at",
    "timestamp",
];

/// Each row of the table, with what its second cell says first.
#[tokio::test]
async fn the_exit_codes_of_the_page_are_met() {
    let database = TestServer::shared().set_up_database().await.unwrap();
    let shell = Shell::on(&database);
    own_files(&shell);
    assert_eq!(shell.run(&["tenant:create", "acme", "globex"]).code, 0);
    let raw = Raw::on(&database).await;
    let mut met = vec!["130, 143"];
    let mut meets = |code: &'static str, answer: Answer| {
        assert_eq!(answer.code.to_string(), code, "{}{}", answer.stdout, answer.stderr);
        met.push(code);
    };
    meets("0", shell.run(&["migrate"]));
    meets("2", shell.run(&["migrate", "--jobs", "none"]));
    shell.write("migrations/tenant/008_strict.sql", "alter table customers add column vat text not null;\n");
    meets("3", shell.run(&["migrate", "--check"]));
    raw.run("insert into tenant_acme.customers (first_name, email) values ('x', 'x@example.com')").await;
    meets("4", shell.run(&["migrate"]));
    assert_eq!(raw.one::<i64>("select max(version) from tenant_globex.schema_migrations").await, 8);
    meets("5", shell.run(&["migrate", "--database-url", "postgresql://nobody@127.0.0.1:1/none"]));
    shell.write("migrations/public/900_bad.sql", "select 1 / 0;\n");
    meets("1", shell.run(&["migrate"]));
    let holder = Raw::on(&database).await;
    let key = cgk::lock::migration_key(&SchemaName::public());
    holder.run(&format!("select pg_advisory_lock({key})")).await;
    let impatient = shell.command(&["migrate"]).env("CGK_MIGRATION_WAIT", "100ms").output().unwrap();
    meets("6", Answer::of(impatient));
    holder.run("select pg_advisory_unlock_all()").await;
    std::fs::remove_file(shell.folder().join("migrations/tenant/008_strict.sql")).unwrap();
    meets("7", shell.run(&["migrate"]));
    // Stopped by a signal: `cli_fleet::the_first_signal_stops_and_the_second_cancels`.
    met.sort_unstable();
    let mut told = first_cells("| exit code | what it says of the fleet | what to do |");
    told.sort_unstable();
    assert_eq!(told, met);
}
