//! Finds statements that a migration must not contain, from its text, before a server receives it.
//!
//! Each of these would break a guarantee although the run seems to succeed. A `COMMIT` in the middle leaves half a
//! migration. A changed search path creates the following tables in another schema. `CONCURRENTLY` cannot run in the
//! transaction that makes a migration atomic.

use super::{
    Finding, Lint, LintFault,
    client::client_side,
    created::{CreatedObjects, relations},
    protected::protected_names,
};
use crate::{
    migrate::files::{
        bundled::is_bundled,
        file::{MigrationFile, is_marker},
        source::Source,
    },
    sql::{
        SqlTokenKind, Statement, Token,
        shape::{self, Shape},
    },
};

/// Returns the errors of one file.
pub(super) fn file(file: &MigrationFile) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        file.comments().iter().filter_map(|range| misplaced_marker(file, range.start)).collect();
    let directives = file.refused_directives().iter();
    found.extend(directives.map(|(at, reason)| Finding::at(file, *at, Lint::Directive, reason.clone())));
    for statement in file.statements() {
        let stepwise = if file.is_transactional() { inside_only(statement) } else { stepwise(statement) };
        let faults = [
            transaction_control(statement),
            stepwise,
            beyond_the_schema(statement),
            session_state(statement),
            other_tenant(statement),
            client_side(statement),
            // A bundled migration creates cgk's own objects. A set of your own can contain it with any version.
            protected_names(statement).filter(|_| !is_bundled(file.checksum())),
        ];
        found.extend(faults.into_iter().flatten().map(|(at, lint, reason)| Finding::at(file, at, lint, reason)));
    }
    found
}

/// Returns the comments of a file that look like the heading of a rollback, each with the number of the following
/// statement.
pub(super) fn rollback_sections(file: &MigrationFile) -> Vec<(usize, Finding)> {
    let found = file.rollback_headings().iter();
    found.map(|(next, (at, reason))| (*next, Finding::at(file, *at, Lint::RollbackSection, reason.clone()))).collect()
}

fn misplaced_marker(file: &MigrationFile, at: usize) -> Option<Finding> {
    let line = file.sql()[at..].lines().next()?;
    let reason = "`-- cgk:no-transaction` works only on the first line of the file";
    (at > 0 && is_marker(line)).then(|| Finding::at(file, at, Lint::Marker, reason))
}

/// Returns the problems between the two sets. If a relation name is in both, a query whose tenant table is missing
/// reads the shared table instead of failing.
pub(super) fn across(public: &Source, tenant: &Source) -> Vec<Finding> {
    let shared = CreatedObjects::of(public);
    let mut problems = extensions(public, tenant);
    for file in tenant.files() {
        for (name, at) in relations(file) {
            if let Some(other) = shared.file_of(&name) {
                let reason = format!(
                    "relation {name:?} is also created by {}; a name can exist in only one of the two sets",
                    crate::migration::printable(other.path())
                );
                problems.push(Finding::at(file, at, Lint::RelationInBothSets, reason));
            }
        }
    }
    problems
}

/// Checks what a tenant's file does to extensions. The first tenant creates or drops the extension. For the others it
/// exists already, or no longer exists. If no schema is named, its functions are in that tenant's schema.
///
/// An extension with IF NOT EXISTS is allowed if the shared set creates it, or if its schema is not a tenant's.
fn extensions(public: &Source, tenant: &Source) -> Vec<Finding> {
    let made = |statement: &Statement| match shape::of(statement) {
        Shape::Create { kind, name: Some(name), .. } if kind == "extension" => Some(name.name),
        _ => None,
    };
    let shared: Vec<String> = public.files().iter().flat_map(MigrationFile::statements).filter_map(made).collect();
    let mut problems = Vec::new();
    for file in tenant.files() {
        for statement in file.statements() {
            let words = statement.leading_words();
            let verb = match words.as_slice() {
                [verb @ ("create" | "alter" | "drop"), "extension", ..] => verb.to_uppercase(),
                _ => continue,
            };
            let into = statement.tokens.iter().position(|token| token.word() == Some("schema"));
            let into = into.and_then(|at| statement.tokens.get(at + 1)).and_then(Token::name);
            let is_fixed = into.is_some_and(|schema| !schema.starts_with("tenant_"))
                || made(statement).is_some_and(|name| shared.contains(&name));
            if verb == "CREATE" && shape::has(&statement.tokens, &["if", "not", "exists"]) && is_fixed {
                continue;
            }
            let reason = format!(
                "{verb} EXTENSION in a tenant's file: an extension exists once in a database, and the first tenant's \
                 run \
                 changes it for all"
            );
            problems.push(Finding::at(file, statement.range.start, Lint::ExtensionInTenant, reason));
        }
    }
    problems
}

