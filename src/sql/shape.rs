//! Classifies a statement by its effect on relations, as far as its words show it.
//!
//! This is not a SQL grammar: it recognizes the forms that change schemas by their leading words. Everything else is
//! [`Shape::Other`], from which no conclusions are drawn.

pub(crate) use super::name::Name;
use super::{Statement, Token, TokenKind, cursor::Cursor};

/// A statement's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    CreateTable {
        name: Name,
        if_not_exists: bool,
        /// The tables that its foreign keys refer to.
        references: Vec<Name>,
        /// `inherits`, `like`, `partition of`, `as select … from`.
        sources: Vec<(Source, Name)>,
    },
    CreateIndex {
        name: Option<Name>,
        table: Name,
        concurrently: bool,
        if_not_exists: bool,
    },
    /// A view, sequence, function, type, …: its kind in lower case.
    Create {
        kind: String,
        name: Option<Name>,
        if_not_exists: bool,
        or_replace: bool,
        /// The table of a trigger, rule, policy or of statistics.
        on: Option<Name>,
        /// The relations that a view, or a foreign table's definition, reads.
        reads: Vec<Name>,
    },
    DropIndex {
        names: Vec<Name>,
        concurrently: bool,
    },
    Drop {
        kind: String,
        names: Vec<Name>,
        on: Option<Name>,
    },
    AlterTable {
        /// `table`, `view`, `materialized view`, `index`, `sequence`, `foreign table`.
        kind: String,
        table: Name,
        actions: Vec<Action>,
    },
    Reindex {
        /// `index`, `table`, `schema`, `database`, `system`.
        kind: String,
        name: Option<Name>,
        concurrently: bool,
    },
    Refresh {
        name: Name,
        concurrently: bool,
    },
    Truncate {
        tables: Vec<Name>,
    },
    Lock {
        tables: Vec<Name>,
        /// In upper case; `ACCESS EXCLUSIVE` by default.
        mode: String,
    },
    Vacuum {
        tables: Vec<Name>,
        full: bool,
    },
    Analyze {
        tables: Vec<Name>,
    },
    Cluster {
        table: Option<Name>,
    },
    /// `insert`, `update`, `delete`, `merge`, `copy … from`.
    Write {
        verb: &'static str,
        table: Name,
        has_where: bool,
        reads: Vec<Name>,
    },
    Select {
        reads: Vec<Name>,
        /// `for update` and similar clauses.
        locks_rows: bool,
    },
    Comment {
        kind: String,
        name: Name,
        on: Option<Name>,
    },
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Inherits,
    Like,
    PartitionOf,
    Reads,
}

/// One action of an ALTER, as its words and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) tokens: Vec<Token>,
}

impl Shape {
    /// Whether CONCURRENTLY prevents it from running in a transaction; `refresh … concurrently` can run in one.
    pub(crate) fn is_concurrent(&self) -> bool {
        match self {
            Self::CreateIndex { concurrently, .. }
            | Self::DropIndex { concurrently, .. }
            | Self::Reindex { concurrently, .. } => *concurrently,
            Self::AlterTable { actions, .. } => {
                actions.iter().any(|action| action.has(&["detach", "partition"]) && action.has(&["concurrently"]))
            }
            _ => false,
        }
    }
}

impl Action {
    /// The leading words.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.tokens.iter().map_while(Token::word).collect()
    }

    pub(crate) fn has(&self, phrase: &[&str]) -> bool {
        has(&self.tokens, phrase)
    }

    pub(crate) fn at(&self) -> usize {
        self.tokens.first().map_or(0, |token| token.at)
    }

    /// The tables that the action's foreign keys refer to.
    pub(crate) fn references(&self) -> Vec<Name> {
        references(&self.tokens)
    }

    /// The name after a sequence of words.
    pub(crate) fn name_after(&self, phrase: &[&str]) -> Option<Name> {
        let start = position(&self.tokens, phrase)? + phrase.len();
        Cursor { tokens: &self.tokens, at: start }.name()
    }
}

/// Whether words follow one another anywhere outside of strings and quotes.
pub(crate) fn has(tokens: &[Token], phrase: &[&str]) -> bool {
    position(tokens, phrase).is_some()
}

fn position(tokens: &[Token], phrase: &[&str]) -> Option<usize> {
    tokens
        .windows(phrase.len())
        .position(|window| window.iter().zip(phrase).all(|(token, word)| token.word() == Some(word)))
}

