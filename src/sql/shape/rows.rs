//! Classifies queries, and the statements that change rows.

use super::{
    super::{SqlTokenKind, Token, cursor::TokenCursor, name::Name},
    RowSource, RowWrite, Shape,
    words::{has, is_always_true, reads},
};

/// Classifies a query, or a statement that changes rows.
pub(super) fn rows(verb: &str, cursor: &mut TokenCursor<'_>) -> Shape {
    let tokens = cursor.tokens;
    let reads = reads(tokens);
    let writes = |verb: &'static str, table: Option<Name>| {
        table.map(|table| Shape::Write {
            verb,
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
            writes(if verb == "insert" { "insert" } else { "merge" }, inner.name())
        }
        "update" => {
            inner.take(&["only"]);
            writes("update", inner.name())
        }
        "delete" => {
            inner.take(&["from"]);
            inner.take(&["only"]);
            writes("delete", inner.name())
        }
        // What follows FROM is not a table.
        "copy" if has(tokens, &["from"]) && !inner.peek_sign('(') => {
            inner.name().map(|table| Shape::Write { verb: "copy", table, reads: vec![] })
        }
        _ => Some(match new_table(tokens, at) {
            Some(name) => Shape::CreateTable {
                name,
                if_not_exists: false,
                references: vec![],
                sources: reads.iter().map(|read| (RowSource::Reads, read.clone())).collect(),
            },
            None => {
                let locks_rows = ["update", "share", "no", "key"].iter().any(|word| has(tokens, &["for", word]));
                Shape::Select { reads: reads.clone(), locks_rows }
            }
        }),
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

/// Returns the table that `select … into` creates.
fn new_table(tokens: &[Token], select: usize) -> Option<Name> {
    let into = outer(tokens, select, "into")?;
    let mut cursor = TokenCursor { tokens, at: into + 1 };
    while cursor.one_of(&["global", "local", "temp", "temporary", "unlogged", "table"]).is_some() {}
    cursor.name()
}

/// Returns every write to rows in a statement, also those in its WITH, in COPY, PREPARE and EXPLAIN ANALYZE.
pub(super) fn writes(tokens: &[Token]) -> Vec<RowWrite> {
    let runs = match tokens.first().and_then(Token::word) {
        Some("with" | "insert" | "update" | "delete" | "merge" | "copy" | "prepare") => true,
        Some("explain") => has(tokens, &["analyze"]),
        _ => false,
    };
    if !runs {
        return Vec::new();
    }
    (0..tokens.len()).filter(|at| starts_part(tokens, *at)).filter_map(|at| write(tokens, at)).collect()
}

/// Whether a statement, or a part of its WITH, starts at a position.
fn starts_part(tokens: &[Token], at: usize) -> bool {
    let before = |by: usize| at.checked_sub(by).map(|before| &tokens[before]);
    match before(1) {
        None => true,
        Some(open) if open.is_sign('(') => {
            matches!(before(2).and_then(Token::word), Some("as" | "materialized" | "copy"))
        }
        // `prepare p as delete …`, `explain analyze delete …`
        Some(word) if matches!(word.word(), Some("as" | "analyze" | "verbose")) => true,
        // After the last part of a WITH, or after options.
        Some(close) => close.is_sign(')'),
    }
}

fn write(tokens: &[Token], at: usize) -> Option<RowWrite> {
    let mut cursor = TokenCursor { tokens, at: at + 1 };
    let verb = ["insert", "update", "delete", "merge"].into_iter().find(|verb| tokens[at].word() == Some(verb))?;
    let is_complete = match verb {
        "insert" | "merge" => cursor.take(&["into"]),
        "delete" => cursor.take(&["from"]),
        _ => true,
    };
    cursor.take(&["only"]);
    let table = cursor.name().filter(|_| is_complete)?;
    let chooses_rows = outer(tokens, at, "where").is_some_and(|found| {
        let end = outer(tokens, found, "returning").unwrap_or_else(|| end(tokens, found));
        !is_always_true(&tokens[found + 1..end])
    });
    let changes_rows = match verb {
        "merge" => has(&tokens[at..], &["then", "update"]) || has(&tokens[at..], &["then", "delete"]),
        verb => verb != "insert",
    };
    Some(RowWrite { verb, at: tokens[at].at, table, chooses_rows, changes_rows })
}

/// Returns the position of a word after `from` that is in no parentheses of its own, before the end of its part.
fn outer(tokens: &[Token], from: usize, word: &str) -> Option<usize> {
    let mut depth = 0usize;
    (from + 1..end(tokens, from)).find(|at| {
        match tokens[*at].kind {
            SqlTokenKind::Sign('(') => depth += 1,
            SqlTokenKind::Sign(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && tokens[*at].word() == Some(word)
    })
}

/// Returns the end of the parentheses around a position, or of the statement.
fn end(tokens: &[Token], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        match token.kind {
            SqlTokenKind::Sign('(') => depth += 1,
            SqlTokenKind::Sign(')') if depth == 0 => return at,
            SqlTokenKind::Sign(')') => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}
