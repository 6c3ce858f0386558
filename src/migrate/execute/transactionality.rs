//! Which statements cannot share a transaction, and what of them can be left out where nobody is kept waiting.

use super::concurrent::Concurrent;
use crate::{
    migrate::files::source::MigrationFile,
    sql::{
        Statement,
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
/// VACUUM left undone. The same length, every byte that stays in its place. `None` where a statement needs to be alone for
/// another reason.
pub(in crate::migrate) fn within_a_transaction(file: &MigrationFile, encoding: &str) -> Option<String> {
    let (text, is_whole) = without_concurrently(file, encoding);
    is_whole.then_some(text)
}

/// [`within_a_transaction`] as far as that is possible, and whether it is possible for every statement.
pub(in crate::migrate) fn without_concurrently(file: &MigrationFile, encoding: &str) -> (String, bool) {
    let mut edits = Edits::default();
    let mut is_whole = true;
    for statement in file.statements() {
        is_whole &= rewrite::within_a_transaction(statement, &mut edits);
    }
    (edits.apply(&file.sql_for(encoding)), is_whole)
}
