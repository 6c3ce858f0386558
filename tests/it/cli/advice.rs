//! What the program says where an operator would otherwise be misled: counts, next steps, and refusals.

use crate::support::cgk::{Answer, Shell, sql};
use cgk::testing::{TestDatabase, TestServer};

/// A database with its own small sets, and these tenants.
async fn fleet(slugs: &[&str]) -> (TestDatabase, Shell) {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    shell.write_migrations();
    done(&shell, "setup:database -q");
    done(&shell, &format!("tenant:create -q {}", slugs.join(" ")));
    (database, shell)
}

fn run(shell: &Shell, line: &str) -> Answer {
    shell.run(&line.split(' ').collect::<Vec<_>>())
}

fn done(shell: &Shell, line: &str) -> Answer {
    let answer = run(shell, line);
    assert_eq!(answer.code, 0, "{line}: {}{}", answer.stdout, answer.stderr);
    answer
}

#[tokio::test]
async fn a_target_is_not_the_head() {
    let (_database, shell) = fleet(&["acme", "globex"]).await;
    assert_eq!(done(&shell, "migrate").stdout, "Nothing to do; 2 tenants at head.\n");
    shell.write("migrations/tenant/003_late.sql", "create table late (id bigint);\n");
    let at_target = "2 tenants at 002 or later.\n";
    assert_eq!(done(&shell, "migrate --target 2").stdout, format!("Nothing to do; {at_target}"));
    assert_eq!(done(&shell, "migrate --target 2 --plan").stdout, format!("Nothing is pending; {at_target}"));
    done(&shell, "migrate --tenant acme");
    shell.write("migrations/tenant/004_later.sql", "create table later (id bigint);\n");
    let answer = done(&shell, "migrate --target 3");
    assert!(answer.stdout.contains("1 tenant migrated, 1 already at 003 or later"), "{}", answer.stdout);
}

/// A run that stops half way needs a new plan, and says so.
#[tokio::test]
async fn a_stopped_run_of_a_saved_plan_does_not_advise_to_run_without_it() {
    let (database, shell) = fleet(&["acme", "globex"]).await;
    sql(&database, "insert into tenant_acme.items values (1)").await;
    shell.write("migrations/tenant/003_strict.sql", "alter table items add column vat text not null;\n");
    done(&shell, "migrate --plan-out plan.json");
    let saved = run(&shell, "migrate --apply plan.json --canary acme");
    assert_eq!(saved.code, 4, "{}{}", saved.stdout, saved.stderr);
    assert!(saved.stdout.contains("1 tenant failed, 1 tenant not migrated"), "{}", saved.stdout);
    assert!(saved.stderr.contains("make one of the rest with cgk migrate --plan-out FILE"), "{}", saved.stderr);
    assert!(!saved.stderr.contains("cgk migrate again"), "{}", saved.stderr);
    // The control: without a plan it is to be run again.
    let again = run(&shell, "migrate --canary acme");
    assert!(again.stderr.contains("Then run cgk migrate again."), "{}", again.stderr);
}

/// A version that has no file is the same mistake in each command.
#[tokio::test]
async fn a_version_without_a_file_ends_each_command_in_the_same_way() {
    let (database, shell) = fleet(&["acme"]).await;
    sql(&database, "create schema tenant_adopted").await;
    for line in
        ["migrate --target 99", "migrate:repair --version 99 --all --reason x", "migrate:baseline adopted --version 99"]
    {
        let answer = run(&shell, line);
        assert_eq!(answer.code, 2, "{line}: {}", answer.stderr);
        assert!(answer.stderr.contains("error[CGK0611]"), "{line}: {}", answer.stderr);
    }
}