/// Classifies a statement.
pub(crate) fn of(statement: &Statement) -> Shape {
    let tokens = &statement.tokens;
    let mut cursor = Cursor { tokens, at: 0 };
    read(&mut cursor).unwrap_or(Shape::Other)
}

fn read(cursor: &mut Cursor<'_>) -> Option<Shape> {
    let tokens = cursor.tokens;
    match cursor.word()? {
        "create" => create(cursor),
        "drop" => drop_(cursor),
        "alter" => alter(cursor),
        "reindex" => {
            cursor.skip_parentheses();
            let kind = cursor.one_of(&["index", "table", "schema", "database", "system"])?.to_owned();
            let concurrently = cursor.take(&["concurrently"]) || options_say(tokens, "concurrently");
            Some(Shape::Reindex { kind, name: cursor.name(), concurrently })
        }
        "refresh" => {
            cursor.take(&["materialized", "view"]).then_some(())?;
            let concurrently = cursor.take(&["concurrently"]);
            Some(Shape::Refresh { concurrently, name: cursor.name()? })
        }
        "truncate" => {
            cursor.take(&["table"]);
            Some(Shape::Truncate { tables: cursor.names() })
        }
        "lock" => {
            cursor.take(&["table"]);
            let tables = cursor.names();
            let words: Vec<&str> = tokens[cursor.at..].iter().filter_map(Token::word).collect();
            let mode = match words.as_slice() {
                ["in", mode @ .., "mode"] | ["in", mode @ .., "mode", "nowait"] => mode.join(" ").to_uppercase(),
                _ => "ACCESS EXCLUSIVE".into(),
            };
            Some(Shape::Lock { tables, mode })
        }
        "vacuum" => {
            let mut full = options_say(tokens, "full");
            cursor.skip_parentheses();
            while let Some(word) = cursor.one_of(&["full", "freeze", "verbose", "analyze"]) {
                full |= word == "full";
            }
            Some(Shape::Vacuum { full, tables: cursor.names() })
        }
        "analyze" | "analyse" => {
            cursor.skip_parentheses();
            cursor.take(&["verbose"]);
            Some(Shape::Analyze { tables: cursor.names() })
        }
        "cluster" => {
            cursor.skip_parentheses();
            cursor.take(&["verbose"]);
            Some(Shape::Cluster { table: cursor.name() })
        }
        "comment" => comment(cursor),
        verb @ ("insert" | "update" | "delete" | "merge" | "copy" | "select" | "with" | "table" | "values") => {
            Some(rows(verb.to_owned().as_str(), cursor))
        }
        _ => None,
    }
}

