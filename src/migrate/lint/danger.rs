//! Warnings about statements that are valid but lock tables, lose data or have surprising effects.
//!
//! A table that the same file creates has no other users and no data, so operations on it are harmless. A table of an
//! earlier file may contain many rows in some tenant.

use super::{
    Finding, Lint, LintFault,
    body::{Body, BodyKind},
    known::Known,
    namespace::Namespace,
    session, shared, temporary, wide,
};
use crate::{
    migrate::files::{bundled::is_bundled, file::MigrationFile},
    migration::Set,
    sql::{
        Statement, Token,
        shape::{self, Action, Name, Shape},
    },
};

/// Returns the warnings of one file, each with the number of its statement.
pub(super) fn file<'a>(file: &'a MigrationFile, known: &mut Known<'a>) -> Vec<(usize, Finding)> {
    known.start_file();
    let mut found = Vec::new();
    for (index, statement) in file.statements().iter().enumerate() {
        let shape = shape::of(statement);
        let mut faults = Vec::<LintFault>::new();
        of_shape(&shape, statement, known, &mut faults);
        of_rows(statement, statement, known, &mut faults);
        shared::of_change(&shape, known, &mut faults);
        of_words(statement, file.is_transactional(), &mut faults);
        if !file.is_transactional() {
            session::of_lost(statement, &shape, &mut faults);
        }
        wide::of_database(statement, &mut faults);
        // The bundled files grant columns of tables with policies to PUBLIC.
        if !is_bundled(file.checksum()) {
            wide::of_grant(statement, &mut faults);
        }
        wide::of_functions(statement, &mut known.functions, &mut faults);
        wide::of_catalogue(statement, &mut faults);
        learn(file, statement, &shape, known, &mut faults);
        if let Some(body) = Body::of(statement) {
            of_body(file, &body, known, &mut faults);
        }
        found.extend(faults.into_iter().map(|(at, lint, reason)| (index, Finding::at(file, at, lint, reason))));
    }
    found
}

/// Takes a statement into account, and finds names that mean another relation than before.
fn learn<'a>(
    file: &'a MigrationFile,
    statement: &Statement,
    shape: &Shape,
    known: &mut Known<'a>,
    faults: &mut Vec<LintFault>,
) {
    let before = known.taken_names();
    known.learn(file, statement, shape);
    let taken = known.taken_names();
    faults.extend(
        taken.difference(&before).filter_map(|name| temporary::of_taken_name(name, statement, file.statements())),
    );
}

/// Finds what a block does to rows and to the shared set, and temporary relations of a block or a function. Other
/// warnings are about statements of the file itself.
fn of_body<'a>(file: &'a MigrationFile, body: &Body, known: &mut Known<'a>, faults: &mut Vec<LintFault>) {
    let runs = body.kind == BodyKind::Block;
    // A function creates nothing before it is called.
    let mut apart = (!runs).then(|| known.clone());
    let known = apart.as_mut().unwrap_or(known);
    let mut all = Vec::<LintFault>::new();
    for statement in &body.statements {
        let shape = match shape::of(statement) {
            // `with … select … into` assigns a variable.
            Shape::CreateTable { .. } if statement.leading_words().first() != Some(&"create") => Shape::Other,
            shape => shape,
        };
        if runs {
            of_shape(&shape, statement, known, &mut all);
            of_rows(statement, &body.all, known, &mut all);
            shared::of_change(&shape, known, &mut all);
        }
        learn(file, statement, &shape, known, &mut all);
    }
    let kept = [Lint::ChangesShared, Lint::DropsData, Lint::SharedParent, Lint::TemporaryName, Lint::WritesEveryRow];
    faults.extend(all.into_iter().filter(|(_, lint, _)| kept.contains(lint)));
}

/// Finds writes to all rows of a table, and to shared rows of all tenants. `context` is the block that contains the
/// statement, or the statement itself.
fn of_rows(statement: &Statement, context: &Statement, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    for write in shape::writes(statement).iter().filter(|write| write.changes_rows && !known.is_fresh(&write.table)) {
        let (verb, table) = (write.verb.to_uppercase(), write.table.shown());
        if write.verb != "merge" && !write.chooses_rows {
            let reason =
                format!("{verb} without a condition locks every row of {table} until the end of the migration");
            faults.push((write.at, Lint::WritesEveryRow, reason));
        }
        shared::of_rows(write, context, known, faults);
    }
}

