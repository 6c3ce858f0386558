//! What exists only in the session that executes a file, and is lost with it.

use super::{Lint, LintFault, temporary::temporary};
use crate::sql::{
    Statement, Token,
    shape::{self, Shape},
};

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
