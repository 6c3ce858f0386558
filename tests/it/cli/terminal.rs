//! What a terminal shows, at several widths.

use crate::support::{
    cgk::{Shell, sql},
    terminal::{Left, Terminal},
};
use cgk::testing::{TestDatabase, TestServer};
use std::process::Command;

const WIDTHS: [u16; 5] = [60, 80, 82, 120, 200];
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Three tenants, and a pending file that takes longer in the first than a run without a bar, and in the second until the
/// row of `gate` is gone.
async fn held_up(database: &TestDatabase, shell: &Shell, version: usize) {
    let text = format!(
        "create table late_{version} (id int);
do $$ begin
    perform pg_catalog.pg_sleep(0.3) where current_schema() = 'tenant_acme';
    while current_schema() = 'tenant_globex' and exists (select from gate) loop perform pg_catalog.pg_sleep(0.01); end loop;
end $$;
"
    );
    shell.write(&format!("migrations/tenant/{version:03}_late_{version}.sql"), &text);
    sql(database, "insert into gate values (1)").await;
}

async fn fleet() -> (TestDatabase, Shell) {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database).set("TERM", "xterm-256color");
    shell.write_migrations();
    shell.run(&["migrate"]);
    sql(&database, "create table gate (id int)").await;
    for slug in TENANTS {
        assert_eq!(shell.run(&["tenant:create", slug]).code, 0);
    }
    (database, shell)
}

/// Runs the pending file, and looks at the screen while the second tenant is held up and afterwards.
async fn watched(database: &TestDatabase, command: Command, columns: u16) -> (String, Left) {
    let terminal = Terminal::start(command, columns);
    let during = terminal.until("the progress", |screen| screen.contains("1 of 3"));
    sql(database, "delete from gate").await;
    (during, terminal.end())
}

#[tokio::test]
async fn progress_leaves_no_rest_at_any_width() {
    let (database, shell) = fleet().await;
    let mut longest = 0;
    for (index, columns) in WIDTHS.into_iter().enumerate() {
        held_up(&database, &shell, index + 3).await;
        let command = shell.command(&["migrate", "--no-rehearsal", "--jobs", "1"]);
        let (during, left) = watched(&database, command, columns).await;
        assert_eq!(left.code, 0, "{columns}: {}", left.screen);
        // On one line, whatever is cut.
        let lines: Vec<&str> = during.lines().filter(|line| line.contains("1 of 3")).collect();
        assert_eq!(lines.len(), 1, "{columns}: {during}");
        assert!(lines[0].starts_with("migrating"), "{columns}: {during}");
        assert_eq!(lines[0].contains('━'), columns >= 80, "{columns}: {during}");
        longest = longest.max(lines[0].chars().count());
        assert!(!left.screen.contains(" of 3") && !left.screen.contains('━'), "{columns}: {}", left.screen);
        assert!(left.screen.contains("3 tenants"), "{columns}: {}", left.screen);
        assert!(!left.cursor_is_hidden, "{columns}");
    }
    assert!(longest > 60, "no bar was as wide as the narrowest terminal");
}

#[tokio::test]
async fn without_colours_nothing_is_coloured_and_a_dumb_terminal_gets_lines() {
    let (database, shell) = fleet().await;
    let is_coloured = |left: &Left| left.written.contains("\u{1b}[3") || left.written.contains("\u{1b}[1m");
    held_up(&database, &shell, 3).await;
    let arguments = ["migrate", "--no-rehearsal", "--jobs", "1"];
    let (_, left) = watched(&database, shell.command(&arguments), 100).await;
    assert!(is_coloured(&left), "the control is coloured: {:?}", left.written);

    held_up(&database, &shell, 4).await;
    let mut command = shell.command(&arguments);
    command.env("NO_COLOR", "1");
    let (during, left) = watched(&database, command, 100).await;
    assert!(!is_coloured(&left), "{:?}", left.written);
    assert!(during.contains('━'), "a bar needs no colour: {during}");

    // It cannot move the cursor: what is written once stays.
    held_up(&database, &shell, 5).await;
    sql(&database, "delete from gate").await;
    let mut command = shell.command(&arguments);
    command.env("TERM", "dumb");
    let left = Terminal::start(command, 100).end();
    assert_eq!(left.code, 0, "{}", left.screen);
    assert!(!left.written.contains('\u{1b}'), "{:?}", left.written);
}