fn of_shape(shape: &Shape, statement: &Statement, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let start = statement.range.start;
    let is_fresh = |name: &Name| known.is_fresh(name);
    match shape {
        Shape::CreateTable { name, references, sources, .. } => {
            qualified(name, faults);
            shared::of_references(references, known, faults);
            shared::of_parents(sources, known, faults);
        }
        Shape::CreateIndex { table, concurrently: false, .. } if !is_fresh(table) => {
            let reason = format!("CREATE INDEX on {} stops all writes to it until the index is built", table.shown());
            faults.push((start, Lint::IndexNotConcurrent, reason));
        }
        Shape::DropIndex { names, concurrently: false } if !names.iter().all(is_fresh) => {
            let reason = "DROP INDEX waits for every transaction on the table, and later transactions wait for \
                it"
            .into();
            faults.push((start, Lint::IndexNotConcurrent, reason));
        }
        Shape::Reindex { kind, .. } if known.set == Set::Tenant && !matches!(kind.as_str(), "index" | "table") => {
            let reason = format!("REINDEX {} rebuilds more than this schema, once per tenant", kind.to_uppercase());
            faults.push((start, Lint::DatabaseWide, reason));
        }
        Shape::Reindex { concurrently: false, .. } => {
            faults.push((start, Lint::IndexNotConcurrent, "REINDEX stops all writes to the table".into()));
        }
        Shape::Create { kind, name, .. } => {
            if let Some(name) = name {
                qualified(name, faults);
            }
            if let (Set::Tenant, "type" | "domain") = (known.set, kind.as_str()) {
                let reason = "each tenant gets its own type: a prepared statement fails with the type of another \
                    tenant";
                faults.push((start, Lint::TypePerTenant, reason.into()));
            }
        }
        Shape::Drop { kind, names, .. } if !names.iter().all(is_fresh) => {
            if matches!(kind.as_str(), "table" | "schema" | "materialized view" | "sequence") {
                faults.push((start, Lint::DropsData, format!("DROP {} cannot be undone", kind.to_uppercase())));
            }
        }
        Shape::AlterTable { kind, table, actions } => {
            if !known.is_shared(Namespace::of_kind(kind), table) {
                qualified(table, faults);
            }
            for action in actions {
                of_action(kind, table, action, is_fresh(table), known, faults);
            }
        }
        Shape::Truncate { tables } if !tables.iter().all(is_fresh) => {
            faults.push((start, Lint::DropsData, "TRUNCATE cannot be undone".into()));
        }
        Shape::Lock { mode, .. } => {
            faults.push((start, Lint::LocksTable, format!("LOCK TABLE holds {mode} until the end of the migration")));
        }
        Shape::Vacuum { full: true, .. } => {
            let reason = "VACUUM FULL rewrites the whole table and blocks reads".into();
            faults.push((start, Lint::RewritesTable, reason));
        }
        Shape::Cluster { .. } => {
            let reason = "CLUSTER rewrites the whole table and blocks reads".into();
            faults.push((start, Lint::RewritesTable, reason));
        }
        _ => {}
    }
}

fn of_action(kind: &str, table: &Name, action: &Action, fresh: bool, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let words = action.words();
    let at = action.at();
    shared::of_references(&action.references(), known, faults);
    if let Some(parent) = action.name_after(&["inherit"]).filter(|_| words.first() == Some(&"inherit")) {
        shared::of_parent(&parent, parent.at, known, faults);
    }
    if action.has(&["attach", "partition"]) {
        shared::of_parent(table, at, known, faults);
    }
    if words.first() == Some(&"rename") && kind != "index" && !fresh && words.get(1) != Some(&"constraint") {
        let reason = "RENAME breaks the version of the application that is running".into();
        faults.push((at, Lint::Renames, reason));
    }
    if fresh || kind != "table" {
        return;
    }
    match words.as_slice() {
        ["set", "schema", ..] => {
            let reason = "SET SCHEMA moves the table to a schema in which later files do not look".into();
            faults.push((at, Lint::SchemaQualified, reason));
        }
        ["set", what @ ("logged" | "unlogged" | "access" | "tablespace"), ..] => {
            rewrites(at, &format!("SET {}", what.to_uppercase()), table, faults);
        }
        ["drop", "constraint" | "expression" | "identity", ..] => {}
        ["drop", ..] => faults.push((at, Lint::DropsData, "DROP COLUMN cannot be undone".into())),
        ["alter", ..] if action.has(&["set", "not", "null"]) => {
            let column = column(action, "alter");
            let proven = column.is_some_and(|column| known.is_not_null(table, column));
            if !proven {
                let reason = format!("SET NOT NULL scans all of {} and blocks reads", table.shown());
                faults.push((at, Lint::SetNotNull, reason));
            }
        }
        ["alter", ..] if changes_type(action) => rewrites(at, "a change of a column's type", table, faults),
        ["add", "constraint" | "check" | "foreign" | "unique" | "primary" | "exclude" | "not", ..] => {
            of_constraint(at, action, table, faults);
        }
        ["add", ..] => of_new_column(at, action, table, faults),
        _ => {}
    }
}

