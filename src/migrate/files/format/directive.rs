//! The directives of other tools: what one line means for the tool that it was written for.

/// The meaning of a line for its tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    Up(&'static str),
    Down(&'static str),
    /// The down section follows, and no line marks the up section.
    DownOnly(&'static str),
    /// The file runs without a transaction.
    NoTransaction(&'static str),
    /// A directive without effect here.
    Nothing,
    Refused(&'static str, &'static str),
}

const UNKNOWN: &str = "cgk does not know this directive; remove the line, or write its effect as SQL";

/// Returns the meaning of a line that is a comment from its first character on.
pub(super) fn directive(line: &str) -> Option<Directive> {
    let line = line.trim();
    match line.strip_prefix("--!") {
        // `--!Ups` of Play and `--!txn` of rockhopper.
        Some(text) if said(line).is_none() => Some(of_graphile(text.trim())),
        _ if line.starts_with('#') => of_play(&words(line)),
        _ if line.starts_with("--") => said(line),
        _ => None,
    }
}

fn words(text: &str) -> Vec<String> {
    let said = text.trim_start_matches(['-', '#', ' ', '\t']).trim_end_matches('-');
    said.to_ascii_lowercase().split_whitespace().map(ToOwned::to_owned).collect()
}

fn of_play(words: &[String]) -> Option<Directive> {
    match words.first().map(String::as_str) {
        Some("!ups") => Some(Directive::Up("Play evolutions")),
        Some("!downs") => Some(Directive::Down("Play evolutions")),
        _ => None,
    }
}

/// Returns the meaning of a comment's text, with or without the leading dashes.
pub(super) fn said(text: &str) -> Option<Directive> {
    let all = words(text);
    if let Some(found) = of_play(&all) {
        return Some(found);
    }
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    let found = match words.as_slice() {
        [head, rest @ ..] if head.starts_with('+') => return of_goose(head, rest),
        [head, rest @ ..] if head.starts_with("migrate:") => of_dbmate(head, rest),
        ["up", "migration", ..] => Directive::Up("node-pg-migrate"),
        ["down", "migration", ..] => Directive::Down("node-pg-migrate"),
        ["rambler", "up"] => Directive::Up("rambler"),
        ["rambler", "down"] => Directive::Down("rambler"),
        ["create", ..] if all.concat().starts_with("createabove/dropbelow") => Directive::DownOnly("tern"),
        ["tern:", "disable-tx", ..] => Directive::NoTransaction("tern"),
        ["no-transaction"] => Directive::NoTransaction("sqlx"),
        ["evolve-tx-off"] => Directive::NoTransaction("Evolve"),
        ["!txn"] => Directive::NoTransaction("rockhopper"),
        ["transactional:", "false"] => Directive::NoTransaction("yoyo"),
        ["atlas:txmode", "none"] => Directive::NoTransaction("Atlas"),
        ["atlas:nolint", ..] | ["atlas:txmode", "file" | "all"] => Directive::Nothing,
        [head, ..] if head.starts_with("atlas:") => Directive::Refused("Atlas", UNKNOWN),
        ["//@undo", ..] | ["//", "@undo", ..] => Directive::DownOnly("MyBatis Migrations"),
        ["====", "up", "===="] => Directive::Up("shmig"),
        ["====", "down", "===="] => Directive::Down("shmig"),
        ["liquibase", "formatted", ..] => Directive::Refused("Liquibase", CHANGESETS),
        ["changeset", id, ..] if id.contains(':') => Directive::Refused("Liquibase", CHANGESETS),
        [head, ..] if head.starts_with("evolve-repeat") => Directive::Refused("Evolve", UNKNOWN),
        _ => return None,
    };
    Some(found)
}

const CHANGESETS: &str = "each changeset is one migration; write each to its own file, without directives";

/// Returns the meaning of a line for goose, and for tools with the same syntax.
fn of_goose(head: &str, rest: &[&str]) -> Option<Directive> {
    let tool = match head {
        "+goose" => "goose",
        "+migrate" => "sql-migrate",
        "+micrate" => "micrate",
        "+up" | "+down" | "+begin" | "+end" => return Some(of_rockhopper(head, rest)),
        // `-- +1 day` and `-- +-----+` are not directives.
        _ if head[1..].starts_with(|c: char| c.is_ascii_alphabetic()) => return Some(Directive::Refused("", UNKNOWN)),
        _ => return None,
    };
    Some(match rest {
        ["up"] | ["up", "notransaction"] => Directive::Up(tool),
        ["down"] | ["down", "notransaction"] => Directive::Down(tool),
        // The server determines where a statement ends.
        ["statementbegin" | "statementend"] | ["envsub", "off"] => Directive::Nothing,
        ["no", "transaction"] => Directive::NoTransaction(tool),
        ["envsub", ..] => Directive::Refused(tool, "cgk does not replace environment variables in SQL"),
        _ => Directive::Refused(tool, UNKNOWN),
    })
}

fn of_rockhopper(head: &str, rest: &[&str]) -> Directive {
    match (head, rest) {
        ("+up", []) => Directive::Up("rockhopper"),
        ("+down", []) => Directive::Down("rockhopper"),
        // The server determines where a statement ends.
        ("+begin" | "+end", []) => Directive::Nothing,
        _ => Directive::Refused("rockhopper", UNKNOWN),
    }
}

fn of_dbmate(head: &str, rest: &[&str]) -> Directive {
    match (head, rest) {
        ("migrate:up", [] | ["transaction:false" | "transaction:true"]) => Directive::Up("dbmate"),
        ("migrate:down", _) => Directive::Down("dbmate"),
        _ => Directive::Refused("dbmate", UNKNOWN),
    }
}

fn of_graphile(said: &str) -> Directive {
    match said.split([' ', ':']).next() {
        Some("no-transaction") => Directive::NoTransaction("graphile-migrate"),
        Some("Previous" | "Hash" | "Message" | "AllowInvalidHash") => Directive::Nothing,
        _ => Directive::Refused("graphile-migrate", UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_is_known_or_refused_with_a_reason() {
        for (line, refused) in [
            ("-- +goose StatementBegin", None),
            ("-- +goose ENVSUB OFF", None),
            ("-- +goose ENVSUB ON", Some("cgk does not replace environment variables in SQL")),
            ("-- +goose Sideways", Some(UNKNOWN)),
            ("-- +begin", None),
            ("-- +begin now", Some(UNKNOWN)),
        ] {
            match directive(line) {
                Some(Directive::Nothing) => assert_eq!(refused, None, "{line}"),
                Some(Directive::Refused(_, reason)) => assert_eq!(refused, Some(reason), "{line}"),
                _ => panic!("{line}"),
            }
        }
        for line in ["-- Create the table", "-- create above", "-- up", "-- +1 day", "-- rambler"] {
            assert!(directive(line).is_none(), "{line}");
        }
        let tern = "---- create above / drop below ----";
        assert!(matches!(directive(tern), Some(Directive::DownOnly("tern"))));
    }
}
