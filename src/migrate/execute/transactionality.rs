//! Which statements cannot share a transaction, and what of them can be left out where nobody is kept waiting.

use super::concurrent::Concurrent;
use crate::{
    migrate::files::file::MigrationFile,
    sql::{
        Statement, refusal,
        rewrite::{self, Edits},
        shape::{self, Shape},
    },
};

/// Whether a statement is known to be refused inside a transaction. Others are tried there first, and the server tells.
pub(in crate::migrate) fn runs_alone(statement: &Statement) -> bool {
    Concurrent::of(statement).is_some()
        || match shape::of(statement) {
            Shape::Vacuum { .. } => true,
            Shape::Reindex { kind, .. } => kind != "index" && kind != "table",
            _ => false,
        }
}

/// Whether a statement is about the session alone.
pub(in crate::migrate) fn is_setting(statement: &Statement) -> bool {
    matches!(statement.leading_words().first(), Some(&"set" | &"reset"))
}

/// The text of a file as it can be carried out in a transaction by somebody who keeps nobody waiting: CONCURRENTLY left out,
/// VACUUM left undone, and before each such statement one that fails where the server would refuse it as it is written. `None` where a statement needs to be alone for another reason.
pub(in crate::migrate) fn within_a_transaction(file: &MigrationFile, encoding: &str) -> Option<String> {
    let (edits, is_whole) = edits(file);
    is_whole.then(|| edits.apply(&file.sql_for(encoding)))
}

/// The statements of a file by themselves, each as in [`within_a_transaction`] where that is possible.
pub(in crate::migrate) fn statements_within_a_transaction(file: &MigrationFile, encoding: &str) -> Vec<String> {
    let sql = file.sql_for(encoding);
    let within = |statement: &Statement| {
        let mut edits = Edits::default();
        rewrite::within_a_transaction(statement, &mut edits);
        edits.apply_within(&sql, statement.range.clone())
    };
    file.statements().iter().map(within).collect()
}

/// For each statement that loses something in [`statements_within_a_transaction`], a statement that fails where the server would
/// refuse it as it is written.
pub(in crate::migrate) fn checks_of_statements(file: &MigrationFile, encoding: &str) -> Vec<Option<String>> {
    let sql = file.sql_for(encoding);
    file.statements().iter().map(|statement| refusal::check(statement, &sql[statement.range.clone()])).collect()
}

/// How many statements of the file are done where so many of the text of [`within_a_transaction`] are.
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

/// Where in the file a place in the text of [`within_a_transaction`] is.
pub(in crate::migrate) fn original_offset(file: &MigrationFile, offset: usize) -> usize {
    match edits(file) {
        (edits, true) if !file.is_transactional() => edits.original_offset(offset),
        _ => offset,
    }
}

fn edits(file: &MigrationFile) -> (Edits, bool) {
    let mut edits = Edits::default();
    let mut is_whole = true;
    // One text for every encoding, so that a place in it is always the same.
    let sql = rewrite::ascii_comments(file.sql(), file.comments());
    for statement in file.statements() {
        if let Some(check) = refusal::check(statement, &sql[statement.range.clone()]) {
            edits.insert(statement.range.start, check + ";\n");
        }
        is_whole &= rewrite::within_a_transaction(statement, &mut edits);
    }
    (edits, is_whole)
}