/// Finds problems that only matter in files without a transaction.
fn stepwise(statement: &Statement) -> Option<LintFault> {
    if let Shape::CreateIndex { name: None, concurrently: true, .. } = shape::of(statement) {
        return Some((statement.range.start, Lint::UnnamedIndex, "CREATE INDEX CONCURRENTLY without a name".into()));
    }
    let local = matches!(statement.leading_words().as_slice(), ["set", "local", ..] | ["set", "constraints", ..]);
    let reason = "lasts for one transaction, and each statement of this file is its own transaction";
    local.then(|| (statement.range.start, Lint::SetLocal, reason.to_owned()))
}

fn transaction_control(statement: &Statement) -> Option<LintFault> {
    let words = statement.leading_words();
    let found = match words.as_slice() {
        ["begin" | "commit" | "rollback" | "abort" | "end" | "savepoint" | "release", ..] => words[0].to_uppercase(),
        ["start", "transaction", ..] => "START TRANSACTION".into(),
        ["prepare", "transaction", ..] => "PREPARE TRANSACTION".into(),
        ["set", "transaction", ..] => "SET TRANSACTION".into(),
        _ => return None,
    };
    Some((
        statement.range.start,
        Lint::TransactionControl,
        format!("{found} in a migration: cgk migrates each schema in one transaction, which a file must not end"),
    ))
}

/// Finds statements that cannot run inside a transaction.
fn inside_only(statement: &Statement) -> Option<LintFault> {
    let found = match shape::of(statement) {
        shape if shape.is_concurrent() => "CONCURRENTLY",
        Shape::Vacuum { .. } => "VACUUM",
        Shape::Reindex { kind, .. } if kind != "index" && kind != "table" => "REINDEX of more than one table",
        _ => return None,
    };
    let reason = format!(
        "{found} cannot run inside the transaction of a migration; with `-- cgk:no-transaction` on the first line of \
         the file, cgk runs its statements one by one"
    );
    Some((statement.range.start, Lint::OutsideTransaction, reason))
}

fn beyond_the_schema(statement: &Statement) -> Option<LintFault> {
    let found = match statement.leading_words().as_slice() {
        ["create" | "drop", "database", ..] => "CREATE or DROP DATABASE",
        ["create" | "drop", "tablespace", ..] => "CREATE or DROP TABLESPACE",
        ["alter", "system", ..] => "ALTER SYSTEM",
        _ => return None,
    };
    let reason = format!("{found} does not concern one schema, and a migration runs once in each schema");
    Some((statement.range.start, Lint::BeyondTheSchema, reason))
}

fn session_state(statement: &Statement) -> Option<LintFault> {
    // The setting's name may be quoted: `set "search_path" = x`.
    let words: Vec<&str> = statement.tokens.iter().take(3).map_while(Token::name).collect();
    let strings = ["set", "standard_conforming_strings"];
    let sets_strings =
        statement.leading_words().iter().any(|word| *word == strings[1]) && words.first() == Some(&strings[0]);
    let is_off = statement.tokens.iter().skip(2).any(|token| {
        let value = token.word().or(token.text()).unwrap_or_default().to_ascii_lowercase();
        ["off", "false", "no", "0"].contains(&value.as_str()) || token.is_sign('0')
    });
    if sets_strings && is_off {
        let reason = "changes how later strings are read, but cgk reads the whole file before the setting applies; \
            write E'…' for a string with escapes";
        return Some((statement.range.start, Lint::SessionStrings, reason.into()));
    }
    let setting = match words.as_slice() {
        ["set", "local" | "session", name, ..] | ["set" | "reset", name, ..] => *name,
        ["discard", ..] => "all",
        _ => return function_call(statement),
    };
    match setting {
        "search_path" | "schema" | "role" | "authorization" | "all" | "session_authorization" => {
            let problem =
                "changes the role or the search path: cgk sets both, and a schema name needs no path".to_owned();
            Some((statement.range.start, Lint::SearchPath, problem))
        }
        _ => None,
    }
}

/// Finds `set_config('search_path', …)`, as `pg_dump` writes it.
fn function_call(statement: &Statement) -> Option<LintFault> {
    statement.tokens.windows(3).find_map(|window| match window {
        [function, open, Token { kind: SqlTokenKind::Text(name), .. }]
            if function.word() == Some("set_config")
                && open.is_sign('(')
                && matches!(name.to_lowercase().as_str(), "search_path" | "role") =>
        {
            Some((
                function.at,
                Lint::SearchPath,
                format!("set_config('{name}', …) changes what cgk sets for each schema"),
            ))
        }
        _ => None,
    })
}

