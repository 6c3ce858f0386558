//! Statements for sequences, including those of identity columns.

use super::{FixStatement, Phase, fact, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
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
    let mut all =
        vec![run(Phase::Sequences, sql).noting("a new sequence starts at 1: set it above the existing values")];
    if let Some(column) = fact(facts, "owned by") {
        all.push(run(Phase::LateFunctions, format!("alter sequence {name} owned by {}", owned_by(column))));
    }
    all
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
