//! Finds the intended command for a command that does not exist.

use clap::{
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::ffi::OsString;

use super::ui::style::sanitize;

/// The minimum similarity of a suggested name, from 0 to 1.
const LIKENESS_MIN: f64 = 0.8;

/// The maximum number of suggested commands.
const OFFERED_MAX: usize = 4;

/// The nouns whose commands are suggested first, the most likely first.
const FIRST_NOUNS: [&str; 4] = ["tenant", "user", "member", "key"];

/// The names of other tools for our commands.
const ALIASES: &[(&str, &str)] = &[
    ("add", "tenant:create"),
    ("check", "drift"),
    ("config", "config:show"),
    ("db:create", "setup:database"),
    ("db:migrate", "migrate"),
    ("db:setup", "setup:database"),
    ("deploy", "migrate"),
    ("diagnose", "doctor"),
    ("diff", "drift"),
    ("generate", "migrate:new"),
    ("health", "doctor"),
    ("info", "migrate:status"),
    ("ls", "tenant:list"),
    ("migration:new", "migrate:new"),
    ("new", "tenant:create"),
    ("settings", "config:show"),
    ("setup", "setup:database"),
    ("tenant:add", "tenant:create"),
    ("tenant:ls", "tenant:list"),
    ("tenant:new", "tenant:create"),
    ("tenants", "tenant:list"),
    ("up", "migrate"),
    ("validate", "migrate:lint"),
];

/// Replaces the parser's suggestions by the most likely one.
pub(crate) fn improve(mut error: clap::Error, arguments: &[OsString], commands: &[String]) -> clap::Error {
    keep_best(&mut error);
    let mut error = with_command(error, arguments, commands);
    escape(&mut error);
    error
}

/// Escapes the characters of the arguments that move the cursor or change the direction of writing.
fn escape(error: &mut clap::Error) {
    let given: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in given {
        let clean = match value {
            ContextValue::String(text) => ContextValue::String(sanitize(&text)),
            ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(|text| sanitize(text)).collect()),
            // A tip that repeats the argument has colours of its own.
            ContextValue::StyledStrs(tips) if tips.iter().any(|tip| is_unsafe(&tip.to_string())) => {
                ContextValue::StyledStrs(tips.iter().map(|tip| sanitize(&tip.to_string()).into()).collect())
            }
            _ => continue,
        };
        error.insert(kind, clean);
    }
}

fn is_unsafe(text: &str) -> bool {
    sanitize(text) != text
}

/// Suggests the command or the flag that was probably intended.
fn with_command(mut error: clap::Error, arguments: &[OsString], commands: &[String]) -> clap::Error {
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|argument| argument.to_str()).collect();
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let Some(ContextValue::String(written)) = error.get(ContextKind::InvalidSubcommand) else { return error };
            let position = words.iter().position(|word| word == written);
            let next = position.and_then(|at| words.get(at + 1)).copied();
            let meant = meant(written, next, commands);
            error.remove(ContextKind::SuggestedSubcommand);
            if !meant.is_empty() {
                error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(meant));
            }
        }
        ErrorKind::UnknownArgument => {
            let Some(ContextValue::String(written)) = error.get(ContextKind::InvalidArg) else { return error };
            let before =
                words.iter().position(|word| word == written).and_then(|at| words.get(at.checked_sub(1)?)).copied();
            if before == Some("--watch") {
                let tip = StyledStr::from(format!("the seconds are written with an equals sign: '--watch={written}'"));
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
                return error;
            }
            let joined = words.iter().map(|word| format!("{word}:{written}")).find(|name| commands.contains(name));
            if let Some(name) = joined {
                let tip = StyledStr::from(format!("the command is written with a colon: 'cgk {name}'"));
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            }
        }
        _ => {}
    }
    error
}

/// Keeps only the best suggestion. The parser returns all similar names, the best last.
fn keep_best(error: &mut clap::Error) {
    for kind in [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue] {
        if let Some(ContextValue::Strings(offered)) = error.get(kind)
            && let Some(best) = offered.last().cloned()
        {
            error.insert(kind, ContextValue::Strings(vec![best]));
        }
    }
}

