//! Warnings about effects outside of the migrated schema, and of other schemas on it: objects of the database and of the
//! server, roles that can read everything, functions that another session calls with another search path, and questions
//! to the catalogue that other schemas answer.

use super::{Lint, LintFault};
use crate::sql::{
    SqlTokenKind, Statement, Token, cut,
    shape::{self, Shape},
};
use std::collections::BTreeSet;

/// Finds objects that are in no schema, and rights that apply to all of them.
pub(super) fn of_database(statement: &Statement, faults: &mut Vec<LintFault>) {
    let start = statement.range.start;
    let words = statement.leading_words();
    let found = match words.as_slice() {
        [verb @ ("create" | "alter" | "drop"), what, ..]
            if ["role", "user", "group", "schema", "publication", "subscription", "server", "language"].contains(what)
                // `create user mapping for x`
                && !(*what == "user" && words.get(2) == Some(&"mapping")) =>
        {
            Some(format!("{verb} {what}").to_uppercase())
        }
        [verb @ ("create" | "alter" | "drop"), "event", "trigger", ..] => {
            Some(format!("{verb} event trigger").to_uppercase())
        }
        ["alter", "database", ..] => Some("ALTER DATABASE".into()),
        // Without IN SCHEMA, it applies to the objects of every schema, including those of all tenants.
        ["alter", "default", "privileges", ..] if !shape::has(&statement.tokens, &["in", "schema"]) => {
            Some("ALTER DEFAULT PRIVILEGES without IN SCHEMA".into())
        }
        ["reassign" | "drop", "owned", ..] => Some(format!("{} OWNED", words[0].to_uppercase())),
        _ => None,
    };
    if let Some(found) = found {
        let reason =
            format!("{found} concerns the whole database or server, and the file runs in each schema of its set");
        faults.push((start, Lint::DatabaseWide, reason));
    }
    // `grant pg_read_all_data to x`. A grant of privileges contains ON.
    if words.first() == Some(&"grant") && !shape::has(&statement.tokens, &["on"]) {
        let names = statement.tokens.iter().skip(1).take_while(|token| token.word() != Some("to"));
        for token in names.filter(|token| token.name().is_some_and(|name| name.starts_with("pg_"))) {
            let reason =
                format!("{} can read every schema, also those of other tenants", token.name().unwrap_or_default());
            faults.push((token.at, Lint::PredefinedRole, reason));
        }
    }
}

/// Finds rights for PUBLIC on relations that contain rows, now or as a default. Functions and types are granted to
/// PUBLIC by default.
pub(super) fn of_grant(statement: &Statement, faults: &mut Vec<LintFault>) {
    let tokens = &statement.tokens;
    let words = statement.leading_words();
    let grants = words.first() == Some(&"grant")
        || words.starts_with(&["alter", "default", "privileges"]) && shape::has(tokens, &["grant"]);
    let Some(on) = tokens.iter().position(|token| token.word() == Some("on")).filter(|_| grants) else { return };
    let kind = tokens.get(on + 1).and_then(Token::word);
    let kind = if kind == Some("all") { tokens.get(on + 2).and_then(Token::word) } else { kind };
    if matches!(
        kind,
        Some("function" | "functions" | "procedure" | "procedures" | "routine" | "routines")
            | Some("type" | "types" | "domain" | "language" | "foreign" | "database" | "tablespace" | "parameter")
    ) {
        return;
    }
    let Some(to) = tokens.iter().rposition(|token| token.word() == Some("to")).filter(|to| *to > on) else { return };
    if let Some(public) = tokens[to..].iter().find(|token| token.name() == Some("public")) {
        let reason = "PUBLIC includes the roles of all tenants and every login of the server".into();
        faults.push((public.at, Lint::GrantToPublic, reason));
    }
}

