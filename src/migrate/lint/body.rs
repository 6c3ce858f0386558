//! The statements inside of a `do` block and of a function, as far as the words of SQL and PL/pgSQL show where they start.

use crate::sql::{SqlTokenKind, Statement, Token, cut};

/// The body of a `do` block or of a function.
pub(super) struct Body {
    pub(super) kind: BodyKind,
    /// Its statements that define objects or change rows, with their positions in the file.
    pub(super) statements: Vec<Statement>,
    /// All of its tokens.
    pub(super) all: Statement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    /// It runs as a part of the file.
    Block,
    /// It runs when it is called.
    Routine,
}

impl Body {
    /// Returns the body of a statement that has one in SQL or PL/pgSQL.
    pub(super) fn of(statement: &Statement) -> Option<Self> {
        let tokens = &statement.tokens;
        let language = tokens.windows(2).find(|two| two[0].word() == Some("language")).and_then(|two| two[1].name());
        let kind = match statement.leading_words().as_slice() {
            ["do", ..] => BodyKind::Block,
            ["create", "or", "replace", "function" | "procedure", ..] | ["create", "function" | "procedure", ..] => {
                BodyKind::Routine
            }
            _ => return None,
        };
        if !matches!(language, None | Some("plpgsql" | "sql")) {
            return None;
        }
        let text = match kind {
            BodyKind::Block => tokens.iter().find(|token| token.text().is_some()),
            BodyKind::Routine => {
                tokens.windows(2).find(|two| two[0].word() == Some("as") && two[1].text().is_some()).map(|two| &two[1])
            }
        };
        let mut statements = Vec::new();
        let mut all = Vec::new();
        read(text?, &mut statements, &mut all);
        Some(Self { kind, statements, all: Statement { range: statement.range.clone(), tokens: all } })
    }
}

/// Reads a string with statements.
fn read(string: &Token, statements: &mut Vec<Statement>, all: &mut Vec<Token>) {
    let text = string.text().unwrap_or_default();
    // The quotes on both sides have the same length.
    let start = string.at + (string.end - string.at).saturating_sub(text.len()) / 2;
    let Ok(found) = cut(text) else { return };
    for piece in found.statements {
        let moved = |token: &Token| Token { at: token.at + start, end: token.end + start, kind: token.kind.clone() };
        let tokens: Vec<Token> = piece.tokens.iter().map(moved).collect();
        let starts: Vec<usize> = (0..tokens.len()).filter(|at| is_start(&tokens, *at)).collect();
        for (index, at) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(tokens.len());
            let part = &tokens[*at..end];
            if part[0].word() != Some("execute") {
                statements.push(Statement { range: part[0].at..part[part.len() - 1].end, tokens: part.to_vec() });
            } else if let Some(string) = executed(part) {
                read(string, statements, all);
            }
        }
        all.extend(tokens);
        let end = all.last().map_or(start, |token| token.end);
        all.push(Token { at: end, end, kind: SqlTokenKind::Sign(';') });
    }
}

/// Returns the string that EXECUTE runs: `execute 'drop table t'`, `execute format('…', …)`.
fn executed(part: &[Token]) -> Option<&Token> {
    let is_before = |token: &&Token| {
        matches!(token.word(), Some("execute" | "pg_catalog" | "format")) || token.is_sign('.') || token.is_sign('(')
    };
    part.iter().find(|token| !is_before(token)).filter(|token| token.text().is_some())
}

/// Whether a statement starts at a position: at the beginning, or after a word of PL/pgSQL.
fn is_start(tokens: &[Token], at: usize) -> bool {
    const VERBS: [&str; 16] = [
        "alter", "cluster", "comment", "create", "delete", "drop", "execute", "grant", "insert", "lock", "merge",
        "refresh", "reindex", "revoke", "truncate", "update",
    ];
    let word = tokens[at].word();
    let is_verb = word.is_some_and(|word| VERBS.contains(&word) || word == "with");
    // A variable can have such a name: `comment := 1`.
    let is_assigned = tokens.get(at + 1).is_some_and(|next| [':', '=', '.'].iter().any(|sign| next.is_sign(*sign)));
    let before = at.checked_sub(1).map(|before| &tokens[before]);
    is_verb
        && !is_assigned
        && before.is_none_or(|before| {
            // `for r in delete from t returning * loop`, `return query update …`, and the end of a label.
            matches!(before.word(), Some("begin" | "then" | "else" | "loop" | "query" | "in")) || before.is_sign('>')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The statements of a body, as written.
    fn statements(text: &str) -> Vec<String> {
        let cut = cut(text).expect("it can be cut");
        let body = Body::of(&cut.statements[0]);
        let texts = body.into_iter().flat_map(|body| body.statements);
        texts.map(|statement| text[statement.range].to_owned()).collect()
    }

    #[test]
    fn statements_of_a_block_are_found_where_they_stand() {
        for (text, found) in [
            ("do $$ begin drop table a; end $$", &["drop table a"][..]),
            ("do 'begin delete from a; end'", &["delete from a"]),
            (
                "do language plpgsql $x$ declare n int; begin if n > 1 then truncate a; else drop view b; end if; end $x$",
                &["truncate a", "drop view b"],
            ),
            ("do $$ begin for r in select 1 from a loop delete from b; end loop; end $$", &["delete from b"]),
            (
                "do $$ begin <<x>> update a set b = 1; exception when others then create table c (); end $$",
                &["update a set b = 1", "create table c ()"],
            ),
            (
                "do $$ begin for r in delete from a returning * loop insert into b values (r.x); end loop; end $$",
                &["delete from a returning * loop", "insert into b values (r.x)"],
            ),
            (
                "do $$ begin execute 'drop table a; drop table b'; execute format('truncate c'); \
                 execute pg_catalog.format('drop view %I', d); execute x using 'drop table e'; end $$",
                &["drop table a", "drop table b", "truncate c", "drop view %I"],
            ),
            (
                "do $$ begin with x as (delete from a returning *) insert into b table x; end $$",
                &["with x as (delete from a returning *) insert into b table x"],
            ),
            (
                "create function f(a text default 'drop table a') returns int language sql as 'delete from a; select 1'",
                &["delete from a"],
            ),
            ("create or replace procedure f() language plpgsql as $$ begin truncate a; end $$", &["truncate a"]),
            ("do $$ begin select x into y from a; perform f('drop table b'); comment := 1; lock.a = 2; end $$", &[]),
            ("do language plperl 'drop table a'", &[]),
            ("do $$ begin raise 'drop table %', ( $$", &[]),
            ("select $$ begin drop table a; end $$", &[]),
        ] {
            assert_eq!(statements(text), found, "{text}");
        }
    }
}
