//! What is done in a new schema before its rows are loaded, and after.

use super::contents::{Contents, Sequence, TriggerState, of};
use crate::ident::{SchemaName, literal, quoted};
use std::fmt::Write as _;

/// The settings of a transaction that writes or loads rows as text: the same on both sides, so that equal rows are equal
/// texts. With the tenant's search path, the functions of its constraints find what they name, and names in values of types
/// such as `regclass` have no schema.
pub(crate) fn settings_sql(search_path: &str) -> String {
    format!(
        "{}, pg_catalog.set_config('lc_monetary', 'C', true), pg_catalog.set_config('row_security', 'off', true),
       (select pg_catalog.count(pg_catalog.set_config(s.name, '0', true)) from pg_catalog.pg_settings s
        where s.name in ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout'));\n",
        crate::catalogue::settings_sql(search_path)
    )
}

/// The statements before the load: drop the foreign keys, disable the triggers, lift forced row security, and remove the rows
/// that the migrations inserted, because the source has its own. `contents` are those of the schema that is loaded. Only the owner of its tables may do this.
pub(crate) fn before_sql(schema: &SchemaName, contents: &Contents) -> String {
    let mut sql = String::new();
    for key in &contents.foreign_keys {
        let _ = writeln!(sql, "alter table {} drop constraint {};", of(schema, &key.table), quoted(&key.name));
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

/// The statements after the load: run deferred checks, add the foreign keys, which checks them, restore triggers and row
/// security, set the sequences to the values of `sequences`, and refresh the materialized views.
pub(crate) fn after_sql(schema: &SchemaName, contents: &Contents, sequences: &[Sequence]) -> String {
    // A table with pending checks cannot be altered.
    let mut sql = "set constraints all immediate;\n".to_owned();
    for key in &contents.foreign_keys {
        let (table, name) = (of(schema, &key.table), quoted(&key.name));
        let _ = writeln!(sql, "alter table {table} add constraint {name} {};", key.definition);
        if let Some(comment) = &key.comment {
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
        let _ = writeln!(sql, "refresh materialized view {};", of(schema, view));
    }
    sql
}