fn other_tenant(statement: &Statement) -> Option<LintFault> {
    let tokens = &statement.tokens;
    let is_dot = |index: usize| tokens.get(index).is_some_and(|token| token.is_sign('.'));
    tokens.iter().enumerate().find_map(|(index, token)| {
        let name = token.name().filter(|name| name.starts_with("tenant_") && is_dot(index + 1))?;
        let before = index.checked_sub(1).map(|before| &tokens[before]);
        // `public.tenant_members.id`, and `tenant_members.id` of a table that the statement names without a schema.
        let is_column = before.is_some_and(|before| before.is_sign('.'))
            || !is_dot(index + 3)
                && !before.and_then(Token::word).is_some_and(|word| BEFORE_RELATIONS.contains(&word))
                && (0..tokens.len()).any(|at| tokens[at].name() == Some(name) && !is_dot(at + 1));
        (!is_column).then(|| {
            let reason = format!("names the schema {name:?}: a migration runs in every tenant's schema");
            (token.at, Lint::OtherTenant, reason)
        })
    })
}

/// A relation follows these words, so a name before a dot is a schema.
const BEFORE_RELATIONS: &[&str] = &[
    "from",
    "join",
    "into",
    "update",
    "table",
    "only",
    "references",
    "truncate",
    "exists",
    "copy",
    "view",
    "function",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::cut;

    fn statements(text: &str) -> Vec<Statement> {
        cut(text).unwrap().statements
    }

    fn problems(text: &str) -> Vec<String> {
        statements(text)
            .iter()
            .flat_map(|s| {
                let unit = [transaction_control(s), inside_only(s), beyond_the_schema(s)];
                unit.into_iter().chain([session_state(s), other_tenant(s), client_side(s), protected_names(s)])
            })
            .flatten()
            .map(|(_, _, problem)| problem)
            .collect()
    }

    #[test]
    fn refuses_what_breaks_the_unit() {
        for bad in [
            "begin",
            "COMMIT",
            "rollback",
            "end",
            "start transaction",
            "savepoint a",
            "commit and chain",
            "create index concurrently i on t (a)",
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i on t (a)",
            "drop index concurrently i",
            "reindex table concurrently t",
            "reindex (concurrently) index i",
            "reindex (verbose, concurrently on) table t",
            "reindex schema s",
            "vacuum t",
            "alter system set a = 1",
            "alter table t detach partition p concurrently",
            "set search_path to x",
            "set local search_path = x",
            "set session search_path = x",
            "reset search_path",
            "reset all",
            "set role x",
            "set \"search_path\" to x",
            "set local \"role\" = x",
            "reset \"search_path\"",
            "set schema 'x'",
            "set session authorization x",
            "discard all",
            "select pg_catalog.set_config('search_path', '', false)",
            "drop database x",
            "insert into tenant_b.orders values (1)",
            "select * from \"tenant_b\" . t",
            "\\connect x",
            "copy t from stdin",
            "copy (select 1) to stdout",
            "select * from tenant_b.orders, tenant_b",
            "select tenant_b.orders.id from orders",
            "set standard_conforming_strings to off",
            "set local standard_conforming_strings = 'OFF'",
            "select 1 \\g",
            "\\restrict x",
            "insert into t values (:id)",
            "insert into t values (:'id')",
            "create table {{ name }} (a int)",
            "create table ${name} (a int)",
            "select <%= x %>",
            "create table\u{a0}t (a int)",
            "\u{feff}create table t (a int)",
            "delete from schema_migrations",
        ] {
            assert_eq!(problems(bad).len(), 1, "{bad}: {:?}", problems(bad));
        }
    }

    #[test]
    fn leaves_the_rest_alone() {
        for good in [
            "create table commit_log (a text default 'commit')",
            "create function f() returns void language plpgsql set search_path = pg_catalog as $$ begin commit; end $$",
            "select 'set search_path to x'",
            "refresh materialized view concurrently v",
            "set local statement_timeout = 0",
            "select set_config('app.x', '', true)",
            "comment on table t is 'begin'",
            "select tenant_id from t",
            "alter table t add column concurrently_x int",
            "create table t (concurrently int)",
            "copy t from '/tmp/x'",
            "create index i on t (a)",
            "select tenant_members.id, count(*) from tenant_members group by tenant_members.id",
            "select m.id from tenant_members m join x on x.id = tenant_members.id",
            "create policy p on tenant_members using (tenant_members.user_id = 1)",
            "select public.tenant_plans.id from public.tenant_plans",
            "set standard_conforming_strings = on",
            "select array[1, 2][1:2], a::int, f(x := 1), b[lower:upper]",
            "select a -> '{b}', '${x}', $${{ y }}$$, '\\restrict'",
            "create table t (a int) -- {{x}} :y",
            "do $$ begin perform 1; end $$",
        ] {
            assert_eq!(problems(good), Vec::<String>::new(), "{good}");
        }
    }
}
