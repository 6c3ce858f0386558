//! Warnings about statements that are valid but lock tables, lose data or have surprising effects.
//!
//! A table that the same file creates has no other users and no data, so operations on it are harmless. A table of an
//! earlier file may contain many rows in some tenant.

use super::{Finding, Lint, LintFault, unit, wide};
use crate::{
    migrate::files::{bundled::is_bundled, file::MigrationFile},
    migration::Set,
    sql::{
        SqlTokenKind, Statement, Token,
        shape::{self, Action, Name, RowSource, Shape},
    },
};
use std::collections::BTreeSet;

/// The objects that earlier files created.
pub(super) struct Known<'a> {
    set: Set,
    /// Relations of the shared schema.
    shared: &'a BTreeSet<String>,
    /// Tables, views and sequences of this set.
    relations: BTreeSet<String>,
    /// Table and column of every `check (column is not null)` that is valid for all rows.
    not_null: BTreeSet<(String, String)>,
    /// The same for checks that are not validated yet, by table and constraint.
    unproven: Vec<(String, String, String)>,
    /// Functions without a fixed search path. They use the caller's.
    functions: BTreeSet<String>,
}

impl<'a> Known<'a> {
    pub(super) fn of(set: Set, shared: &'a BTreeSet<String>) -> Self {
        Self {
            set,
            shared,
            relations: BTreeSet::new(),
            not_null: BTreeSet::new(),
            unproven: Vec::new(),
            functions: BTreeSet::new(),
        }
    }

    /// Whether a statement of this set that changes a relation with this name changes the shared schema, for every tenant.
    fn changes_shared(&self, name: &Name) -> bool {
        self.set == Set::Tenant && self.is_shared(name)
    }

    /// Whether a name is that of a relation in the schema of the set, and not in another one that it names.
    fn is_own(&self, name: &Name) -> bool {
        match &name.schema {
            Some(schema) => self.set == Set::Public && schema == "public",
            None => true,
        }
    }

    /// Whether an earlier statement has made a relation with this name, in a schema of the search path.
    fn has(&self, name: &str) -> bool {
        self.relations.contains(name) || self.set == Set::Tenant && self.shared.contains(name)
    }

    fn is_shared(&self, name: &Name) -> bool {
        match &name.schema {
            Some(schema) => schema == "public",
            None => self.shared.contains(&name.name) && !self.relations.contains(&name.name),
        }
    }
}

/// Returns the warnings of one file, each with the number of its statement.
pub(super) fn file(file: &MigrationFile, known: &mut Known<'_>) -> Vec<(usize, Finding)> {
    let mut fresh: BTreeSet<String> = BTreeSet::new();
    let mut found = Vec::new();
    for (index, statement) in file.statements().iter().enumerate() {
        let shape = shape::of(statement);
        let mut faults = Vec::<LintFault>::new();
        of_shape(&shape, statement, known, &fresh, &mut faults);
        of_shared(&shape, known, &mut faults);
        let temporary = temporary(statement, &shape);
        let hidden = temporary.as_ref().filter(|name| known.has(&name.name));
        faults.extend(hidden.map(|name| (name.at, Lint::TemporaryName, existing(name))));
        of_words(statement, file.is_transactional(), &mut faults);
        wide::of_database(statement, &mut faults);
        // The bundled files grant columns of tables with policies to PUBLIC.
        if !is_bundled(file.checksum()) {
            wide::of_grant(statement, &mut faults);
        }
        wide::of_functions(statement, &mut known.functions, &mut faults);
        wide::of_catalogue(statement, &mut faults);
        found.extend(faults.into_iter().map(|(at, lint, reason)| (index, Finding::at(file, at, lint, reason))));
        match temporary {
            Some(name) if hidden.is_none() => drop(fresh.insert(name.name)),
            Some(_) => {}
            None => learn(&shape, known, &mut fresh),
        }
    }
    found
}

/// Returns the name of a temporary table, view or sequence that a statement creates.
fn temporary(statement: &Statement, shape: &Shape) -> Option<Name> {
    let named = match shape {
        Shape::CreateTable { name, .. } | Shape::Create { name: Some(name), .. } => Some(name),
        _ => None,
    };
    let words = statement.leading_words();
    let is_temporary = |word: &&str| matches!(*word, "temp" | "temporary");
    let is_marked = words.first() == Some(&"create") && words.iter().take(4).any(is_temporary);
    if let Some(name) = named {
        return (is_marked || name.schema.as_deref() == Some("pg_temp")).then(|| name.clone());
    }
    let tokens = &statement.tokens;
    let into = tokens
        .windows(2)
        .position(|two| two[0].word() == Some("into") && two[1].word().is_some_and(|word| is_temporary(&word)))?;
    let name = tokens[into + 2..].iter().find(|token| token.word() != Some("table"))?;
    Some(Name { schema: None, name: name.name()?.to_owned(), at: name.at })
}

fn existing(name: &Name) -> String {
    format!(
        "a relation {:?} exists, and statements with this name mean that one: temporary ones are last in the search path",
        name.name
    )
}

