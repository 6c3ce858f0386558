//! Statements that run in a new schema before its rows are loaded, and after.

use super::contents::{Contents, Index, Partition, Sequence, TriggerState, of};
use crate::ident::{SchemaName, literal, quoted};
use std::fmt::Write as _;

/// Returns the settings of a transaction that writes or loads rows as text. They are the same on both sides, so that
/// equal rows are equal texts. With the tenant's search path, the functions of its constraints find the objects that
/// they name, and names in values of types such as `regclass` have no schema.
pub(crate) fn settings_sql(search_path: &str) -> String {
    format!(
        "{}, pg_catalog.set_config('lc_monetary', 'C', true), pg_catalog.set_config('row_security', 'off', true),
       pg_catalog.set_config('xmloption', 'content', true), pg_catalog.set_config('array_nulls', 'on', true),
       (select pg_catalog.count(pg_catalog.set_config(s.name, '0', true)) from pg_catalog.pg_settings s
        where s.name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'));\n",
        crate::catalogue::settings_sql(search_path)
    )
}

/// Returns the statements that create the source's partitions that the target does not have, because a schedule or a
/// service created them instead of a migration. They run before [`before_sql`]. Read the contents of the target again
/// after them.
///
/// # Errors
///
/// Describes the partitions that cannot be created: those with partitions of their own, and those whose bounds contain
/// more than values.
pub(crate) fn partitions_sql(
    schema: &SchemaName,
    source: &[Partition],
    target: &Contents,
) -> Result<String, Vec<String>> {
    let (mut sql, mut refused) = (String::new(), Vec::new());
    for partition in source {
        let is_there = target.partitions.iter().any(|own| own.name == partition.name);
        if is_there || target.table(&partition.name).is_some() {
            continue;
        }
        if !partition.is_leaf || !is_bound(&partition.bound) {
            refused.push(format!("partition {}", partition.name));
            continue;
        }
        let (name, parent) = (of(schema, &partition.name), of(schema, &partition.parent));
        let _ = writeln!(sql, "create table {name} partition of {parent} {};", partition.bound);
    }
    if refused.is_empty() { Ok(sql) } else { Err(refused) }
}

/// Whether a text is a partition's bound as the server writes it, without function calls. A file can contain any text.
/// A literal has no prefix, so with [`settings_sql`] a backslash in it has no special meaning.
fn is_bound(text: &str) -> bool {
    const WORDS: [&str; 13] = [
        "FOR",
        "VALUES",
        "IN",
        "FROM",
        "TO",
        "WITH",
        "DEFAULT",
        "MINVALUE",
        "MAXVALUE",
        "NULL",
        "modulus",
        "remainder",
        "true",
    ];
    // Outside of the literals, only words, numbers and punctuation are allowed.
    text.split('\'').step_by(2).all(|part| {
        let is_separator = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',');
        let is_number = |word: &str| word.parse::<f64>().is_ok();
        part.split(is_separator)
            .all(|word| word.is_empty() || WORDS.contains(&word) || word == "false" || is_number(word))
    }) && text.matches('\'').count().is_multiple_of(2)
}

/// Returns the statements that run before the load. They drop the foreign keys inside the schema and the checks that
/// depend on the order of rows, and the indexes of large tables, disable the triggers, and lift forced row security.
/// They delete the rows that the migrations inserted, because the source has its own. `contents` are those of the schema
/// that is loaded. Only the owner of its tables may do this.
pub(crate) fn before_sql(schema: &SchemaName, contents: &Contents) -> String {
    let mut sql = String::new();
    for key in contents.inner_foreign_keys() {
        let _ = writeln!(sql, "alter table {} drop constraint {};", of(schema, &key.table), quoted(&key.name));
    }
    // The checks of parents are first: an inherited check cannot be dropped from the child.
    for check in contents.checks.iter().rev() {
        let _ = writeln!(sql, "alter table {} drop constraint {};", of(schema, &check.table), quoted(&check.name));
    }
    // The foreign keys, which depend on indexes, are already dropped.
    for index in &contents.indexes {
        let _ = match &index.constraint {
            Some(_) => {
                let (table, name) = (of(schema, &index.table), quoted(&index.name));
                writeln!(sql, "alter table {table} drop constraint {name};")
            }
            None => writeln!(sql, "drop index {};", of(schema, &index.name)),
        };
    }
    for trigger in contents.triggers.iter().filter(|trigger| trigger.state != TriggerState::Disabled) {
        let (table, name) = (of(schema, &trigger.table), quoted(&trigger.name));
        let _ = writeln!(sql, "alter table {table} disable trigger {name};");
    }
    for table in contents.tables.iter().filter(|table| table.forces_row_security) {
        let _ = writeln!(sql, "alter table {} no force row level security;", of(schema, &table.name));
    }
    let tables: Vec<String> = contents.tables.iter().map(|table| of(schema, &table.name)).collect();
    if !tables.is_empty() {
        let _ = writeln!(sql, "truncate table {};", tables.join(", "));
    }
    sql
}

