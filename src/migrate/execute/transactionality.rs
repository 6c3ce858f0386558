//! Determines which statements cannot share a transaction, and which parts of them can be omitted if no other session
//! uses the schema.

use super::concurrent::Concurrent;
use crate::{
    migrate::files::file::MigrationFile,
    sql::{
        Statement, refusal,
        rewrite::{self, Edits},
        shape::{self, Shape},
    },
};

/// Whether a statement is known to be refused inside a transaction. Other statements are first tried in a transaction,
/// and the server decides.
pub(in crate::migrate) fn runs_alone(statement: &Statement) -> bool {
    Concurrent::of(statement).is_some()
        || match shape::of(statement) {
            Shape::Vacuum { .. } => true,
            Shape::Reindex { kind, .. } => kind != "index" && kind != "table",
            _ => false,
        }
}

/// Whether a statement changes only session settings.
pub(in crate::migrate) fn is_setting(statement: &Statement) -> bool {
    matches!(statement.leading_words().first(), Some(&"set" | &"reset"))
}

/// Returns the text of a file for one transaction, for a schema that no other session uses. It has no CONCURRENTLY and
/// no VACUUM. Before each such statement, it has a check that fails if the server would refuse the original statement.
/// `None` if a statement must run alone for another reason.
pub(in crate::migrate) fn within_a_transaction(file: &MigrationFile, encoding: &str) -> Option<String> {
    let (edits, is_whole) = edits(file);
    is_whole.then(|| edits.apply(&file.sql_for(encoding)))
}

/// Returns the statements of a file separately, each as in [`within_a_transaction`] if that is possible.
pub(in crate::migrate) fn statements_within_a_transaction(file: &MigrationFile, encoding: &str) -> Vec<String> {
    let sql = file.sql_for(encoding);
    let within = |statement: &Statement| {
        let mut edits = Edits::default();
        rewrite::within_a_transaction(statement, &mut edits);
        edits.apply_within(&sql, statement.range.clone())
    };
    file.statements().iter().map(within).collect()
}

/// Returns a check for each statement that [`statements_within_a_transaction`] simplifies. It fails if the server would
/// refuse the original statement.
pub(in crate::migrate) fn checks_of_statements(file: &MigrationFile, encoding: &str) -> Vec<Option<String>> {
    let sql = file.sql_for(encoding);
    file.statements().iter().map(|statement| refusal::check(statement, &sql[statement.range.clone()])).collect()
}

/// Converts a number of completed statements of [`within_a_transaction`] to statements of the file.
pub(in crate::migrate) fn original_statements(file: &MigrationFile, completed: usize) -> usize {
    if file.is_transactional() {
        return completed;
    }
    let checks = checks_of_statements(file, "UTF8");
    let mut sent = 0;
    let is_done = |check: &&Option<String>| {
        sent += 1 + usize::from(check.is_some());
        sent <= completed
    };
    checks.iter().take_while(is_done).count()
}

/// Converts a position in the text of [`within_a_transaction`] to a position in the file.
pub(in crate::migrate) fn original_offset(file: &MigrationFile, offset: usize) -> usize {
    match edits(file) {
        (edits, true) if !file.is_transactional() => edits.original_offset(offset),
        _ => offset,
    }
}

fn edits(file: &MigrationFile) -> (Edits, bool) {
    let mut edits = Edits::default();
    let mut is_whole = true;
    // The text is the same for every encoding, so that positions are always the same.
    let sql = rewrite::ascii_comments(file.sql(), file.comments());
    for statement in file.statements() {
        if let Some(check) = refusal::check(statement, &sql[statement.range.clone()]) {
            edits.insert(statement.range.start, check + ";\n");
        }
        is_whole &= rewrite::within_a_transaction(statement, &mut edits);
    }
    (edits, is_whole)
}
