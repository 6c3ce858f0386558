//! Which statements cannot share a transaction, and what of them can be left out where nobody is kept waiting.

use super::{
    concurrent::Concurrent,
    shape::{self, Shape},
    source::MigrationFile,
    sql::{Statement, TokenKind},
};

/// Whether a statement is known to be refused inside a transaction. Others are tried there first, and the server tells.
pub(super) fn runs_alone(statement: &Statement) -> bool {
    Concurrent::of(statement).is_some()
        || match shape::of(statement) {
            Shape::Vacuum { .. } => true,
            Shape::Reindex { kind, .. } => kind != "index" && kind != "table",
            _ => false,
        }
}

/// Whether a statement is about the session alone.
pub(super) fn is_setting(statement: &Statement) -> bool {
    matches!(statement.leading_words().first(), Some(&"set" | &"reset"))
}

/// The text of a file as it can be carried out in a transaction by somebody who keeps nobody waiting: CONCURRENTLY left out,
/// VACUUM left undone. The same length, every byte that stays in its place. `None` where a statement needs to be alone for
/// another reason.
pub(super) fn within_a_transaction(file: &MigrationFile) -> Option<String> {
    let mut text = file.sql().as_bytes().to_vec();
    for statement in file.statements() {
        let words = statement.leading_words();
        match (shape::of(statement), words.first()) {
            (Shape::Vacuum { .. }, _) => {
                let range = statement.range.clone();
                text[range.clone()].fill(b' ');
                // A query without columns.
                text[range.start..range.start + 6].copy_from_slice(b"select");
            }
            (Shape::Reindex { kind, .. }, _) if kind != "index" && kind != "table" => return None,
            (_, Some(&"call")) => return None,
            (_, Some(&"do")) if mentions_commit(statement) => return None,
            _ if Concurrent::of(statement).is_some() => {
                let token = statement.find_word(CONCURRENTLY)?;
                text[token.at..token.at + CONCURRENTLY.len()].fill(b' ');
            }
            _ => {}
        }
    }
    String::from_utf8(text).ok()
}

const CONCURRENTLY: &str = "concurrently";

fn mentions_commit(statement: &Statement) -> bool {
    let ends = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.contains("commit") || text.contains("rollback")
    };
    statement.tokens.iter().any(|token| matches!(&token.kind, TokenKind::Text(text) if ends(text)))
}