/// Finds functions without a fixed search path that the server calls later: in generated columns, in indexes, in
/// checks. A restore evaluates these with an empty path, and the function then does not find its objects.
pub(super) fn of_functions(statement: &Statement, pathless: &mut BTreeSet<String>, faults: &mut Vec<LintFault>) {
    let tokens = &statement.tokens;
    match shape::of(statement) {
        Shape::Create { kind, name: Some(name), .. } if kind == "function" => {
            // A SQL-standard body is bound when the function is created.
            let is_bound = shape::has(tokens, &["begin", "atomic"]) || shape::has(tokens, &["return"]);
            let has_path = shape::has(tokens, &["set", "search_path"]);
            if is_bound || has_path {
                pathless.remove(&name.name);
            } else {
                pathless.insert(name.name);
            }
        }
        Shape::AlterTable { .. } | Shape::CreateTable { .. } | Shape::CreateIndex { .. } => {
            for range in kept_expressions(tokens) {
                let calls = tokens[range.clone()].windows(2).filter(|pair| pair[1].is_sign('('));
                for call in calls {
                    let Some(name) = call[0].name().filter(|name| pathless.contains(*name)) else { continue };
                    let reason = format!(
                        "the server calls {name} later, and it sets no search path: a restored dump does not find the \
                         objects that it uses"
                    );
                    faults.push((call[0].at, Lint::UnsetSearchPath, reason));
                }
            }
        }
        _ => {}
    }
}

/// Lists of objects of every schema.
const CATALOGUES: [&str; 22] = [
    "pg_attrdef",
    "pg_class",
    "pg_collation",
    "pg_constraint",
    "pg_enum",
    "pg_index",
    "pg_indexes",
    "pg_matviews",
    "pg_opclass",
    "pg_operator",
    "pg_policies",
    "pg_policy",
    "pg_proc",
    "pg_rules",
    "pg_sequences",
    "pg_statistic_ext",
    "pg_stat_user_tables",
    "pg_tables",
    "pg_trigger",
    "pg_ts_config",
    "pg_type",
    "pg_views",
];

/// Finds questions to the catalogue that name no schema, also in the body of a function or a `do` block. In the schema
/// of the first tenant, `if not exists (select from pg_tables where tablename = 'x')` is true; in that of the second it
/// is not.
pub(super) fn of_catalogue(statement: &Statement, faults: &mut Vec<LintFault>) {
    let is_code = statement.leading_words().iter().any(|word| ["do", "function", "procedure"].contains(word));
    let texts = statement.tokens.iter().filter(|_| is_code).filter_map(Token::text);
    let bodies: Vec<Statement> = texts.filter_map(|body| cut(body).ok()).flat_map(|body| body.statements).collect();
    let parts = std::iter::once(&statement.tokens).chain(bodies.iter().map(|inner| &inner.tokens));
    // Each statement of a body is a question of its own.
    let found: BTreeSet<String> = parts.filter(|part| !chooses_a_schema(part)).filter_map(|part| asked(part)).collect();
    for found in found {
        let reason = format!("{found} lists the objects of all schemas, also those of other tenants");
        faults.push((statement.range.start, Lint::LooksInEverySchema, reason));
    }
}

/// Returns the first list of the catalogue that a statement reads.
fn asked(tokens: &[Token]) -> Option<String> {
    tokens.iter().enumerate().find_map(|(index, token)| {
        let name = token.name()?;
        let next = |by: usize| tokens.get(index + by);
        if name == "information_schema" && next(1)?.is_sign('.') {
            return Some(format!("information_schema.{}", next(2)?.name()?));
        }
        let is_call = next(1).is_some_and(|next| next.is_sign('('));
        (CATALOGUES.contains(&name) && !is_call).then(|| name.to_owned())
    })
}