fn create(cursor: &mut Cursor<'_>) -> Option<Shape> {
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
            (&["partition", "of"][..], Source::PartitionOf),
            (&["inherits"], Source::Inherits),
            (&["like"], Source::Like),
        ] {
            if let Some(start) = position(behind, phrase) {
                let mut inner = Cursor { tokens: behind, at: start + phrase.len() };
                inner.take_sign('(');
                sources.extend(inner.names().into_iter().map(|name| (source, name)));
            }
        }
        // `create table x as select …`, not `generated always as (…)`.
        let is_query = cursor.peek_word() == Some("as");
        if is_query {
            sources.extend(reads(behind).into_iter().map(|name| (Source::Reads, name)));
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

fn drop_(cursor: &mut Cursor<'_>) -> Option<Shape> {
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

fn alter(cursor: &mut Cursor<'_>) -> Option<Shape> {
    let kind = cursor.kind()?;
    if !["table", "view", "materialized view", "index", "sequence", "foreign table"].contains(&kind.as_str()) {
        let name = cursor.name();
        return (kind == "type").then_some(Shape::AlterTable {
            kind,
            table: name?,
            actions: vec![Action { tokens: cursor.tokens[cursor.at..].to_vec() }],
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
            TokenKind::Sign('(' | '[') => depth += 1,
            TokenKind::Sign(')' | ']') => depth = depth.saturating_sub(1),
            TokenKind::Sign(',') if depth == 0 => {
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

fn comment(cursor: &mut Cursor<'_>) -> Option<Shape> {
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

/// Queries and statements that change rows.
fn rows(verb: &str, cursor: &mut Cursor<'_>) -> Shape {
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
    let mut inner = Cursor { tokens, at: at + 1 };
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
        "copy" if has(tokens, &["from"]) && !inner.peek_sign('(') => writes("copy", inner.name(), at),
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
            TokenKind::Sign('(') => depth += 1,
            TokenKind::Sign(')') => depth = depth.saturating_sub(1),
            TokenKind::Word(word) if depth == 0 => {
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

/// The tables after FROM, JOIN and USING, without functions and subqueries.
fn reads(tokens: &[Token]) -> Vec<Name> {
    let mut found: Vec<Name> = Vec::new();
    // The word before each open parenthesis.
    let mut open: Vec<Option<&str>> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::Sign('(') => open.push(at.checked_sub(1).and_then(|before| tokens[before].word())),
            TokenKind::Sign(')') => drop(open.pop()),
            _ => {}
        }
        let is_list = matches!(token.word(), Some("from" | "join" | "using"));
        // `extract(epoch from x)` and `is distinct from x` name no table.
        let in_function =
            open.last().is_some_and(|word| matches!(word, Some("extract" | "substring" | "trim" | "overlay")));
        let distinct = at.checked_sub(1).is_some_and(|before| tokens[before].word() == Some("distinct"));
        if !is_list || in_function || distinct {
            continue;
        }
        let mut cursor = Cursor { tokens, at: at + 1 };
        loop {
            cursor.take(&["only"]);
            cursor.take(&["lateral"]);
            let Some(name) = cursor.name() else { break };
            if !cursor.peek_sign('(') {
                found.push(name);
            } else {
                break;
            }
            cursor.take(&["as"]);
            if cursor.peek_word().is_some_and(|word| !KEYWORDS.contains(&word)) {
                cursor.at += 1;
            }
            if !cursor.take_sign(',') {
                break;
            }
        }
    }
    let names: Vec<String> = common_tables(tokens);
    found.retain(|name| name.schema.is_some() || !names.contains(&name.name));
    found
}

/// Words that can follow a table's name and are not an alias.
const KEYWORDS: &[&str] = &[
    "where",
    "join",
    "left",
    "right",
    "inner",
    "outer",
    "full",
    "cross",
    "natural",
    "on",
    "using",
    "group",
    "order",
    "limit",
    "having",
    "union",
    "intersect",
    "except",
    "set",
    "returning",
    "when",
    "for",
    "offset",
    "fetch",
    "window",
    "values",
    "select",
    "with",
    "tablesample",
];

/// The names that a WITH defines.
fn common_tables(tokens: &[Token]) -> Vec<String> {
    tokens
        .windows(3)
        .filter(|window| {
            window[1].word() == Some("as") && (window[2].is_sign('(') || window[2].word() == Some("materialized"))
        })
        .filter_map(|window| window[0].name().map(ToOwned::to_owned))
        .collect()
}

fn references(tokens: &[Token]) -> Vec<Name> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.word() == Some("references")
            && let Some(name) = (Cursor { tokens, at: at + 1 }).name()
        {
            found.push(name);
        }
    }
    found
}

/// The name after a word, from a position on.
fn after(tokens: &[Token], from: usize, phrase: &[&str]) -> Option<Name> {
    let start = position(tokens.get(from..)?, phrase)? + from + phrase.len();
    Cursor { tokens, at: start }.name()
}

/// Whether a list of options directly after the first word switches one on.
fn options_say(tokens: &[Token], option: &str) -> bool {
    options(tokens).any(|(name, value)| name == option && value != Some(false))
}

/// The options in a list directly after the first word, and whether each is switched on or off; `None` if the value is a
/// number.
pub(super) fn options(tokens: &[Token]) -> impl Iterator<Item = (&str, Option<bool>)> {
    let list = tokens.get(1).filter(|token| token.is_sign('(')).and(tokens.get(2..)).unwrap_or_default();
    let list = list.split(|token| token.is_sign(')')).next().unwrap_or_default();
    list.split(|token| token.is_sign(',')).filter_map(|one| {
        let value = match one.get(1) {
            None => Some(true),
            Some(token) => match token.word().or(token.text()) {
                Some("false" | "off") => Some(false),
                Some(_) => Some(true),
                None => None,
            },
        };
        Some((one.first()?.word()?, value))
    })
}
