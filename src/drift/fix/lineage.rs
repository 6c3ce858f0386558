//! The parents of a table: its partitioned table, or the tables that it inherits from. The server adds constraints,
//! indexes, triggers and columns of a parent to its children.

use super::{fact, own};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};

/// How many levels of parents are followed.
const LEVELS_MAX: usize = 64;

/// Returns the names of the tables that a table belongs to or inherits from. Those of other schemas have their schema in
/// front, and match no table.
pub(super) fn parents(table: &str, catalogue: &Catalogue) -> Vec<String> {
    let facts = catalogue.objects.get(&table_key(table));
    let names = facts.and_then(|facts| fact(facts, "inherits")).unwrap_or_default().split(", ");
    names.filter(|name| !name.is_empty()).map(unquoted).collect()
}

pub(super) fn table_key(name: &str) -> ObjectKey {
    ObjectKey { kind: "table".into(), parent: String::new(), name: name.into() }
}

/// Returns the name of a parent with its schema. That of another schema has it already.
pub(super) fn address(parent: &str) -> String {
    let mut is_quoted = false;
    let has_schema = parent.chars().any(|c| {
        is_quoted ^= c == '"';
        c == '.' && !is_quoted
    });
    if has_schema { parent.to_owned() } else { own(&unquoted(parent)) }
}

fn unquoted(name: &str) -> String {
    match name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

pub(super) fn is_partition(table: &str, catalogue: &Catalogue) -> bool {
    catalogue.objects.get(&table_key(table)).is_some_and(|facts| facts.contains_key("partition"))
}

pub(super) fn is_partitioned(table: &str, catalogue: &Catalogue) -> bool {
    catalogue.objects.get(&table_key(table)).is_some_and(|facts| facts.contains_key("partitioned by"))
}

/// Whether a table is partitioned by a column.
pub(super) fn is_partitioned_by(column: &ObjectKey, catalogue: &Catalogue) -> bool {
    let facts = catalogue.objects.get(&table_key(&column.parent));
    let by = facts.and_then(|facts| fact(facts, "partitioned by")).unwrap_or_default();
    let mut words = by.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '$'));
    words.any(|word| word == column.name) || by.contains(&quoted(&column.name))
}

/// Returns the key of a table's link to its parents, which a statement creates.
pub(super) fn link(table: &str) -> ObjectKey {
    ObjectKey { kind: LINK.into(), parent: String::new(), name: table.into() }
}

/// The kind of a link. No object of a schema has it.
pub(super) const LINK: &str = "link to its parents";

/// Whether an existing table and all partitioned tables above it are the partitions that they are in the migrations.
pub(super) fn is_linked(table: &str, given: &Catalogue, found: &Catalogue) -> bool {
    let is_missing = |table: &str| is_partition(table, given) && !is_partition(table, found);
    let above = parents(table, given).iter().all(|parent| is_linked(parent, given, found));
    !is_missing(table) && above
}

/// Returns the names of the tables directly below a table.
pub(super) fn children<'c>(table: &str, catalogue: &'c Catalogue) -> impl Iterator<Item = &'c str> {
    let tables = catalogue.objects.keys().filter(|key| key.kind == "table");
    let is_below = move |key: &&ObjectKey| parents(&key.name, catalogue).iter().any(|parent| parent == table);
    tables.filter(is_below).map(|key| key.name.as_str())
}

/// Returns the names of the direct partitions of a table.
pub(super) fn partitions<'c>(table: &str, catalogue: &'c Catalogue) -> impl Iterator<Item = &'c str> {
    children(table, catalogue).filter(|child| is_partition(child, catalogue))
}

/// Returns a table and all partitions below it.
pub(super) fn with_partitions(table: &str, catalogue: &Catalogue) -> impl Iterator<Item = String> {
    let mut all = vec![table.to_owned()];
    let mut next = 0;
    while let Some(table) = all.get(next).cloned() {
        all.extend(partitions(&table, catalogue).map(ToOwned::to_owned));
        next += 1;
    }
    all.into_iter()
}

/// Returns how many tables are above a table.
pub(super) fn depth(table: &str, catalogue: &Catalogue) -> usize {
    let mut level = vec![table.to_owned()];
    for depth in 0..LEVELS_MAX {
        level = level.iter().flat_map(|table| parents(table, catalogue)).collect();
        if level.is_empty() {
            return depth;
        }
    }
    LEVELS_MAX
}

/// Returns the parent's object that the server adds to the child: a trigger or foreign key of a partitioned table, a check,
/// or a column.
pub(super) fn inherited(key: &ObjectKey, catalogue: &Catalogue) -> Option<ObjectKey> {
    let facts = catalogue.objects.get(key)?;
    let of_parents = parents(&key.parent, catalogue).into_iter().map(|parent| ObjectKey { parent, ..key.clone() });
    let is_partition = is_partition(&key.parent, catalogue);
    let is_inherited = |of_parent: &ObjectKey| {
        let Some(above) = catalogue.objects.get(of_parent) else { return false };
        match key.kind.as_str() {
            "trigger" => is_partition,
            "column" => fact(above, "type") == fact(facts, "type"),
            "constraint" => {
                let definition = fact(above, "definition").unwrap_or_default();
                let is_passed_on = definition.starts_with("CHECK") && !definition.ends_with(" NO INHERIT")
                    || is_partition && definition.starts_with("FOREIGN KEY");
                is_passed_on && fact(facts, "definition") == Some(definition)
            }
            _ => false,
        }
    };
    of_parents.into_iter().find(is_inherited)
}

/// Returns the parent's object if the existing tables are linked, so that a statement for the parent changes the child.
pub(super) fn followed(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<ObjectKey> {
    let above = inherited(key, given)?;
    parents(&key.parent, found).contains(&above.parent).then_some(above)
}
