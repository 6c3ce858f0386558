//! Names that a missing object needs and another object has, mainly after a table was renamed by hand: its indexes and
//! sequences keep their names.

use super::{FixStatement, HoldReason, Phase, index, lineage, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};

/// The kinds of objects that share one namespace in a schema. A composite type is a relation too.
const RELATIONS: [&str; 6] = ["table", "view", "materialized view", "foreign table", "sequence", "index"];

/// The kinds that share the namespace of types: a table, for example, is also a type.
const TYPES: [&str; 6] = ["table", "view", "materialized view", "foreign table", "type", "domain"];

const ROUTINES: [&str; 3] = ["function", "procedure", "aggregate"];

/// Returns the statement that gives a missing table its name back, if one other table has all of its columns and a name of its
/// indexes or sequences.
pub(super) fn rename_back(table: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    if table.kind != "table" {
        return None;
    }
    let other = other_name(table, given, found)?;
    let sql = format!("alter table {} rename to {}", own(other), quoted(&table.name));
    Some(
        run(Phase::Names, sql)
            .making(table)
            .noting("it has the columns of the missing table, and names of its indexes or sequences"),
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

/// Returns the statement that gives an index or constraint of a partition its name back. It can belong to that of the table, and
/// then the server does not drop it.
pub(super) fn rename_part_back(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let is_part = ["index", "constraint"].contains(&key.kind.as_str()) && lineage::is_partition(&key.parent, found);
    let form = index::form(key, given).filter(|_| is_part)?;
    let is_it = |other: &&ObjectKey| {
        let is_beside = other.kind == key.kind && other.parent == key.parent;
        is_beside && !given.objects.contains_key(*other) && index::form(other, found).as_ref() == Some(&form)
    };
    let other = found.objects.keys().find(is_it)?;
    let (old, new) = (quoted(&other.name), quoted(&key.name));
    let sql = match key.kind.as_str() {
        "index" => format!("alter index {} rename to {new}", own(&other.name)),
        _ => format!("alter table {} rename constraint {old} to {new}", own(&key.parent)),
    };
    Some(run(Phase::Names, sql).making(key))
}

/// Returns the same for the index or constraint that has the other name.
pub(super) fn renamed_part(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let form = index::form(key, found)?;
    let is_missing = |other: &&ObjectKey| {
        let is_beside = other.kind == key.kind && other.parent == key.parent;
        is_beside && !found.objects.contains_key(*other) && index::form(other, given).as_ref() == Some(&form)
    };
    let original = given.objects.keys().find(is_missing)?;
    rename_part_back(original, given, found)
}

/// Marks the statements that create an object under a name that another object has.
pub(super) fn mark(key: &ObjectKey, given: &Catalogue, found: &Catalogue, statements: &mut [FixStatement]) {
    let of_relation = || names_of(key, given).find_map(|name| Some((name, holder(name, found)?)));
    let of_type = || Some((key.name.as_str(), type_holder(key, given, found)?));
    let of_routine = || Some((key.name.as_str(), routine_holder(key, given, found)?));
    let Some((name, holder)) = of_relation().or_else(of_type).or_else(of_routine) else { return };
    let of_table = table_of(holder, found).map(|table| format!(" of table {table}")).unwrap_or_default();
    let note = format!("the name {name} is taken by the {}{of_table}: rename or drop that first", holder.kind);
    for statement in statements {
        statement.hold_back(HoldReason::Refused, &note);
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
    let is_relation = |key: &&ObjectKey| {
        let is_composite = key.kind == "type" && found.columns.contains_key(&key.name);
        key.name == name && (is_composite || RELATIONS.contains(&key.kind.as_str()))
    };
    found.objects.keys().find(is_relation)
}

/// Returns the object that prevents a type of this name, or the relation if the type is composite.
fn type_holder<'f>(key: &ObjectKey, given: &Catalogue, found: &'f Catalogue) -> Option<&'f ObjectKey> {
    let is_composite = key.kind == "type" && given.columns.contains_key(&key.name);
    let is_type = TYPES.contains(&key.kind.as_str());
    found.objects.keys().find(|other| {
        let kind = other.kind.as_str();
        let takes_it = is_type && TYPES.contains(&kind) || is_composite && RELATIONS.contains(&kind);
        takes_it && other.name == key.name
    })
}

/// Returns the routine with the same types of arguments: of another kind, or with other names of arguments.
fn routine_holder<'f>(key: &ObjectKey, given: &Catalogue, found: &'f Catalogue) -> Option<&'f ObjectKey> {
    let types = |key: &ObjectKey| -> Option<(String, Vec<String>)> {
        let (name, arguments) = key.name.split_once('(')?;
        // The last word of an argument belongs to its type.
        let last_word = |argument: &str| argument.trim_end_matches(')').rsplit(' ').next().map(ToOwned::to_owned);
        Some((name.to_owned(), arguments.split(", ").filter_map(last_word).collect()))
    };
    if !ROUTINES.contains(&key.kind.as_str()) {
        return None;
    }
    let mut others = found.objects.keys().filter(|other| ROUTINES.contains(&other.kind.as_str()));
    others.find(|other| !given.objects.contains_key(*other) && types(other) == types(key))
}

/// Returns the table of an index or of a sequence that belongs to a column.
fn table_of<'f>(key: &'f ObjectKey, catalogue: &'f Catalogue) -> Option<&'f str> {
    match key.kind.as_str() {
        "index" => Some(&key.parent),
        "sequence" => catalogue.objects.get(key)?.get("owned by")?.split('.').next(),
        _ => None,
    }
}