fn of_constraint(at: usize, action: &Action, table: &Name, faults: &mut Vec<LintFault>) {
    let of = |phrase: &[&str]| action.has(phrase);
    if of(&["using", "index"]) {
        return;
    }
    if of(&["primary", "key"]) || of(&["unique"]) || of(&["exclude"]) {
        let reason = format!("it builds an index on all of {} and blocks reads", table.shown());
        faults.push((at, Lint::ConstraintBuildsIndex, reason));
    } else if !of(&["not", "valid"]) {
        let reason = format!("it scans every row of {} and blocks writes", table.shown());
        faults.push((at, Lint::ConstraintNotValid, reason));
    }
}

fn of_new_column(at: usize, action: &Action, table: &Name, faults: &mut Vec<LintFault>) {
    let words: Vec<&str> = action.tokens.iter().filter_map(Token::word).collect();
    let has = |word: &str| words.contains(&word);
    let fills_itself = has("serial") || has("bigserial") || has("smallserial") || has("identity") || has("generated");
    let volatile = has("default") && VOLATILE.iter().any(|function| has(function));
    let stored = has("generated") && (has("stored") || has("identity"));
    if volatile || stored || (fills_itself && !has("generated")) {
        rewrites(at, "a column whose value differs in each row", table, faults);
    }
    let required = action.has(&["not", "null"]) && !has("default") && !fills_itself;
    if required || action.has(&["primary", "key"]) && !fills_itself && !has("default") {
        let reason = format!("it fails if {} has rows: they have no value for the column", table.shown());
        faults.push((at, Lint::RequiredColumn, reason));
    }
    if action.has(&["references"]) || action.has(&["check"]) {
        let reason = format!("it scans every row of {} and blocks writes", table.shown());
        faults.push((at, Lint::ConstraintNotValid, reason));
    }
    if action.has(&["unique"]) || action.has(&["primary", "key"]) {
        let reason = format!("it builds an index on all of {} and blocks reads", table.shown());
        faults.push((at, Lint::ConstraintBuildsIndex, reason));
    }
}

/// Functions that return a different value for each row; `now()` returns the same for all.
const VOLATILE: &[&str] = &[
    "random",
    "gen_random_uuid",
    "gen_random_bytes",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "uuidv4",
    "uuidv7",
    "clock_timestamp",
    "timeofday",
    "nextval",
    "txid_current",
    "pg_current_xact_id",
];

fn rewrites(at: usize, what: &str, table: &Name, faults: &mut Vec<LintFault>) {
    let reason = format!("{what} rewrites all of {} and blocks reads", table.shown());
    faults.push((at, Lint::RewritesTable, reason));
}

/// Whether an action is `alter column c type …` or `alter c set data type …`.
fn changes_type(action: &Action) -> bool {
    action.has(&["set", "data", "type"]) || {
        let skipped = 1 + usize::from(action.tokens.get(1).and_then(|token| token.word()) == Some("column"));
        action.tokens.get(skipped + 1).and_then(|token| token.word()) == Some("type")
    }
}

fn column(action: &Action, verb: &str) -> Option<String> {
    let name = action.name_after(&[verb, "column"]).or_else(|| action.name_after(&[verb]))?;
    Some(name.name)
}

fn qualified(name: &Name, faults: &mut Vec<LintFault>) {
    // Another tenant's name is a separate error.
    if let Some(schema) =
        name.schema.as_deref().filter(|schema| !schema.starts_with("tenant_") && *schema != temporary::SCHEMA)
    {
        let reason = format!("{:?} names schema {schema:?} instead of the migrated schema", name.shown());
        faults.push((name.at, Lint::SchemaQualified, reason));
    }
}

fn of_words(statement: &Statement, transactional: bool, faults: &mut Vec<LintFault>) {
    let words = statement.leading_words();
    if matches!(words.first(), Some(&"create" | &"alter"))
        && let Some(found) = statement
            .tokens
            .windows(3)
            .find(|three| three.iter().zip(["if", "not", "exists"]).all(|(token, word)| token.word() == Some(word)))
    {
        let reason = "IF NOT EXISTS accepts an existing object that can be a different one".into();
        faults.push((found[0].at, Lint::IfNotExists, reason));
    }
    let setting = match words.as_slice() {
        ["set", "local" | "constraints" | "transaction" | "role" | "search_path" | "schema", ..] => false,
        ["set", "session", name, ..] => !matches!(*name, "authorization" | "search_path" | "role" | "characteristics"),
        ["set", ..] => true,
        _ => false,
    };
    if transactional && setting {
        let reason = "SET looks permanent, but it ends with the file".into();
        faults.push((statement.range.start, Lint::SessionSetting, reason));
    }
}