/// Whether a statement compares a schema with one, or an object that was found in one. Two columns that are compared
/// with each other choose none, as in a join.
fn chooses_a_schema(tokens: &[Token]) -> bool {
    let is_schema = |name: &str| name.contains("schema") && name != "information_schema" || name == "nspname";
    let function =
        ["current_schema", "current_schemas", "regclass", "regtype", "regproc", "regprocedure", "regnamespace"];
    tokens.iter().enumerate().any(|(index, token)| {
        let Some(name) = token.name() else { return false };
        if function.contains(&name) || name.starts_with("to_reg") || name.ends_with("_is_visible") {
            return true;
        }
        let after = |by: usize| tokens.get(index + by);
        let equal = after(1).is_some_and(|sign| sign.is_sign('='));
        let (value, is_qualified) = (after(2).and_then(Token::name), after(3).is_some_and(|sign| sign.is_sign('.')));
        if name == "oid" || name.ends_with("relid") {
            // A variable or a parameter. The columns of other tables of the catalogue end in the same way.
            return equal && !is_qualified && value.is_some_and(|value| !value.ends_with("id"));
        }
        // `= 'x'`, `= any (…)` and `in ('x')`, but neither `<> 'x'` nor `not in (…)`, which leave the tenants in.
        let is_value = value.is_none_or(|value| value == "any" || value.starts_with("current_"));
        let listed = after(1).and_then(Token::word) == Some("in");
        is_schema(name) && (listed || equal && (is_value || !is_qualified))
    })
}

/// Returns the parentheses after `generated always as` and `check`, and those of an index.
fn kept_expressions(tokens: &[Token]) -> Vec<std::ops::Range<usize>> {
    let is_index = tokens.iter().take(4).any(|token| token.word() == Some("index"));
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate().filter(|(_, token)| token.is_sign('(')) {
        let before = index.checked_sub(1).map(|before| &tokens[before]);
        let word = before.and_then(Token::word);
        let generated = word == Some("as") && index > 1 && tokens[index - 2].word() == Some("always");
        if generated || word == Some("check") || is_index && token.kind == SqlTokenKind::Sign('(') {
            found.push(index..end_of(tokens, index));
            if is_index {
                break;
            }
        }
    }
    found
}