/// A run that was killed is no run that somebody interrupted.
#[tokio::test]
async fn a_killed_run_is_called_killed() {
    let (database, shell) = fleet(&["acme"]).await;
    shell.write("migrations/tenant/003_late.sql", "create table late (id bigint);\n");
    done(&shell, "migrate");
    let run = "insert into cgk_runs (id, cgk_version, selection, target, planned, at_head, finished_at, stopped, tenants_left, backend_pid, backend_start)
               values (gen_random_uuid(), '0', 'everything', 'head', 1, 0";
    sql(&database, &format!("{run}, null, null, 0, 1, now())")).await;
    let results = || {
        let text = done(&shell, "migrate:history").stdout;
        let of = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        (of("killed"), of("interrupted"))
    };
    assert_eq!(results(), (1, 0));
    sql(&database, &format!("{run}, now(), 'interrupted', 1, 1, now())")).await;
    assert_eq!(results(), (1, 1));
}

/// The paths of messages are relative to the working directory, also of those that the history has stored.
#[tokio::test]
async fn paths_are_relative_to_the_working_directory() {
    let (database, shell) = fleet(&["acme"]).await;
    sql(&database, "insert into tenant_acme.items values (1)").await;
    shell.write("migrations/tenant/003_strict.sql", "alter table items add column vat text not null;\n");
    let failed = run(&shell, "migrate --json");
    assert_eq!(failed.code, 4, "{}", failed.stdout);
    let summary: serde_json::Value = serde_json::from_str(failed.stdout.lines().last().unwrap()).unwrap();
    let detail = done(&shell, &format!("migrate:history {}", summary["run"].as_str().unwrap())).stdout;
    assert!(detail.contains("migrations/tenant/003_strict.sql"), "{detail}");
    let folder = std::fs::canonicalize(shell.folder()).unwrap();
    assert!(!detail.contains(folder.to_str().unwrap()), "{detail}");
    // The control: it is stored as a path of this machine.
    let raw = crate::sandbox::Raw::on(&database).await;
    let stored: String = raw.one("select message from cgk_run_schemas where result = 'failed'").await;
    assert!(stored.contains(&format!("{}/migrations", folder.display())), "{stored}");
}

/// A set that cannot be rehearsed is never recorded, so the advice names the warning of the run.
#[tokio::test]
async fn drift_says_why_a_run_may_not_record_what_it_lacks() {
    let (database, shell) = fleet(&["acme"]).await;
    sql(&database, "create table public.marks (n int)").await;
    shell.write(
        "migrations/tenant/003_a.sql",
        "create table a (at timestamptz primary key);\ninsert into public.marks values (1);\n",
    );
    for version in [4, 5] {
        shell.write(&format!("migrations/tenant/00{version}_b.sql"), "insert into a values (now());\n");
    }
    let unless = "If it warns that they were not rehearsed, they cannot be recorded";
    let migrated = done(&shell, "migrate");
    assert!(migrated.stderr.contains("warning: the migrations were not rehearsed"), "{}", migrated.stderr);
    let drift = run(&shell, "tenant:verify acme");
    assert_eq!(drift.code, 8, "{}{}", drift.stdout, drift.stderr);
    assert!(drift.stdout.contains("not compared") && drift.stderr.contains(unless), "{}{}", drift.stdout, drift.stderr);
    // A second run says it again, and changes nothing.
    let again = done(&shell, "migrate");
    assert!(again.stderr.contains("warning: the migrations were not rehearsed"), "{}", again.stderr);
    assert_eq!(run(&shell, "tenant:verify acme").code, 8);
}

/// Rules stand in one list. What is wrong with one is shown as it is written.
#[tokio::test]
async fn a_rule_that_matches_nothing_is_shown_whole() {
    let (database, shell) = fleet(&["acme"]).await;
    sql(&database, "create table tenant_acme.report_1 (); create table tenant_acme.old_1 ()").await;
    let file =
        |rules: &str| shell.write("cgk.toml", &format!("migrations = \"migrations\"\n\n[drift]\nignore = [{rules}]\n"));
    let page = include_str!("../../../docs/fleet.md");
    let (_, rest) = page.split_once("[drift]\nignore = [").unwrap();
    let rules = rest.split_once("\n]").unwrap().0;
    assert_eq!(rules.matches("reason").count(), 2, "{rules}");
    file(&rules.replace("events_2*", "report_*"));
    let drift = done(&shell, "drift");
    assert!(!drift.stderr.contains("warning"), "{}", drift.stderr);
    assert_eq!(drift.stdout.matches("ignored: table").count(), 2, "{}", drift.stdout);
    file("{ object = \"report_*\", kind = \"tabel\", reason = \"x\" }");
    let drift = run(&shell, "drift");
    assert_eq!(drift.code, 7);
    assert!(
        drift
            .stderr
            .contains("no difference matches object = \"report_*\", kind = \"tabel\": correct the rule, or remove it"),
        "{}",
        drift.stderr
    );
    file("\"report_*\"");
    let refused = run(&shell, "drift");
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("expected a rule in braces, with object and reason"), "{}", refused.stderr);
}

/// A statement that is printed below a difference, and that drops rows, says so.
#[tokio::test]
async fn a_fix_that_loses_data_says_so() {
    let (database, shell) = fleet(&["acme"]).await;
    sql(&database, "create table tenant_acme.goose_db_version (x int)").await;
    let drift = run(&shell, "tenant:verify acme").stdout;
    assert!(drift.contains("fix: drop table \"tenant_acme\".\"goose_db_version\"; -- loses data\n"), "{drift}");
    // The control: it is the flag of the same statement in the JSON.
    let drift = run(&shell, "tenant:verify acme --json").stdout;
    assert!(drift.contains("goose_db_version\\\"\",\"loses_data\":true"), "{drift}");
}

/// In a folder of a project, no second project is begun.
#[test]
fn a_new_migration_is_not_written_into_a_folder_of_the_project() {
    let shell = Shell::new();
    shell.write_migrations();
    let folder = shell.folder().join("migrations/tenant");
    let start = || shell.command(&["migrate:new", "late"]).current_dir(&folder).output().unwrap();
    let answer = Answer::of(start());
    assert_eq!(answer.code, 2, "{}{}", answer.stdout, answer.stderr);
    assert!(answer.stderr.contains("the project is above this folder: "), "{}", answer.stderr);
    assert!(!folder.join("migrations").exists() && !folder.join("cgk.toml").exists());
    // The control: in the project's folder it is written, and so it is below if that is a project of its own.
    assert_eq!(run(&shell, "migrate:new late").stdout.trim(), "migrations/tenant/003_late.sql");
    shell.write("migrations/tenant/cgk.toml", "");
    assert_eq!(Answer::of(start()).code, 0);
}

/// A fleet that does not fit on a screen is shown without the tenants that have no differences.
#[tokio::test]
async fn the_tenants_without_differences_of_a_fleet_are_counted() {
    let slugs: Vec<String> = (0..21).map(|number| format!("t{number:02}")).collect();
    let (database, shell) = fleet(&slugs.iter().map(String::as_str).collect::<Vec<_>>()).await;
    sql(&database, "create table tenant_t07.scratch ()").await;
    let lines = |line: &str| run(&shell, line).stdout.lines().map(ToOwned::to_owned).collect::<Vec<_>>();
    let shown = lines("drift");
    assert_eq!(shown[..2], ["t07: 1 difference at 002_items", "  table scratch: not from any migration"]);
    assert!(shown[2].starts_with("22 schemas: 1 with differences, 21 without differences"), "{shown:?}");
    assert_eq!(lines("drift -v").len(), 22 + 1 + 1);
}