fn of_shape(
    shape: &Shape,
    statement: &Statement,
    known: &Known<'_>,
    fresh: &BTreeSet<String>,
    faults: &mut Vec<LintFault>,
) {
    let start = statement.range.start;
    let is_fresh = |name: &Name| known.is_own(name) && fresh.contains(&name.name);
    match shape {
        Shape::CreateTable { name, references, sources, .. } => {
            qualified(name, faults);
            to_public(references, known, faults);
            below_parents(sources, known, faults);
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
            if kind == "type" || !known.changes_shared(table) {
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
        Shape::Write { verb: verb @ ("update" | "delete"), table, has_where: false, .. } if !is_fresh(table) => {
            faults.push((start, Lint::WritesEveryRow, writes_every_row(verb, table)));
        }
        _ => {}
    }
}

/// Adds the warnings about relations of the shared schema that a tenant's file changes. Rows and rights are not meant:
/// each tenant can have its own there.
fn of_shared(shape: &Shape, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let (what, names) = match shape {
        Shape::CreateIndex { table, .. } => ("CREATE INDEX".to_owned(), std::slice::from_ref(table)),
        Shape::Create { kind, on: Some(table), .. } => {
            (format!("CREATE {}", kind.to_uppercase()), std::slice::from_ref(table))
        }
        Shape::DropIndex { names, .. } => ("DROP INDEX".to_owned(), names.as_slice()),
        Shape::Drop { kind, on: Some(table), .. } => {
            (format!("DROP {}", kind.to_uppercase()), std::slice::from_ref(table))
        }
        Shape::Drop { kind, names, .. } if unit::RELATIONS.contains(&kind.as_str()) => {
            (format!("DROP {}", kind.to_uppercase()), names.as_slice())
        }
        // A partition of a shared table has a warning of its own.
        Shape::AlterTable { kind, table, actions }
            if kind != "type" && !actions.iter().any(|action| action.has(&["attach", "partition"])) =>
        {
            (format!("ALTER {}", kind.to_uppercase()), std::slice::from_ref(table))
        }
        Shape::Truncate { tables } => ("TRUNCATE".to_owned(), tables.as_slice()),
        Shape::Reindex { kind, name: Some(name), .. } if matches!(kind.as_str(), "index" | "table") => {
            ("REINDEX".to_owned(), std::slice::from_ref(name))
        }
        Shape::Cluster { table: Some(table) } => ("CLUSTER".to_owned(), std::slice::from_ref(table)),
        _ => return,
    };
    for name in names.iter().filter(|name| known.changes_shared(name)) {
        let reason = format!("{what} changes {} of the shared schema, once per tenant", name.shown());
        faults.push((name.at, Lint::ChangesShared, reason));
    }
}

fn writes_every_row(verb: &str, table: &Name) -> String {
    let (verb, table) = (verb.to_uppercase(), table.shown());
    format!("{verb} without WHERE locks every row of {table} until the end of the migration")
}

/// Adds the warnings about the parents of a new table.
fn below_parents(sources: &[(RowSource, Name)], known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let is_parent = |source: &RowSource| matches!(source, RowSource::Inherits | RowSource::PartitionOf);
    let parents = sources.iter().filter(|(source, _)| is_parent(source));
    parents.for_each(|(_, parent)| below_shared(parent, parent.at, known, faults));
}

fn of_action(kind: &str, table: &Name, action: &Action, fresh: bool, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    let words = action.words();
    let at = action.at();
    to_public(&action.references(), known, faults);
    if let Some(parent) = action.name_after(&["inherit"]).filter(|_| words.first() == Some(&"inherit")) {
        below_shared(&parent, parent.at, known, faults);
    }
    if action.has(&["attach", "partition"]) {
        below_shared(table, at, known, faults);
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
            let proven = column.is_some_and(|column| known.not_null.contains(&(table.name.clone(), column)));
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

fn to_public(references: &[Name], known: &Known<'_>, faults: &mut Vec<LintFault>) {
    for name in references.iter().filter(|name| known.set == Set::Tenant && known.is_shared(name)) {
        let reason = format!(
            "a foreign key to {} in the shared schema: every tenant's key makes deletes there slower, and creating \
             one locks that table",
            name.shown()
        );
        faults.push((name.at, Lint::ForeignKeyToPublic, reason));
    }
}

/// Adds the warning about a tenant's table that inherits from a shared one, or is a partition of it.
fn below_shared(parent: &Name, at: usize, known: &Known<'_>, faults: &mut Vec<LintFault>) {
    if known.set == Set::Tenant && known.is_shared(parent) {
        let reason = format!(
            "a query on {} of the shared schema also returns the rows of this table, and those of every other tenant",
            parent.shown()
        );
        faults.push((at, Lint::SharedParent, reason));
    }
}

fn qualified(name: &Name, faults: &mut Vec<LintFault>) {
    // Another tenant's name is a separate error.
    if let Some(schema) = name.schema.as_deref().filter(|schema| !schema.starts_with("tenant_") && *schema != "pg_temp")
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
    if !transactional && let Some((at, what)) = of_session(statement) {
        let reason =
            format!("{what} is lost if a run stops after it: the next run continues the file in a new session");
        faults.push((at, Lint::LostWithTheSession, reason));
    }
    if transactional && setting {
        let reason = "SET looks permanent, but it ends with the file".into();
        faults.push((statement.range.start, Lint::SessionSetting, reason));
    }
}

/// Finds what exists only in the session that executes the statement. SET is not found, because a run that continues
/// repeats it.
fn of_session(statement: &Statement) -> Option<(usize, &'static str)> {
    let (tokens, words) = (&statement.tokens, statement.leading_words());
    let start = |what| Some((statement.range.start, what));
    let words = words.as_slice();
    match words {
        ["create", "temp" | "temporary", ..]
        | ["create", "local" | "global", "temp" | "temporary", ..]
        | ["create", "or", "replace", "temp" | "temporary", ..] => return start("a temporary object"),
        ["prepare", ..] => return start("a prepared statement"),
        ["listen", ..] => return start("LISTEN"),
        ["declare", ..] if shape::has(tokens, &["with", "hold"]) => return start("a cursor"),
        _ => {}
    }
    let is_of_session = |token: &Token| match token.name() {
        Some("pg_temp") if words.first() == Some(&"create") => Some("a temporary object"),
        Some("pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock") => Some("a lock of the session"),
        _ => None,
    };
    let named = tokens.iter().find_map(|token| is_of_session(token).map(|what| (token.at, what)));
    let into_temp =
        |what: &[Token]| what[0].word() == Some("into") && matches!(what[1].word(), Some("temp" | "temporary"));
    named.or_else(|| tokens.windows(2).find(|two| into_temp(two)).map(|two| (two[0].at, "a temporary object")))
}

fn learn(shape: &Shape, known: &mut Known<'_>, fresh: &mut BTreeSet<String>) {
    match shape {
        Shape::CreateTable { name, .. } | Shape::Create { name: Some(name), .. } if !known.is_own(name) => {}
        Shape::CreateTable { name, if_not_exists, .. } => {
            // It may already exist, with rows of all tenants.
            if !if_not_exists {
                fresh.insert(name.name.clone());
            }
            known.relations.insert(name.name.clone());
        }
        Shape::Create { kind, name: Some(name), if_not_exists, or_replace, .. }
            if kind.contains("view") || kind == "sequence" || kind == "foreign table" =>
        {
            if !if_not_exists && !or_replace {
                fresh.insert(name.name.clone());
            }
            known.relations.insert(name.name.clone());
        }
        Shape::Drop { kind, names, .. } if unit::RELATIONS.contains(&kind.as_str()) => {
            known.relations.retain(|known| names.iter().all(|name| name.name != *known));
        }
        Shape::CreateIndex { name: Some(name), table, if_not_exists: false, .. } if fresh.contains(&table.name) => {
            fresh.insert(name.name.clone());
        }
        Shape::AlterTable { table, actions, .. } => {
            for action in actions {
                learn_rename(table, action, known, fresh);
                // What was there before brings its rows along.
                let child = action.name_after(&["attach", "partition"]);
                if child.is_some_and(|child| !fresh.contains(&child.name)) {
                    fresh.remove(&table.name);
                }
                let parent = action.name_after(&["inherit"]).filter(|_| !fresh.contains(&table.name));
                parent.map(|parent| fresh.remove(&parent.name));
                if let Some((constraint, column)) = checks_not_null(action) {
                    if action.has(&["not", "valid"]) {
                        known.unproven.push((table.name.clone(), constraint, column));
                    } else {
                        known.not_null.insert((table.name.clone(), column));
                    }
                }
                if let Some(validated) = action.name_after(&["validate", "constraint"]) {
                    for (of, constraint, column) in &known.unproven {
                        if *of == table.name && *constraint == validated.name {
                            known.not_null.insert((of.clone(), column.clone()));
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

/// A relation takes its rows along to its new name.
fn learn_rename(table: &Name, action: &Action, known: &mut Known<'_>, fresh: &mut BTreeSet<String>) {
    let Some(to) = action.name_after(&["rename", "to"]).filter(|_| action.words().first() == Some(&"rename")) else {
        return;
    };
    if known.relations.remove(&table.name) {
        known.relations.insert(to.name.clone());
    }
    if fresh.remove(&table.name) {
        fresh.insert(to.name);
    } else {
        fresh.remove(&to.name);
    }
}

/// Returns constraint and column of `add constraint x check (c is not null)`.
fn checks_not_null(action: &Action) -> Option<(String, String)> {
    let constraint = action.name_after(&["add", "constraint"]).map_or_else(String::new, |name| name.name);
    let inner = action.tokens.iter().position(|token| token.word() == Some("check"))?;
    match action.tokens.get(inner + 1..inner + 7)? {
        [open, column, is, not, null, close]
            if open.is_sign('(')
                && is.word() == Some("is")
                && not.word() == Some("not")
                && null.word() == Some("null")
                && matches!(close.kind, SqlTokenKind::Sign(')')) =>
        {
            Some((constraint, column.name()?.to_owned()))
        }
        _ => None,
    }
}
