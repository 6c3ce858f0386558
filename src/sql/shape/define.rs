//! Classifies the statements that define objects: CREATE, DROP, ALTER and COMMENT.

use super::{
    super::{SqlTokenKind, Token, cursor::TokenCursor, name::Name},
    Action, RowSource, Shape,
    words::{after, position, reads, references},
};

pub(super) fn create(cursor: &mut TokenCursor<'_>) -> Option<Shape> {
    let or_replace = cursor.take(&["or", "replace"]);
    while cursor
        .one_of(&["global", "local", "temp", "temporary", "unlogged", "recursive", "unique", "constraint", "trusted"])
        .is_some()
    {}
    let kind = cursor.kind()?;
    let rest = cursor.tokens;
    if kind == "index" {
        let concurrently = cursor.take(&["concurrently"]);
        let if_not_exists = cursor.take(&["if", "not", "exists"]);
        let name = if cursor.peek_word() == Some("on") { None } else { cursor.name() };
        cursor.take(&["on"]).then_some(())?;
        cursor.take(&["only"]);
        return Some(Shape::CreateIndex { name, table: cursor.name()?, concurrently, if_not_exists });
    }
    let if_not_exists = cursor.take(&["if", "not", "exists"]);
    let name = cursor.name();
    if kind == "table" {
        let behind = &rest[cursor.at..];
        let mut sources = Vec::new();
        for (phrase, source) in [
            (&["partition", "of"][..], RowSource::PartitionOf),
            (&["inherits"], RowSource::Inherits),
            (&["like"], RowSource::Like),
        ] {
            if let Some(start) = position(behind, phrase) {
                let mut inner = TokenCursor { tokens: behind, at: start + phrase.len() };
                inner.take_sign('(');
                sources.extend(inner.names().into_iter().map(|name| (source, name)));
            }
        }
        // `create table x as select …`, not `generated always as (…)`.
        let is_query = cursor.peek_word() == Some("as");
        if is_query {
            sources.extend(reads(behind).into_iter().map(|name| (RowSource::Reads, name)));
        }
        return Some(Shape::CreateTable { name: name?, if_not_exists, references: references(behind), sources });
    }
    let on = match kind.as_str() {
        "trigger" | "event trigger" | "policy" => after(rest, cursor.at, &["on"]),
        "rule" => after(rest, cursor.at, &["to"]),
        "statistics" => after(rest, cursor.at, &["from"]),
        _ => None,
    };
    let reads = if matches!(kind.as_str(), "view" | "materialized view") { reads(&rest[cursor.at..]) } else { vec![] };
    Some(Shape::Create { kind, name, if_not_exists, or_replace, on, reads })
}

pub(super) fn drop_(cursor: &mut TokenCursor<'_>) -> Option<Shape> {
    let kind = cursor.kind()?;
    let concurrently = cursor.take(&["concurrently"]);
    cursor.take(&["if", "exists"]);
    let names = cursor.names();
    if kind == "index" {
        return Some(Shape::DropIndex { names, concurrently });
    }
    let on = after(cursor.tokens, cursor.at, &["on"]);
    Some(Shape::Drop { kind, names, on })
}

pub(super) fn alter(cursor: &mut TokenCursor<'_>) -> Option<Shape> {
    let kind = cursor.kind()?;
    if kind == "default privileges" {
        cursor.at = position(cursor.tokens, &["in", "schema"])? + 2;
        return Some(Shape::Rights { verb: "ALTER DEFAULT PRIVILEGES", kind: "schema".into(), names: cursor.names() });
    }
    if !["table", "view", "materialized view", "index", "sequence", "foreign table"].contains(&kind.as_str()) {
        let name = cursor.name()?;
        let on = match kind.as_str() {
            "trigger" | "rule" | "policy" => after(cursor.tokens, cursor.at, &["on"]),
            _ => None,
        };
        let action = Action { tokens: cursor.tokens[cursor.at..].to_vec() };
        return Some(match kind.as_str() {
            "type" => Shape::AlterTable { kind, table: name, actions: vec![action] },
            _ => Shape::Alter { kind, name, on, action },
        });
    }
    cursor.take(&["if", "exists"]);
    cursor.take(&["only"]);
    let table = cursor.name()?;
    if cursor.peek_sign('*') {
        cursor.at += 1;
    }
    let mut actions = Vec::new();
    let (mut depth, mut tokens) = (0usize, Vec::new());
    for token in &cursor.tokens[cursor.at..] {
        match token.kind {
            SqlTokenKind::Sign('(' | '[') => depth += 1,
            SqlTokenKind::Sign(')' | ']') => depth = depth.saturating_sub(1),
            SqlTokenKind::Sign(',') if depth == 0 => {
                actions.push(Action { tokens: std::mem::take(&mut tokens) });
                continue;
            }
            _ => {}
        }
        tokens.push(token.clone());
    }
    actions.push(Action { tokens });
    Some(Shape::AlterTable { kind, table, actions })
}

pub(super) fn comment(cursor: &mut TokenCursor<'_>) -> Option<Shape> {
    cursor.take(&["on"]).then_some(())?;
    let kind = cursor.kind()?;
    let mut name = cursor.name()?;
    // A column's name ends with the column: `t.c`, `s.t.c`.
    if kind == "column" {
        if cursor.peek_sign('.') {
            name = Name { schema: name.schema, name: name.name, at: name.at };
        } else {
            name = Name { name: name.schema?, schema: None, at: name.at };
        }
    }
    let on = after(cursor.tokens, cursor.at, &["on"]);
    Some(Shape::Comment { kind, name, on })
}

/// Classifies GRANT and REVOKE. A grant of a role has no ON.
pub(super) fn rights(verb: &'static str, cursor: &mut TokenCursor<'_>) -> Option<Shape> {
    cursor.at = position(cursor.tokens, &["on"])? + 1;
    if cursor.take(&["all"]) {
        // `on all tables in schema x`
        cursor.at = position(cursor.tokens, &["in", "schema"])? + 2;
        return Some(Shape::Rights { verb, kind: "schema".into(), names: cursor.names() });
    }
    let kinds = ["table", "sequence", "function", "procedure", "routine", "schema", "type", "domain"];
    let others = ["database", "language", "foreign", "large", "tablespace", "parameter"];
    let mut kind = "table";
    // A table can have one of these names.
    if cursor.tokens.get(cursor.at + 1).and_then(Token::name).is_some_and(|next| next != "to" && next != "from") {
        if cursor.peek_word().is_some_and(|word| others.contains(&word)) {
            return None;
        }
        kind = cursor.one_of(&kinds).unwrap_or(kind);
    }
    Some(Shape::Rights { verb, kind: kind.to_owned(), names: cursor.names() })
}
