//! The workflow that `cgk init` writes: its steps are run as the runner would run them.

use crate::{stage::Folder, support::cgk::Shell};
use cgk::testing::TestServer;
use regex::Regex;
use std::{path::Path, process::Command};

/// The commands of the steps, in their order, without the installation of cgk.
fn commands(workflow: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut lines = workflow.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(command) = line.trim().trim_start_matches("- ").strip_prefix("run: ") else { continue };
        if command != "|" {
            found.push(command.to_owned());
            continue;
        }
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mut block = String::new();
        while let Some(inner) = lines.next_if(|inner| indent(inner) > indent(line)) {
            block.push_str(inner);
            block.push('\n');
        }
        found.push(block);
    }
    let installs = |command: &String| command.starts_with("cargo install --locked --git \"$CGK_REPOSITORY\" cgk");
    assert_eq!(found.iter().filter(|command| installs(command)).count(), 1, "{found:?}");
    found.retain(|command| !installs(command));
    found
}

/// Runs the steps to the first that fails; returns that one and what it said.
fn run(shell: &Shell, commands: &[String]) -> Result<(), String> {
    let programs = Path::new(env!("CARGO_BIN_EXE_cgk")).parent().unwrap().display();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    for command in commands {
        // As the runner starts the shell.
        let mut step = Command::new("bash");
        step.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", command]).current_dir(shell.folder());
        let output = step.env("PATH", &path).env("DATABASE_URL", shell.database_url()).output().unwrap();
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(format!("{command}\n{}", String::from_utf8_lossy(&said)));
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_steps_of_the_workflow_pass_and_find_a_failing_test() {
    let database = TestServer::shared().database().await.unwrap();
    let shell = Shell::on(&database);
    let templates = "init --template workspace --template analytics --template flags --template shop";
    let answer = shell.run(&templates.split(' ').collect::<Vec<_>>());
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let workflow = std::fs::read_to_string(shell.folder().join(".github/workflows/cgk.yml")).unwrap();
    let commands = commands(&workflow);
    assert_eq!(commands.len(), 7, "{commands:?}");
    run(&shell, &commands).unwrap();
    // The control.
    shell.write("tests/cgk/mine.sql", "select 1 / 0;\nselect 1;\n");
    let failed = run(&shell, &commands).unwrap_err();
    assert!(failed.contains("for test in tests/cgk") && failed.contains("division by zero"), "{failed}");
}

/// Pinned as those of our own workflow.
#[test]
fn the_actions_of_the_workflow_are_pinned() {
    let folder = Folder::new();
    folder.add(&["empty"]);
    let ours = include_str!("../../packaging/release.yml");
    let action = Regex::new(r"uses: (\S+@[0-9a-f]{40}) # v").unwrap();
    let workflow = folder.read(".github/workflows/cgk.yml");
    let pinned: Vec<&str> = action.captures_iter(&workflow).map(|found| found.get(1).unwrap().as_str()).collect();
    assert_eq!(pinned.len(), workflow.matches("uses:").count(), "{workflow}");
    assert!(!pinned.is_empty() && pinned.iter().all(|action| ours.contains(action)), "{pinned:?}");
}
