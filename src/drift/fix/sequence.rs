//! Statements for sequences, including those of identity columns.

use super::{FixStatement, Phase, fact, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::{literal, quoted},
};

/// Returns no statement for the sequence of an identity column, because the column creates it.
pub(super) fn create(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    if given.identity_of(key).is_some() {
        return Vec::new();
    }
    let name = own(&key.name);
    let unlogged = if facts.contains_key("logging") { "unlogged " } else { "" };
    let mut sql = format!("create {unlogged}sequence {name}");
    if let Some(data_type) = fact(facts, "data type") {
        sql.push_str(&format!(" as {data_type}"));
    }
    sql.push_str(&options(facts));
    let mut all = vec![run(Phase::Sequences, sql)];
    match fact(facts, "owned by") {
        Some(column) => {
            all.push(run(Phase::LateFunctions, format!("alter sequence {name} owned by {}", owned_by(column))));
            all.extend(continued(&key.name, facts, column, given));
        }
        None => all[0] = all[0].clone().noting("a new sequence starts at 1: set it above the existing values"),
    }
    all
}

/// Returns the statement that sets a new sequence to the highest value of its column, so that no number is used twice.
pub(super) fn continued(name: &str, facts: &ObjectFacts, column: &str, given: &Catalogue) -> Option<FixStatement> {
    let (table, column) = column.split_once('.')?;
    let key = ObjectKey { kind: "column".into(), parent: table.into(), name: column.into() };
    let is_number = ["smallint", "integer", "bigint"].contains(&fact(given.objects.get(&key)?, "type")?);
    if !is_number || fact(facts, "increment").is_some_and(|step| step.starts_with('-')) {
        return None;
    }
    let (sequence, column, least) = (literal(&own(name)), quoted(column), fact(facts, "minimum").unwrap_or("1"));
    let highest = format!(
        "select pg_catalog.setval({sequence}::pg_catalog.regclass, pg_catalog.max({column})) from {}",
        own(table)
    );
    Some(run(Phase::Settings, format!("{highest} having pg_catalog.max({column}) >= {least}")))
}

/// Returns the options of a sequence, for CREATE SEQUENCE and for an identity column.
pub(super) fn options(facts: &ObjectFacts) -> String {
    let mut sql = String::new();
    for (aspect, word) in [
        ("increment", "increment by"),
        ("minimum", "minvalue"),
        ("maximum", "maxvalue"),
        ("start", "start with"),
        ("cache", "cache"),
    ] {
        if let Some(value) = fact(facts, aspect) {
            sql.push_str(&format!(" {word} {value}"));
        }
    }
    sql.push_str(if fact(facts, "cycle").is_some() { " cycle" } else { " no cycle" });
    sql
}

/// Returns `table.column` for a sequence that belongs to a column.
pub(super) fn owned_by(column: &str) -> String {
    match column.split_once('.') {
        Some((table, column)) => format!("{}.{}", own(table), quoted(column)),
        None => "none".into(),
    }
}