fn end_of(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            SqlTokenKind::Sign('(') => depth += 1,
            SqlTokenKind::Sign(')') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Lint> {
        let (mut faults, mut pathless) = (Vec::<LintFault>::new(), BTreeSet::new());
        for statement in cut(text).unwrap().statements {
            of_database(&statement, &mut faults);
            of_grant(&statement, &mut faults);
            of_functions(&statement, &mut pathless, &mut faults);
            of_catalogue(&statement, &mut faults);
        }
        faults.into_iter().map(|(_, lint, _)| lint).collect()
    }

    #[test]
    fn what_is_beyond_the_schema_is_told() {
        for text in [
            "create schema x",
            "create role r",
            "alter user r set a = 1",
            "create publication p for all tables",
            "drop subscription s",
            "create event trigger e on ddl_command_end execute function f()",
            "alter database d set a = 1",
            "drop owned by r",
            "alter default privileges revoke execute on functions from public",
            "alter default privileges for role r grant select on tables to app",
        ] {
            assert_eq!(found(text), [Lint::DatabaseWide], "{text}");
        }
        assert_eq!(found("grant pg_read_all_data, x to y"), [Lint::PredefinedRole]);
        for text in [
            "grant select on pg_stats to pg_monitor",
            "grant x to pg_y",
            "create table role (schema int)",
            "drop table x",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn rights_for_everybody_are_told() {
        for text in [
            "grant select on t to public",
            "grant select (a), update on table t, u to app, PUBLIC",
            "grant all privileges on all tables in schema public to \"public\" with grant option",
            "grant usage, select on sequence s to public",
            "grant usage on schema x to public",
            "alter default privileges in schema x grant select on tables to public",
            "alter default privileges for role r in schema x grant insert on tables to app, public",
        ] {
            assert_eq!(found(text), [Lint::GrantToPublic], "{text}");
        }
        let everywhere = found("alter default privileges grant select on tables to public");
        assert_eq!(everywhere, [Lint::DatabaseWide, Lint::GrantToPublic]);
        for text in [
            "grant select on public.t to app",
            "grant select on all tables in schema public to app",
            "grant execute on function f() to public",
            "grant usage on type e to public",
            "revoke select on t from public",
            "alter default privileges in schema x revoke execute on functions from public",
            "grant r to x",
            "create policy p on t to public using (true)",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn functions_that_the_server_keeps_calling_need_a_path() {
        let f = |more: &str| format!("create function f(a text) returns text immutable language sql {more};");
        let uses = [
            "create table t (a text, b text generated always as (upper(f(a))) stored)",
            "create index i on t using btree (a, f(b)) where f(a) is not null",
            "alter table t add check (f(a) > 'x')",
        ];
        for text in uses {
            assert_eq!(found(&format!("{} {text}", f("as 'select g(a)'"))), [Lint::UnsetSearchPath], "{text}");
            for bound in
                ["set search_path from current as 'select g(a)'", "return g(a)", "begin atomic select g(a); end"]
            {
                assert_eq!(found(&format!("{} {text}", f(bound))), [], "{text} {bound}");
            }
        }
        assert_eq!(found(&format!("{} create table t (a text default f('x'))", f("as 'select g(a)'"))), []);
    }

    #[test]
    fn a_question_to_the_catalogue_names_a_schema() {
        for text in [
            "do $$ begin if not exists (select from pg_tables where tablename = 'x') then create table x (); end if; end $$",
            "DO 'begin perform 1 from information_schema.columns where table_name = ''x''; end'",
            "do language plpgsql $$ declare n int := (select count(*) from pg_catalog.pg_class where relname = 'x'); begin end $$",
            "create function f() returns bool language sql as $$ select exists (select from pg_indexes where indexname = 'i') $$",
            "create function f() returns bool language sql begin atomic select exists (select from pg_type where typname = 't'); end",
            "insert into t select conname from pg_constraint where contype = 'f'",
            "create view v as select * from Pg_Views",
            // A join of the catalogue's own tables chooses no schema.
            "do $$ begin perform from pg_attribute a join pg_class c on c.oid = a.attrelid where c.relname = 'x'; end $$",
            "do $$ begin perform from pg_enum where enumtypid = (select oid from pg_type where typname = 't'); end $$",
            "do $$ begin perform from pg_class c join pg_namespace n on n.oid = c.relnamespace where relname = 'x'; end $$",
            "do $$ begin perform from information_schema.table_constraints tc join information_schema.key_column_usage k
                 on tc.table_schema = k.table_schema where tc.table_name = 'x'; end $$",
            "do $$ begin perform from information_schema.tables where table_schema not in ('pg_catalog'); end $$",
            "do $$ begin perform from pg_views where schemaname <> 'pg_catalog'; end $$",
            "do $$ begin perform current_schema(); perform from pg_type where typname = 't'; end $$",
        ] {
            assert_eq!(found(text), [Lint::LooksInEverySchema], "{text}");
        }
        let two = "do $$ begin perform from pg_type where typname = 't'; perform from pg_tables where tablename = 't'; end $$";
        assert_eq!(found(two), [Lint::LooksInEverySchema, Lint::LooksInEverySchema]);
        for text in [
            "do $$ begin perform from pg_tables where tablename = 'x' and schemaname = current_schema(); end $$",
            "do $$ begin perform from pg_class where oid = 'x'::regclass; end $$",
            "do $$ begin perform from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = s; end $$",
            "do $$ begin perform from information_schema.tables where table_schema = current_schema; end $$",
            "do $$ begin perform from pg_tables where schemaname = any (current_schemas(false)); end $$",
            "do $$ begin perform from pg_tables where current_schema() = schemaname and tablename = 'x'; end $$",
            "do $$ begin perform from pg_tables where schemaname in ('public'); end $$",
            "create function f(part regclass) returns name language sql as 'select relname from pg_class c where c.oid = part'",
            "do $$ begin perform from pg_constraint where conrelid = to_regclass('x'); end $$",
            "do $$ begin if to_regclass('pg_tables') is null then return; end if; end $$",
            "do $$ begin perform from pg_type where pg_type_is_visible(oid); end $$",
            "insert into t values ('pg_tables')",
            "select pg_stat_user_tables(1)",
            "create table t (information_schema text)",
            "comment on table t is 'it''s pg_class'",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
