//! Protects cgk's own tables and functions. A file that changes them would make the ledger incorrect.

use super::{Lint, LintFault};
use crate::{
    migrate::{execute::step_log::STEPS_TABLE, ledger::LEDGER_TABLE},
    sql::{Statement, Token},
};

/// The prefix of cgk's objects in `public`.
const PREFIX: &str = "cgk_";

pub(super) fn protected_names(statement: &Statement) -> Option<LintFault> {
    let tokens = &statement.tokens;
    let first = tokens.first().and_then(Token::word)?;
    let reason = |name: &str| format!("{name} belongs to cgk: a file must not create, change, read or drop it");
    let named = tokens.iter().find_map(|token| {
        let name = token.name()?;
        (is_ledger(name)).then(|| (token.at, Lint::ProtectedName, reason(name)))
    });
    if named.is_some() {
        return named;
    }
    // Text that runs later or inside a string is not parsed as SQL here. A mention of the name is enough.
    let runs_text = matches!(first, "do" | "create" | "execute" | "prepare");
    let mentioned =
        tokens.iter().filter(|_| runs_text && first != "create" || makes_routine(tokens)).find_map(|token| {
            let name =
                [STEPS_TABLE, LEDGER_TABLE].into_iter().find(|name| mentions(token.text().unwrap_or(""), name))?;
            let reason = format!("the text of a block or a function contains {name}, which belongs to cgk");
            Some((token.at, Lint::ProtectedMention, reason))
        });
    if mentioned.is_some() {
        return mentioned;
    }
    // Reading and calling cgk's public objects is allowed. They must not be the object of the statement or a table that
    // it writes.
    matches!(
        first,
        "create"
            | "alter"
            | "drop"
            | "truncate"
            | "insert"
            | "update"
            | "delete"
            | "merge"
            | "copy"
            | "comment"
            | "lock"
            | "grant"
            | "revoke"
            | "with"
    )
    .then(|| changed_names(tokens).into_iter().find(|token| token.name().is_some_and(|name| name.starts_with(PREFIX))))
    .flatten()
    .map(|token| (token.at, Lint::ProtectedName, reason(token.name().unwrap_or_default())))
}

fn is_ledger(name: &str) -> bool {
    name == LEDGER_TABLE || name == STEPS_TABLE
}

fn makes_routine(tokens: &[Token]) -> bool {
    let words: Vec<&str> = tokens.iter().take(4).filter_map(Token::word).collect();
    words.first() == Some(&"create") && words.iter().any(|word| matches!(*word, "function" | "procedure"))
}

/// Returns the names at the positions where a statement says what it changes.
fn changed_names(tokens: &[Token]) -> Vec<&Token> {
    const BEFORE: &[&str] = &[
        "table",
        "view",
        "sequence",
        "function",
        "procedure",
        "index",
        "trigger",
        "type",
        "domain",
        "into",
        "update",
        "exists",
        "only",
        "copy",
        "to",
        "policy",
        "on",
        "schema",
        "truncate",
    ];
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let is_place = token.word().is_some_and(|word| BEFORE.contains(&word))
            || token.word() == Some("from") && index > 0 && tokens[index - 1].word() == Some("delete");
        let Some(name) = tokens.get(index + 1).filter(|name| is_place && name.name().is_some()) else { continue };
        match tokens.get(index + 3).filter(|_| tokens.get(index + 2).is_some_and(|dot| dot.is_sign('.'))) {
            Some(qualified) => found.push(qualified),
            None => found.push(name),
        }
    }
    found
}

/// Whether a text contains a name as a separate word.
fn mentions(text: &str, name: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    text.match_indices(name)
        .any(|(at, _)| !is_part(text[..at].chars().next_back()) && !is_part(text[at + name.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::cut;

    fn place(text: &str) -> Option<usize> {
        let statements = cut(text).unwrap().statements;
        statements.iter().find_map(protected_names).map(|(at, ..)| at)
    }

    #[test]
    fn cgks_own_is_left_alone() {
        for (text, at) in [
            ("delete from schema_migrations", 12),
            ("delete from only \"schema_migrations\" where true", 17),
            ("truncate a, tenant_x.schema_migrations", 21),
            ("drop table if exists SCHEMA_MIGRATIONS", 21),
            ("create table if not exists schema_migrations (version text)", 27),
            ("create table public.schema_migration_steps ()", 20),
            ("alter table x rename to schema_migrations", 24),
            ("with d as (delete from schema_migrations returning 1) select * from d", 23),
            ("create view v as select * from schema_migrations", 31),
            ("comment on table schema_migrations is null", 17),
            ("do $$ begin delete from Schema_Migrations; end $$", 3),
            ("do language plpgsql 'begin drop table schema_migration_steps; end'", 20),
            ("create or replace function f() returns void language sql as 'truncate schema_migrations'", 60),
            ("drop table public.cgk_runs", 18),
            ("create or replace function public.cgk_database_tag() returns text language sql as ''", 34),
            ("update cgk_run_schemas set result = 'migrated'", 7),
            ("insert into public.cgk_runs (id) values (1)", 19),
            ("delete from cgk_runs", 12),
            ("alter table if exists cgk_runs add x int", 22),
            ("create index on cgk_runs (id)", 16),
        ] {
            assert_eq!(place(text), Some(at), "{text}");
        }
        for text in [
            "create table notes (a text default 'schema_migrations')",
            "do $$ begin perform my_schema_migrations_x(); end $$",
            "select public.cgk_database_tag()",
            "create policy p on t using (a = public.cgk_organization())",
            "create table t (cgk_id int)",
            "create table schema_migrations_old ()",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
