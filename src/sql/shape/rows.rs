//! Classifies queries, and the statements that change rows.

use super::{
    super::{SqlTokenKind, Token, cursor::TokenCursor, name::Name},
    Shape,
    words::{has, reads},
};

/// Classifies a query, or a statement that changes rows.
pub(super) fn rows(verb: &str, cursor: &mut TokenCursor<'_>) -> Shape {
    let tokens = cursor.tokens;
    let reads = reads(tokens);
    let writes = |verb: &'static str, table: Option<Name>, from: usize| {
        table.map(|table| Shape::Write {
            verb,
            has_where: has(&tokens[from..], &["where"]),
            reads: reads.iter().filter(|read| read.at != table.at).cloned().collect(),
            table,
        })
    };
    // After WITH the verb is at depth zero, like any other.
    let (verb, at) = if verb == "with" {
        let Some(found) = outer_verb(tokens) else { return Shape::Other };
        found
    } else {
        (verb, 0)
    };
    let mut inner = TokenCursor { tokens, at: at + 1 };
    let written = match verb {
        "insert" | "merge" => {
            inner.take(&["into"]);
            inner.take(&["only"]);
            writes(if verb == "insert" { "insert" } else { "merge" }, inner.name(), at)
        }
        "update" => {
            inner.take(&["only"]);
            writes("update", inner.name(), at)
        }
        "delete" => {
            inner.take(&["from"]);
            inner.take(&["only"]);
            writes("delete", inner.name(), at)
        }
        // What follows FROM is not a table.
        "copy" if has(tokens, &["from"]) && !inner.peek_sign('(') => inner.name().map(|table| Shape::Write {
            verb: "copy",
            table,
            has_where: has(tokens, &["where"]),
            reads: vec![],
        }),
        _ => {
            let locks_rows = ["update", "share", "no", "key"].iter().any(|word| has(tokens, &["for", word]));
            Some(Shape::Select { reads: reads.clone(), locks_rows })
        }
    };
    written.unwrap_or(Shape::Other)
}

fn outer_verb(tokens: &[Token]) -> Option<(&'static str, usize)> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate() {
        match &token.kind {
            SqlTokenKind::Sign('(') => depth += 1,
            SqlTokenKind::Sign(')') => depth = depth.saturating_sub(1),
            SqlTokenKind::Word(word) if depth == 0 => {
                let found = ["insert", "update", "delete", "merge", "select"].iter().find(|verb| *verb == word);
                if let Some(verb) = found {
                    return Some((verb, at));
                }
            }
            _ => {}
        }
    }
    None
}
