//! Finds comments that look like the heading of a rollback of an unknown tool: `-- Rollback script:`, `/* down */`,
//! `-- To undo:`. This is a guess from words, so a comment of the file can accept the error.

use super::Fault;
use crate::sql::Statement;
use std::ops::Range;

/// Returns the headings that are followed by a statement, with the number of that statement.
///
/// If the rollback itself is commented out, the heading does not count, because no rollback statement would run.
pub(super) fn headings(text: &str, comments: &[Range<usize>], statements: &[Statement]) -> Vec<(usize, Fault)> {
    let is_inside = |at: usize| statements.iter().any(|statement| statement.range.contains(&at));
    let mut found = Vec::new();
    for (number, comment) in comments.iter().enumerate().filter(|(_, comment)| !is_inside(comment.start)) {
        let whole = &text[comment.clone()];
        let mut rest = whole.split(['\n', '\r']);
        let heading = rest.by_ref().find(|line| is_heading(line));
        let next = statements.iter().position(|statement| statement.range.start >= comment.end);
        let (Some(heading), Some(next)) = (heading, next) else { continue };
        let begins = statements[next].range.start;
        if ends_statement(heading) || rest.any(ends_statement) || is_written_out(text, &comments[number + 1..], begins)
        {
            continue;
        }
        let reason = format!(
            "{:?} looks like the heading of a rollback, and cgk would run the statements after it",
            without_marks(heading.trim())
        );
        found.push((next, (comment.start, reason)));
    }
    found
}

/// Whether the comments before a statement contain statements, with an empty line before that statement.
fn is_written_out(text: &str, comments: &[Range<usize>], begins: usize) -> bool {
    let mut between = comments.iter().take_while(|comment| comment.end <= begins).peekable();
    let mut written = false;
    while let Some(comment) = between.next() {
        let whole = &text[comment.clone()];
        written |= whole.split(['\n', '\r']).any(ends_statement);
        let behind = &text[comment.end..between.peek().map_or(begins, |next| next.start)];
        if written && (whole.starts_with("/*") || behind.matches('\n').count() > 1) {
            return true;
        }
    }
    false
}

/// Whether a line of a comment ends a statement inside the comment.
fn ends_statement(line: &str) -> bool {
    const VERBS: &[&str] = &[
        "alter", "begin", "comment", "commit", "create", "delete", "drop", "grant", "insert", "revoke", "select",
        "set", "truncate", "update",
    ];
    let text = without_marks(line.trim());
    let is_verb = |word: &str| VERBS.contains(&word) || !text.contains(char::is_whitespace) && text.ends_with(");");
    text.ends_with(';')
        && (words(text).iter().any(|word| is_verb(word)) || line.starts_with("--  ") || line.starts_with("  "))
}

/// Returns a comment's text without the comment marks.
pub(super) fn without_marks(comment: &str) -> &str {
    let text = comment.trim_matches(|c: char| c.is_whitespace() || matches!(c, '-' | '/' | '*' | '#' | '='));
    text.trim()
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// Words that may precede the name of a direction without changing its meaning.
const LEADING: &[&str] = &[
    "a",
    "begin",
    "emergency",
    "for",
    "full",
    "how",
    "manual",
    "migrate",
    "migration",
    "migrations",
    "name",
    "of",
    "part",
    "run",
    "schema",
    "section",
    "sql",
    "start",
    "step",
    "the",
    "to",
];

/// Words after the name of a direction that announce statements, whatever follows them.
const STATEMENTS: &[&str] = &[
    "block",
    "commands",
    "ddl",
    "migration",
    "migrations",
    "part",
    "queries",
    "query",
    "script",
    "scripts",
    "section",
    "sql",
    "statement",
    "statements",
    "steps",
];

/// Words after the name of a direction that announce statements if few words follow.
const HERE: &[&str] = &[
    "above",
    "all",
    "begin",
    "begins",
    "below",
    "change",
    "changes",
    "direction",
    "everything",
    "here",
    "instructions",
    "it",
    "only",
    "path",
    "plan",
    "procedure",
    "start",
    "starts",
    "step",
    "that",
    "these",
    "this",
];

/// Whether a line of a comment looks like the heading of a rollback.
fn is_heading(line: &str) -> bool {
    let text = without_marks(line);
    // A name alone: `@rollbackQuery`, `001_x.down.sql`.
    if !text.contains(char::is_whitespace) {
        let lower = text.to_ascii_lowercase();
        let stem = lower.strip_suffix(".sql");
        if stem.is_some_and(|stem| words(stem).last().is_some_and(|word| direction(&[word.as_str()]).is_some()))
            || lower.starts_with(['@', '+', '!', '%', '$', '<', '['])
                && ["rollback", "undo", "revert", "downgrade"].iter().any(|word| lower.contains(word))
        {
            return true;
        }
    }
    let is_list = text.ends_with(':');
    text.split([':', '=', '|', '(', ')', '—', '–', ';'])
        .any(|part| part.split(" - ").any(|part| begins_rollback(part, is_list)))
        || is_list && ends_in_direction(&words(text))
        || text.starts_with(['@', '!', '+', '%'])
            && matches!(words(text).as_slice(), [_, way] if direction(&[way.as_str()]).is_some())
}

/// `emergency rollback:`, `run this to undo:`; not `slow down:`.
fn ends_in_direction(words: &[String]) -> bool {
    words.last().is_some_and(|word| word != "down" && word != "downs" && direction(&[word.as_str()]).is_some())
}

/// Returns how many words at the start name the down direction.
fn direction(words: &[&str]) -> Option<usize> {
    match words {
        ["roll" | "rolling", "back", ..] | ["back", "out", ..] | ["tear", "down", ..] => Some(2),
        ["down" | "downs" | "undo" | "rollback" | "revert" | "downgrade" | "backout" | "unapply" | "teardown", ..] => {
            Some(1)
        }
        ["reverting" | "reverts" | "undoing" | "rollbacks" | "downward" | "downwards", ..] => Some(1),
        ["backward" | "backwards" | "reverse" | "uninstall"] => Some(1),
        ["reverse", "migration" | "migrations" | "script" | "sql", ..] => Some(1),
        _ => None,
    }
}

fn begins_rollback(part: &str, is_list: bool) -> bool {
    let all = words(part);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let leading = all.iter().take_while(|word| LEADING.contains(word) || is_number(word)).count();
    let Some(length) = direction(&all[leading..]) else { return false };
    let (way, rest) = (all[leading], &all[leading + length..]);
    let is_of = |list: &[&str]| rest.first().is_some_and(|word| list.contains(word));
    let is_verb = !matches!(way, "down" | "downs" | "downgrade");
    let to = all[..leading].contains(&"to");
    match rest {
        [] => true,
        _ if is_of(STATEMENTS) || is_of(HERE) && rest.len() <= 3 => true,
        // `Revert orders from pg` of sqitch.
        [_, "from", _] => way == "revert",
        _ => is_verb && rest.len() <= 2 || to && rest.len() <= 4 || is_list && rest.len() <= 5,
    }
}
