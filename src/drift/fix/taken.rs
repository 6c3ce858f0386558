//! Names that a missing object needs and another object has, mainly after a table was renamed by hand: its indexes and
//! sequences keep their names.

use super::{FixStatement, Phase, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};

/// The kinds of objects that share one namespace in a schema.
const RELATIONS: [&str; 6] = ["table", "view", "materialized view", "foreign table", "sequence", "index"];

/// Returns the statement that gives a missing table its name back, if one other table has all of its columns and a name of its
/// indexes or sequences.
pub(super) fn rename_back(table: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    if table.kind != "table" {
        return None;
    }
    let other = other_name(table, given, found)?;
    let sql = format!("alter table {} rename to {}", own(other), quoted(&table.name));
    Some(
        run(Phase::Names, sql).noting("it has the columns of the missing table, and names of its indexes or sequences"),
    )
}

/// Returns the same for the table that has the other name.
pub(super) fn renamed_from(table: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let columns = found.columns.get(&table.name).filter(|_| table.kind == "table")?;
    let is_missing = |key: &&ObjectKey| {
        key.kind == "table" && given.columns.get(&key.name) == Some(columns) && !found.objects.contains_key(*key)
    };
    let mut missing = given.objects.keys().filter(is_missing);
    let original = missing.find(|key| other_name(key, given, found) == Some(&table.name))?;
    rename_back(original, given, found)
}

/// Marks the statements that create an object under a name that another object has.
pub(super) fn mark(key: &ObjectKey, given: &Catalogue, found: &Catalogue, statements: &mut [FixStatement]) {
    let Some((name, holder)) = names_of(key, given).find_map(|name| Some((name, holder(name, found)?))) else { return };
    let of_table = table_of(holder, found).map(|table| format!(" of table {table}")).unwrap_or_default();
    let note = format!("the name {name} is taken by the {}{of_table}: rename or drop that first", holder.kind);
    for statement in statements {
        statement.is_blocked = true;
        statement.note = Some(statement.note.take().map_or_else(|| note.clone(), |other| format!("{note}; {other}")));
    }
}

/// Returns the one other table under which a missing table exists.
fn other_name<'f>(table: &ObjectKey, given: &Catalogue, found: &'f Catalogue) -> Option<&'f str> {
    let columns = |catalogue: &Catalogue, table: &str| -> Vec<(String, Option<String>)> {
        let of_type = |column: &String| {
            let key = ObjectKey { kind: "column".into(), parent: table.into(), name: column.clone() };
            catalogue.objects.get(&key).and_then(|facts| facts.get("type").cloned())
        };
        catalogue.columns_of(table).into_iter().map(|column| (column.clone(), of_type(&column))).collect()
    };
    let wanted = columns(given, &table.name);
    let holders = names_of(table, given).filter_map(|name| table_of(holder(name, found)?, found));
    let mut others = holders.filter(|other| {
        let key = ObjectKey { name: (*other).to_owned(), ..table.clone() };
        found.objects.contains_key(&key) && !given.objects.contains_key(&key) && columns(found, other) == wanted
    });
    let first = others.next().filter(|_| !wanted.is_empty())?;
    others.all(|other| other == first).then_some(first)
}

/// Returns the names that the statements for an object create in the namespace of relations.
fn names_of<'c>(key: &'c ObjectKey, given: &'c Catalogue) -> impl Iterator<Item = &'c str> {
    let is_relation = RELATIONS.contains(&key.kind.as_str());
    let own = is_relation.then_some(key.name.as_str());
    let of_column = (key.kind == "column").then(|| given.sequence_of(&key.parent, &key.name)).flatten();
    let of_column = of_column.filter(|_| given.objects[key].contains_key("identity")).map(|(sequence, _)| sequence);
    let hanging = given.objects.keys().filter_map(move |other| {
        let belongs = match (other.kind.as_str(), key.kind.as_str()) {
            ("index", "constraint") => other.parent == key.parent && other.name == key.name,
            ("index", _) => is_relation && other.parent == key.name,
            ("sequence", _) => is_relation && table_of(other, given) == Some(&key.name),
            _ => false,
        };
        belongs.then_some(other.name.as_str())
    });
    own.into_iter().chain(of_column).chain(hanging)
}

fn holder<'f>(name: &str, found: &'f Catalogue) -> Option<&'f ObjectKey> {
    found.objects.keys().find(|key| key.name == name && RELATIONS.contains(&key.kind.as_str()))
}

/// Returns the table of an index or of a sequence that belongs to a column.
fn table_of<'f>(key: &'f ObjectKey, catalogue: &'f Catalogue) -> Option<&'f str> {
    match key.kind.as_str() {
        "index" => Some(&key.parent),
        "sequence" => catalogue.objects.get(key)?.get("owned by")?.split('.').next(),
        _ => None,
    }
}