/// The lines of a finding are broken between words and stand below each other; in a pipe each is one line. What corrects it is
/// always one line, for it is copied.
#[tokio::test]
async fn a_finding_is_broken_between_words() {
    let (_database, shell) = fleet().await;
    let piped = shell.run(&["doctor", "-q"]).stdout;
    for columns in [80, 120] {
        let left = Terminal::start(shell.command(&["doctor", "-q"]), columns).end();
        let lines: Vec<&str> = left.written.lines().map(|line| line.trim_end_matches('\r')).collect();
        let plain: Vec<String> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        let mut broken = 0;
        for line in plain.iter().filter(|line| !line.starts_with("           fix: ")) {
            let longest_word = line.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
            assert!(line.chars().count() <= columns.into() || longest_word + 38 > columns.into(), "{columns}: {line}");
            broken += usize::from(line.starts_with(&" ".repeat(38)));
        }
        assert!(broken > 0 || columns == 120, "no finding is longer than {columns} columns: {plain:#?}");
        // The number of connections that are free depends on the other tests.
        let is_stable = |word: &&str| !word.bytes().all(|byte| byte.is_ascii_digit());
        let words = |text: &str| text.split_whitespace().filter(is_stable).map(ToOwned::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&plain.join("\n")), words(&piped), "the words are the same");
    }
    assert!(piped.lines().any(|line| line.chars().count() > 80));
}

#[tokio::test]
async fn a_watched_status_is_repainted() {
    let (database, shell) = fleet().await;
    for columns in WIDTHS {
        sql(&database, "update organizations set status = 'active' where slug = 'acme'").await;
        let terminal = Terminal::start(shell.command(&["migrate:status", "--watch=1", "--all"]), columns);
        let first = terminal.until("the status", |screen| screen.contains("initech"));
        assert_eq!(first.matches("globex").count(), 1, "{columns}: {first}");
        sql(&database, "update organizations set status = 'suspended' where slug = 'acme'").await;
        let second = terminal.until("the new status", |screen| screen.contains("suspended"));
        assert_eq!(second.matches("globex").count(), 1, "{columns}: {second}");
        assert!(Command::new("kill").args(["-INT", &terminal.id().to_string()]).status().unwrap().success());
        let left = terminal.end();
        assert!(!left.cursor_is_hidden, "{columns}");
        // It is how a watch ends.
        assert_eq!(left.code, 0, "{columns}: {}", left.screen);
    }
}

/// A tenant that takes long is shown although nothing else happens, and what it waits for is named, also with one tenant.
#[tokio::test]
async fn a_wait_is_shown_while_nothing_else_happens() {
    let (database, shell) = fleet().await;
    sql(&database, "insert into gate values (1)").await;
    let gate =
        "do $$ begin while exists (select from gate) loop perform pg_catalog.pg_sleep(0.01); end loop; end $$;\n";
    shell.write("migrations/tenant/003_slow.sql", gate);
    let terminal = Terminal::start(shell.command(&["migrate", "--no-rehearsal", "--jobs", "1"]), 100);
    let during = terminal.until("the first tenant", |screen| screen.contains("0 of 3"));
    assert!(during.contains("in progress: acme"), "{during}");
    assert_eq!(during.matches("migrating").count(), 1, "{during}");
    assert!(Command::new("kill").args(["-INT", &terminal.id().to_string()]).status().unwrap().success());
    terminal.until("the end", |screen| screen.contains("stopping: "));
    sql(&database, "delete from gate").await;
    let left = terminal.end();
    // The line begins at the first column, over the ^C of a terminal.
    assert!(left.written.contains("\rstopping: "), "{:?}", left.written);
    assert!(left.screen.contains("1 tenant migrated, 2 tenants not migrated"), "{}", left.screen);

    let raw = crate::sandbox::Raw::on(&database).await;
    let pid: i32 = raw.one("select pg_backend_pid()").await;
    shell.write(
        "migrations/tenant/004_index.sql",
        "-- cgk:no-transaction\ncreate index concurrently late on orders (id);\n",
    );
    assert_eq!(shell.run(&["migrate", "--target", "3"]).code, 0);
    for (columns, slug) in [(60, "acme"), (120, "globex")] {
        raw.run("begin isolation level repeatable read; select 1").await;
        let command = shell.command(&["migrate", "--no-rehearsal", "--tenant", slug]);
        let terminal = Terminal::start(command, columns);
        let named = format!("tenant_{slug} waits for process {pid} of ");
        let words = |screen: &str| screen.split_whitespace().collect::<Vec<_>>().join(" ");
        let during = terminal.until("the wait", |screen| words(screen).contains(&named));
        assert!(
            words(&during).contains(&format!("select pg_catalog.pg_terminate_backend({pid}) ends its session.")),
            "{during}"
        );
        raw.run("rollback").await;
        let left = terminal.end();
        assert_eq!(left.code, 0, "{columns}: {}", left.screen);
        assert_eq!(words(&left.screen).matches(&named).count(), 1, "{columns}: {}", left.screen);
    }
}
