//! What exists only in the session that executes a file: temporary objects, prepared statements, locks.

use super::{Lint, LintFault, namespace::RELATIONS};
use crate::sql::{
    Statement, Token,
    shape::{self, Name, Shape},
};

/// Returns the name of a temporary object that a statement creates.
pub(super) fn temporary(statement: &Statement, shape: &Shape) -> Option<Name> {
    let is_temporary = |word: &&str| matches!(*word, "temp" | "temporary");
    let words = statement.leading_words();
    let mut after_create = words.iter().skip(1).skip_while(|word| ["or", "replace", "local", "global"].contains(*word));
    let is_marked = words.first() == Some(&"create") && after_create.next().is_some_and(is_temporary);
    let in_pg_temp = |name: &Name| name.schema.as_deref() == Some("pg_temp");
    match shape {
        Shape::CreateTable { name, .. } | Shape::Create { name: Some(name), .. } => {
            return (is_marked || in_pg_temp(name)).then(|| name.clone());
        }
        Shape::CreateIndex { name, table, .. } => {
            return in_pg_temp(table).then(|| name.as_ref().unwrap_or(table).clone());
        }
        _ => {}
    }
    // `select 1 as a into temp t`
    let tokens = &statement.tokens;
    let into = tokens
        .windows(2)
        .position(|two| two[0].word() == Some("into") && two[1].word().is_some_and(|word| is_temporary(&word)))?;
    let name = tokens[into + 2..].iter().find(|token| token.word() != Some("table"))?;
    Some(Name { schema: None, name: name.name()?.to_owned(), at: name.at })
}

/// Returns the name of a temporary relation that a statement creates.
pub(super) fn temporary_relation(statement: &Statement, shape: &Shape) -> Option<Name> {
    let is_other = match shape {
        Shape::Create { kind, .. } => !RELATIONS.contains(&kind.as_str()),
        Shape::CreateIndex { name, .. } => name.is_none(),
        _ => false,
    };
    temporary(statement, shape).filter(|_| !is_other)
}

/// Returns the warning about a temporary relation with the name of another one.
pub(super) fn of_taken_name(name: &Name) -> LintFault {
    let reason = format!(
        "a relation {:?} exists, and statements with this name mean that one: temporary ones are last in the search path",
        name.name
    );
    (name.at, Lint::TemporaryName, reason)
}

/// Finds what a run loses that continues the file after this statement. SET is not found, because such a run repeats
/// it.
pub(super) fn of_lost(statement: &Statement, shape: &Shape, faults: &mut Vec<LintFault>) {
    if let Some((at, what)) = lost(statement, shape) {
        let reason =
            format!("{what} is lost if a run stops after it: the next run continues the file in a new session");
        faults.push((at, Lint::LostWithTheSession, reason));
    }
}

fn lost(statement: &Statement, shape: &Shape) -> Option<(usize, &'static str)> {
    let (tokens, start) = (&statement.tokens, statement.range.start);
    if temporary(statement, shape).is_some() {
        return Some((start, "a temporary object"));
    }
    match statement.leading_words().as_slice() {
        ["prepare", ..] => return Some((start, "a prepared statement")),
        ["listen", ..] => return Some((start, "LISTEN")),
        ["declare", ..] if shape::has(tokens, &["with", "hold"]) => return Some((start, "a cursor")),
        _ => {}
    }
    let locks = ["pg_advisory_lock", "pg_advisory_lock_shared", "pg_try_advisory_lock", "pg_try_advisory_lock_shared"];
    let is_lock = |token: &&Token| token.name().is_some_and(|name| locks.contains(&name));
    tokens.iter().find(is_lock).map(|token| (token.at, "a lock of the session"))
}
