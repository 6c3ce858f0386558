//! The complete help: the commands, grouped by topic.

use clap::{CommandFactory, builder::StyledStr};
use std::fmt::Write as _;

use super::{Cli, exit::Exit, ui::wrap};

/// The width of the help on a wider terminal and in a pipe.
pub(super) const WIDTH_MAX: usize = 80;

/// The commands below each heading.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Setup",
        &[
            "init",
            "setup:database",
            "config:show",
            "doctor",
            "report",
            #[cfg(feature = "demo")]
            "demo",
        ],
    ),
    (
        "Tenants",
        &[
            "tenant:create",
            "tenant:warm",
            "tenant:list",
            "tenant:show",
            "tenant:verify",
            "tenant:rename",
            "tenant:suspend",
            "tenant:activate",
            "tenant:drop",
            "tenant:undrop",
            "tenant:exec",
            "tenant:export",
            "tenant:import",
            "tenant:clone",
            "tenant:seed",
            "tenant:shell",
            "provision",
            "provision:list",
            "provision:retry",
            "domain:add",
            "domain:list",
            "domain:verify",
            "domain:remove",
        ],
    ),
    (
        "Migrations",
        &[
            "migrate",
            "migrate:status",
            "migrate:history",
            "migrate:new",
            "migrate:lint",
            "migrate:baseline",
            "migrate:repair",
            "drift",
        ],
    ),
    (
        "Organizations, users and keys",
        &[
            "org:list",
            "org:show",
            "user:create",
            "user:list",
            "user:disable",
            "user:enable",
            "user:merge",
            "member:list",
            "member:add",
            "member:role",
            "member:remove",
            "invite:create",
            "invite:list",
            "invite:resend",
            "invite:revoke",
            "key:create",
            "key:list",
            "key:rotate",
            "key:revoke",
            "session:list",
            "session:revoke",
        ],
    ),
    (
        "Events, audit, secrets",
        &["events:relay", "events:list", "events:retry", "audit:list", "audit:retain", "secret:rotate"],
    ),
    (
        "Plans and quota",
        &[
            "plan:list",
            "subscription:show",
            "subscription:change",
            "subscription:cancel",
            "subscription:renew",
            "quota:show",
            "quota:grant",
            "quota:prune",
        ],
    ),
    ("Other", &["completions", "help"]),
];

const HELP_ABOUT: &str = "Print this help or the help of a command";

/// Returns the parser, with a help text that clap cannot generate: clap supports only one heading for all commands.
pub(crate) fn command() -> clap::Command {
    let command = Cli::command();
    let header = command.get_styles().get_header();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{}\n{header}Options:{header:#}\n{{options}}{{after-help}}",
        groups(&command)
    );
    // `cgk help exit-codes` is a separate page.
    let exit_codes = format!("{{about}}\n\n{}", Exit::table());
    let command = command.mut_subcommand("exit-codes", |page| page.help_template(exit_codes));
    let command = command.mut_subcommands(|command| match command.get_after_help().map(ToString::to_string) {
        Some(text) => command.after_help(examples(&text, wrap::width())),
        None => command,
    });
    command.help_template(StyledStr::from(template)).after_help(after_help()).after_long_help(after_long_help())
}

/// Returns the text with the comments of its examples below each other: clap would continue them where a command begins.
fn examples(text: &str, width: Option<usize>) -> String {
    let width = width.map_or(WIDTH_MAX, |width| width.min(WIDTH_MAX));
    let line = |line: &str| {
        let comment = line.strip_prefix("  ").and_then(|rest| rest.find("  ")).map(|gap| gap + 2);
        let Some(gap) = comment.filter(|_| line.chars().count() > width) else { return line.to_owned() };
        let start = gap + line[gap..].len() - line[gap..].trim_start().len();
        wrap::hanging(&line[..start], &line[start..], Some(width))
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

fn after_help() -> String {
    let demo =
        if cfg!(feature = "demo") { "  cgk demo                        try it; needs no database\n" } else { "" };
    format!(
        "\
Examples:
{demo}  cgk setup:database              with DATABASE_URL in the environment or .env
  cgk tenant:create acme
  cgk migrate

`cgk help <command>` shows the options of a command, `cgk help exit-codes` the exit codes."
    )
}

fn after_long_help() -> String {
    format!(
        "{}\n\nExit codes:\n{}\nSettings come from flags, the environment, .env and cgk.toml, in this order.",
        after_help(),
        Exit::table()
    )
}

fn groups(command: &clap::Command) -> String {
    let styles = command.get_styles();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let about = |name: &str| match command.find_subcommand(name) {
        Some(found) => found.get_about().map(ToString::to_string).unwrap_or_default(),
        None => HELP_ABOUT.to_owned(),
    };
    let width = GROUPS.iter().flat_map(|(_, names)| names.iter()).map(|name| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for name in *names {
            let _ = writeln!(text, "  {literal}{name:width$}{literal:#}  {}", about(name));
        }
    }
    text
}

/// Returns the names of all commands in the help.
pub(crate) fn names() -> Vec<String> {
    Cli::command()
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_exactly_one_group() {
        let mut command = Cli::command();
        command.build();
        let mut shown: Vec<_> = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(|c| c.get_name().to_owned())
            .collect();
        let mut grouped: Vec<_> = GROUPS.iter().flat_map(|(_, names)| names.iter().map(|n| (*n).to_owned())).collect();
        shown.sort();
        grouped.sort();
        assert_eq!(shown, grouped);
    }

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_that_fit() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.starts_with("Examples:"), "{}", command.get_name());
            let fitting = examples(&after, None);
            for line in fitting.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() <= WIDTH_MAX, "{}: {line}", command.get_name());
            }
        }
        assert!(after_help().lines().all(|line| line.chars().count() <= WIDTH_MAX || !line.starts_with("  ")));
        let narrow = examples("Examples:\n  cgk x    what it does is\n  cgk y", Some(20));
        assert_eq!(narrow, "Examples:\n  cgk x    what it\n           does is\n  cgk y");
    }
}