/// Returns the statements that run after the load. They run deferred checks, build the indexes, add the foreign keys
/// and the checks, which also checks the rows, restore triggers and row security, set the sequences to the values of
/// `sequences`, and refresh the materialized views: those that the migrations have populated, and `populated`, which
/// are populated in the source.
pub(crate) fn after_sql(
    schema: &SchemaName,
    contents: &Contents,
    sequences: &[Sequence],
    populated: &[String],
) -> String {
    // A table with pending deferred checks cannot be altered.
    let mut sql = "set constraints all immediate;\n".to_owned();
    add_indexes(&mut sql, schema, &contents.indexes);
    for key in contents.inner_foreign_keys() {
        let (table, name) = (of(schema, &key.table), quoted(&key.name));
        let _ = writeln!(sql, "alter table {table} add constraint {name} {};", key.definition);
        if let Some(comment) = &key.comment {
            let _ = writeln!(sql, "comment on constraint {name} on {table} is {};", literal(comment));
        }
    }
    for check in &contents.checks {
        let (table, name) = (of(schema, &check.table), quoted(&check.name));
        let _ = writeln!(sql, "alter table {table} add constraint {name} {};", check.definition);
    }
    for check in &contents.checks {
        if let Some(comment) = &check.comment {
            let (table, name) = (of(schema, &check.table), quoted(&check.name));
            let _ = writeln!(sql, "comment on constraint {name} on {table} is {};", literal(comment));
        }
    }
    for trigger in &contents.triggers {
        let state = match trigger.state {
            TriggerState::Origin => "enable",
            TriggerState::Replica => "enable replica",
            TriggerState::Always => "enable always",
            TriggerState::Disabled => "disable",
        };
        let (table, name) = (of(schema, &trigger.table), quoted(&trigger.name));
        let _ = writeln!(sql, "alter table {table} {state} trigger {name};");
    }
    for table in contents.tables.iter().filter(|table| table.forces_row_security) {
        let _ = writeln!(sql, "alter table {} force row level security;", of(schema, &table.name));
    }
    for sequence in sequences {
        let name = literal(&of(schema, &sequence.name));
        let (value, is_called) = (sequence.last_value, sequence.is_called);
        let _ = writeln!(sql, "select pg_catalog.setval({name}::pg_catalog.regclass, {value}, {is_called});");
    }
    for view in &contents.materialized_views {
        if !view.is_populated && !populated.contains(&view.name) {
            continue;
        }
        let _ = writeln!(sql, "refresh materialized view {};", of(schema, &view.name));
    }
    sql
}

/// Appends the statements that create indexes and their constraints.
fn add_indexes(sql: &mut String, schema: &SchemaName, indexes: &[Index]) {
    if !indexes.is_empty() {
        sql.push_str("select pg_catalog.set_config('default_tablespace', '', true);\n");
    }
    for Index { table, name, definition, comment, constraint, constraint_comment } in indexes {
        let (table, own, name) = (of(schema, table), of(schema, name), quoted(name));
        let _ = match constraint {
            Some(definition) => writeln!(sql, "alter table {table} add constraint {name} {definition};"),
            None => writeln!(sql, "{definition};"),
        };
        if let Some(comment) = comment {
            let _ = writeln!(sql, "comment on index {own} is {};", literal(comment));
        }
        if let Some(comment) = constraint_comment {
            let _ = writeln!(sql, "comment on constraint {name} on {table} is {};", literal(comment));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_values_and_nothing_else() {
        for bound in [
            "DEFAULT",
            "FOR VALUES FROM ('2026-01-01') TO ('2026-02-01 00:00:00+00')",
            "FOR VALUES FROM (MINVALUE, 1) TO (-5, MAXVALUE)",
            "FOR VALUES IN ('a''b', NULL, 'now(); drop', 1.5e10, true)",
            "FOR VALUES WITH (modulus 4, remainder 3)",
            "FOR VALUES IN ('back\\slash', '\\')",
        ] {
            assert!(is_bound(bound), "{bound}");
        }
        for bound in [
            "FOR VALUES FROM (now()) TO (MAXVALUE)",
            "DEFAULT; drop table x",
            "FOR VALUES IN ('a') -- x",
            "FOR VALUES IN ('a",
            "FOR VALUES IN (E'\\'')",
            "FOR VALUES IN (E'\\', now(), '')",
            "FOR VALUES IN (U&'\\0027')",
            "FOR VALUES IN (\\)",
            "FOR VALUES IN (\"x\")",
            "FOR VALUES IN ($1)",
        ] {
            assert!(!is_bound(bound), "{bound}");
        }
    }
}