/// Returns the commands that `written`, followed by `next`, can mean. If only a group is named, returns its first
/// commands.
fn meant(written: &str, next: Option<&str>, commands: &[String]) -> Vec<String> {
    let written = written.to_lowercase();
    let exists = |name: &str| commands.iter().any(|command| command == name);
    for separator in [" ", "-", "_", "."] {
        let colons = written.replace(separator, ":");
        if colons != written && exists(&colons) {
            return vec![colons];
        }
    }
    if let Some(joined) = next.map(|next| format!("{written}:{}", next.to_lowercase())) {
        if exists(&joined) {
            return vec![joined];
        }
        if let Some((_, command)) = ALIASES.iter().find(|(alias, _)| *alias == joined) {
            return vec![(*command).to_owned()];
        }
    }
    if let Some((_, command)) = ALIASES.iter().find(|(alias, _)| *alias == written) {
        return vec![(*command).to_owned()];
    }
    let mut verbs: Vec<&String> = commands.iter().filter(|name| name.ends_with(&format!(":{written}"))).collect();
    if !verbs.is_empty() {
        let is_of = |name: &str, noun: &&str| name.split_once(':').is_some_and(|(of, _)| of == *noun);
        let place = |name: &str| FIRST_NOUNS.iter().position(|noun| is_of(name, noun)).unwrap_or(FIRST_NOUNS.len());
        verbs.sort_by_key(|name| place(name));
        return verbs.into_iter().take(OFFERED_MAX).cloned().collect();
    }
    let group: Vec<&String> = commands.iter().filter(|name| name.starts_with(&format!("{written}:"))).collect();
    if !group.is_empty() {
        return group.into_iter().take(OFFERED_MAX).cloned().collect();
    }
    let likeness = |name: &String| strsim::jaro_winkler(&written, name);
    let best = commands.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    best.filter(|name| likeness(name) >= LIKENESS_MIN).cloned().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> Vec<String> {
        crate::cli::help::names()
    }

    #[test]
    fn near_misses_find_the_command() {
        for (written, next, wanted) in [
            ("tenant", Some("create"), "tenant:create"),
            ("tenant", Some("add"), "tenant:create"),
            ("Tenant:Create", None, "tenant:create"),
            ("tenant-create", Some("acme"), "tenant:create"),
            ("status", None, "migrate:status"),
            ("tenant:creat", None, "tenant:create"),
            ("tenant:ls", None, "tenant:list"),
            ("migrat", None, "migrate"),
            ("db:migrate", None, "migrate"),
            ("setup", None, "setup:database"),
            ("setup:db", None, "setup:database"),
            ("drft", None, "drift"),
        ] {
            assert_eq!(meant(written, next, &commands()), [wanted], "{written} {next:?}");
        }
        // A verb of several nouns: the most likely ones, that of tenants first.
        let created = meant("create", Some("acme"), &commands());
        assert_eq!(created, ["tenant:create", "user:create", "key:create", "invite:create"]);
        let listed = meant("list", None, &commands());
        assert_eq!(listed, ["tenant:list", "user:list", "member:list", "key:list"]);
    }

    #[test]
    fn a_group_alone_offers_its_commands() {
        let offered = meant("tenant", None, &commands());
        assert!(offered.len() == OFFERED_MAX && offered.iter().all(|name| name.starts_with("tenant:")), "{offered:?}");
    }

    #[test]
    fn an_argument_cannot_steer_the_terminal() {
        let refused = |argument: &str| {
            let parsed = <crate::cli::Cli as clap::Parser>::try_parse_from(["cgk", "tenant:list", argument]);
            improve(parsed.unwrap_err(), &[], &commands()).render().to_string()
        };
        let error = refused("--x\u{202e}\u{1b}[31m");
        assert!(error.contains("'--x\\u{202e}\\u{1b}[31m'"), "{error}");
        assert!(refused("--plain").contains("'--plain'"));
    }

    #[test]
    fn what_is_like_nothing_gets_no_suggestion() {
        assert!(meant("xyzzy", None, &commands()).is_empty());
    }

    #[test]
    fn aliases_lead_to_commands_and_hide_none() {
        let commands = commands();
        for (alias, command) in ALIASES {
            assert!(commands.iter().any(|name| name == command), "{alias} leads to {command}");
            assert!(!commands.iter().any(|name| name == alias), "{alias} is a command");
        }
    }
}
