//! What the program says of itself.

use crate::support::cgk::Shell;
use insta::assert_snapshot;

#[test]
fn help() {
    let shell = Shell::new();
    assert_snapshot!(shell.transcript(&["-h", "--help"]));
}

#[test]
fn help_of_every_command() {
    let commands = [
        "help init",
        "help setup:database",
        "help tenant:create",
        "help tenant:list",
        "help tenant:verify",
        "help provision",
        "help provision:list",
        "help provision:retry",
        "help domain:add",
        "help domain:list",
        "help domain:verify",
        "help domain:remove",
        "help migrate",
        "help migrate:status",
        "help migrate:baseline",
        "help migrate:repair",
        "help migrate:new",
        "help migrate:lint",
        "help drift",
        "help user:create",
        "help user:list",
        "help user:disable",
        "help user:enable",
        "help key:create",
        "help key:list",
        "help key:rotate",
        "help key:revoke",
        "help session:list",
        "help session:revoke",
        "help demo",
        "help completions",
    ];
    // The global options are the same everywhere and are in the help above.
    let text = Shell::new().transcript(&commands);
    let own: Vec<_> =
        text.split("\n\n").filter(|block| !block.starts_with("Global options:") && !is_global(block)).collect();
    assert_snapshot!(own.join("\n\n"));
}

/// The blocks of the long help that explain one global option each.
fn is_global(block: &str) -> bool {
    let first = block.trim_start();
    [
        "--database-url",
        "--config",
        "--migrations",
        "--isolation",
        "--lock-timeout",
        "--insecure-plaintext",
        "--json",
        "-q, --quiet",
        "-v, --verbose",
        "--color",
    ]
    .iter()
    .any(|flag| first.starts_with(flag))
}

/// The commands of the help, each with its own help in both lengths.
fn every_help() -> Vec<(String, String)> {
    let shell = Shell::new();
    let overview = shell.run(&["--help"]).stdout;
    let names: Vec<&str> = overview
        .lines()
        .take_while(|line| !line.starts_with("Options:"))
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()) && *name != "help")
        .collect();
    assert!(names.len() > 12, "{names:?}");
    let mut texts = vec![("-h".to_owned(), shell.run(&["-h"]).stdout), ("--help".to_owned(), overview.clone())];
    for name in names {
        for length in ["-h", "--help"] {
            let answer = shell.run(&[name, length]);
            assert_eq!(answer.code, 0, "{name}");
            texts.push((format!("{name} {length}"), answer.stdout));
        }
    }
    texts
}

#[test]
fn no_line_of_the_help_is_longer_than_80_columns() {
    for (command, text) in every_help() {
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn misuse() {
    let shell = Shell::new();
    assert_snapshot!(shell.transcript(&[
        "help exit-codes",
        "exit-codes",
        "tenant:creat acme",
        "migrat --json",
        "tenant:create",
        "tenant:create acme --nam x",
        "migrate --public --tenants",
        "migrate -q -v",
        "migrate --color sometimes",
        "migrate --lock-timeout 3",
        "--version --json",
    ]));
    let nothing = shell.run(&[]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (2, ""));
}

#[test]
fn colours_are_for_terminals_and_for_those_who_ask() {
    let shell = Shell::new();
    let coloured = |arguments: &[&str]| {
        let answer = shell.run(arguments);
        answer.stdout.contains('\u{1b}') || answer.stderr.contains('\u{1b}')
    };
    assert!(!coloured(&["tenant:list"]));
    assert!(coloured(&["tenant:list", "--color", "always"]));
    assert!(!coloured(&["tenant:list", "--color", "never"]));
    let forced = Shell::new().set("CLICOLOR_FORCE", "1");
    assert!(forced.run(&["tenant:list"]).stderr.contains('\u{1b}'));
    let asked_not_to = Shell::new().set("CLICOLOR_FORCE", "1").set("NO_COLOR", "1");
    assert!(!asked_not_to.run(&["tenant:list"]).stderr.contains('\u{1b}'));
}

/// bash splits at colons; the script must join what it split.
#[test]
fn bash_completes_names_with_a_colon() {
    let shell = Shell::new();
    shell.write("cgk.bash", &shell.run(&["completions", "bash"]).stdout);
    shell.write(
        "try.bash",
        r#"source ./cgk.bash
        try() {
            COMP_LINE=$1; shift
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _cgk cgk "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
            echo "$COMP_LINE> ${COMPREPLY[*]}"
        }
        try "cgk tenant:cr" cgk tenant : cr
        try "cgk tenant:" cgk tenant :
        try "cgk set" cgk set
        try "cgk --json migrate:n" cgk --json migrate : n
        try "cgk tenant:create --na" cgk tenant : create --na
        try "cgk migrate --che" cgk migrate --che
        "#,
    );
    let Ok(answer) = std::process::Command::new("bash").arg("try.bash").current_dir(shell.folder()).output() else {
        return; // No bash, nobody who needs its completions.
    };
    assert_snapshot!(String::from_utf8(answer.stdout).unwrap(), @r"
    cgk tenant:cr> create
    cgk tenant:> create warm list show rename suspend activate exec export import clone seed shell drop undrop verify
    cgk set> setup:database
    cgk --json migrate:n> new
    cgk tenant:create --na> --name
    cgk migrate --che> --check
    ");
    assert!(shell.run(&["completions", "zsh"]).stdout.contains(r"'tenant\:create:"));
    for shell_name in ["fish", "elvish", "powershell"] {
        let answer = shell.run(&["completions", shell_name]);
        assert_eq!(answer.code, 0);
        assert!(answer.stdout.contains("tenant:create") && !answer.stdout.contains("demo:reaper"), "{shell_name}");
    }
}
