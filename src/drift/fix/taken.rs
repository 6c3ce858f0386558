//! Names that a missing object needs and another object has, mainly after a table was renamed by hand: its indexes and
//! sequences keep their names.

use super::{FixStatement, HoldReason, Phase, fact, index, lineage, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

/// The kinds of objects that share one namespace in a schema. A composite type is a relation too.
const RELATIONS: [&str; 6] = ["table", "view", "materialized view", "foreign table", "sequence", "index"];

/// The kinds that share the namespace of types: a table, for example, is also a type.
const TYPES: [&str; 6] = ["table", "view", "materialized view", "foreign table", "type", "domain"];

const ROUTINES: [&str; 3] = ["function", "procedure", "aggregate"];

/// Returns the statement that gives a missing object its name back.
pub(super) fn rename_back(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    match key.kind.as_str() {
        "table" => rename_table_back(key, given, found),
        "type" | "domain" => rename_type_back(key, given, found),
        "sequence" => rename_sequence_back(key, given, found),
        _ => rename_part_back(key, given, found),
    }
}

/// Returns the same for the object that has the other name.
pub(super) fn renamed_from(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let original = match key.kind.as_str() {
        "table" => {
            let mut renamed = renamed(given, found).into_iter();
            renamed.find(|(old, _)| *old == key)?.1
        }
        "type" | "domain" => same_type(key, found, given)?,
        "sequence" => same_sequence(key, found, given)?,
        _ => same_part(key, found, given)?,
    };
    rename_back(original, given, found)
}

/// Returns the statement for a table, if one other table has all of its columns, and one of its children or a name of its indexes or sequences.
fn rename_table_back(table: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    if table.kind != "table" {
        return None;
    }
    let other = other_name(table, given, found)?;
    let sql = format!("alter table {} rename to {}", own(other), quoted(&table.name));
    Some(
        run(Phase::Names, sql)
            .making(table)
            .noting("it has the columns of the missing table, and its children or names of its indexes or sequences"),
    )
}

/// Returns the statement that gives a type its name back, if one other type or domain is the same except for its name.
fn rename_type_back(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let other = same_type(key, given, found)?;
    let sql = format!("alter {} {} rename to {}", key.kind, own(&other.name), quoted(&key.name));
    Some(run(Phase::Names, sql).making(key).noting("it is the same as the missing one"))
}

/// Returns the one object that is only in `others` and has the properties of one that is only in `catalogue`.
fn same_type<'o>(key: &ObjectKey, catalogue: &Catalogue, others: &'o Catalogue) -> Option<&'o ObjectKey> {
    let properties = |key: &ObjectKey, catalogue: &Catalogue| {
        let mut facts = catalogue.objects.get(key)?.clone();
        ["comment", "grants", "owner"].iter().for_each(|aspect| drop(facts.remove(*aspect)));
        Some((facts, typed_columns(&key.name, catalogue)))
    };
    if !["type", "domain"].contains(&key.kind.as_str()) {
        return None;
    }
    let wanted = properties(key, catalogue)?;
    let is_same = |other: &&ObjectKey| {
        other.kind == key.kind
            && !catalogue.objects.contains_key(*other)
            && properties(other, others).as_ref() == Some(&wanted)
    };
    let mut same = others.objects.keys().filter(is_same);
    let first = same.next()?;
    same.next().is_none().then_some(first)
}

/// Returns the statement that gives a sequence its name back, if another one belongs to the same column. A new one would start at 1.
fn rename_sequence_back(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let other = same_sequence(key, given, found)?;
    let sql = format!("alter sequence {} rename to {}", own(&other.name), quoted(&key.name));
    Some(to_name_of_relation(key, sql, found))
}

/// Returns the statement that renames a relation, as a comment if another relation has the name.
fn to_name_of_relation(key: &ObjectKey, sql: String, found: &Catalogue) -> FixStatement {
    let mut rename = run(Phase::Names, sql).making(key);
    if let Some(holder) = holder(&key.name, found) {
        rename.hold_back(HoldReason::Refused, &is_taken(&key.name, holder, found));
    }
    rename
}

fn same_sequence<'o>(key: &ObjectKey, catalogue: &Catalogue, others: &'o Catalogue) -> Option<&'o ObjectKey> {
    let column = fact(catalogue.objects.get(key)?, "owned by")?;
    let is_same = |(other, facts): &(&ObjectKey, &ObjectFacts)| {
        other.kind == "sequence" && !catalogue.objects.contains_key(*other) && fact(facts, "owned by") == Some(column)
    };
    let mut same = others.objects.iter().filter(is_same);
    let first = same.next()?.0;
    same.next().is_none().then_some(first)
}

/// Returns the old and the new name of the tables and types that get their names back.
pub(super) fn renamed<'c>(given: &'c Catalogue, found: &'c Catalogue) -> Vec<(&'c ObjectKey, &'c ObjectKey)> {
    let missing = given.objects.keys().filter(|key| !found.objects.contains_key(*key));
    let pair = |key: &'c ObjectKey| {
        let old = match key.kind.as_str() {
            "table" => found.objects.get_key_value(&lineage::table_key(other_name(key, given, found)?))?.0,
            _ => same_type(key, given, found)?,
        };
        Some((old, key))
    };
    missing.filter_map(pair).collect()
}

/// Returns the statement that gives an index or constraint its name back. An index of a partition can belong to that of the table,
/// and then the server does not drop it.
fn rename_part_back(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<FixStatement> {
    let other = same_part(key, given, found)?;
    let is_check = || fact(&given.objects[key], "definition").is_some_and(|text| text.starts_with("CHECK"));
    // The server renames the checks of children with that of the parent.
    if key.kind == "constraint"
        && is_check()
        && let Some(above) = lineage::followed(key, given, found)
    {
        return rename_part_back(&above, given, found);
    }
    let is_constraint = key.kind == "constraint" || index::is_of_constraint(key, given);
    let (old, new) = (quoted(&other.name), quoted(&key.name));
    let sql = match key.kind.as_str() {
        _ if is_constraint => format!("alter table {} rename constraint {old} to {new}", own(&key.parent)),
        "index" => format!("alter index {} rename to {new}", own(&other.name)),
        kind => format!("alter {kind} {old} on {} rename to {new}", own(&key.parent)),
    };
    let has_index = ["constraint", "index"].contains(&key.kind.as_str())
        && given.objects.contains_key(&ObjectKey { kind: "index".into(), ..key.clone() });
    Some(if has_index { to_name_of_relation(key, sql, found) } else { run(Phase::Names, sql).making(key) })
}

/// Returns the index or constraint that is only in `others` and differs only in its name from one that is only in `catalogue`. Of
/// several on both sides, the first is the same as the first, and so on.
fn same_part<'o>(key: &ObjectKey, catalogue: &Catalogue, others: &'o Catalogue) -> Option<&'o ObjectKey> {
    let form = form(key, catalogue)?;
    let only_in = |these: &'_ Catalogue, not: &Catalogue, other: &ObjectKey| {
        let is_beside = other.kind == key.kind && other.parent == key.parent;
        is_beside && !not.objects.contains_key(other) && self::form(other, these).as_ref() == Some(&form)
    };
    let place =
        catalogue.objects.keys().filter(|other| only_in(catalogue, others, other)).position(|other| other == key)?;
    others.objects.keys().filter(|other| only_in(others, catalogue, other)).nth(place)
}

/// Returns what is the same of two parts of a table that differ in their name.
fn form(key: &ObjectKey, catalogue: &Catalogue) -> Option<String> {
    let facts = catalogue.objects.get(key)?;
    match key.kind.as_str() {
        "index" | "constraint" if !catalogue.is_domain(&key.parent) => index::form(key, catalogue),
        "trigger" | "rule" => {
            let definition = fact(facts, "definition")?;
            let mut names = [key.name.clone(), quoted(&key.name)].into_iter();
            let (head, tail) = names.find_map(|name| definition.split_once(&format!(" {name} ")))?;
            Some(format!("{head} {tail}"))
        }
        "policy" => {
            let facts: Vec<_> = facts.iter().filter(|(aspect, _)| *aspect != "comment").collect();
            Some(format!("{facts:?}"))
        }
        _ => None,
    }
}

/// Marks the statements that create an object under a name that another object has.
pub(super) fn mark(key: &ObjectKey, given: &Catalogue, found: &Catalogue, statements: &mut [FixStatement]) {
    let of_relation = || names_of(key, given).find_map(|name| Some((name, holder(name, found)?)));
    let of_type = || Some((key.name.as_str(), type_holder(key, given, found)?));
    let of_routine = || Some((key.name.as_str(), routine_holder(key, given, found)?));
    let Some((name, holder)) = of_relation().or_else(of_type).or_else(of_routine) else { return };
    let note = is_taken(name, holder, found);
    for statement in statements {
        statement.hold_back(HoldReason::Refused, &note);
    }
}

fn is_taken(name: &str, holder: &ObjectKey, found: &Catalogue) -> String {
    let of_table = table_of(holder, found).map(|table| format!(" of table {table}")).unwrap_or_default();
    format!("the name {name} is taken by the {}{of_table}: rename or drop that first", holder.kind)
}

/// Returns the columns of a table or composite type with their types.
fn typed_columns(of: &str, catalogue: &Catalogue) -> Vec<(String, Option<String>)> {
    let of_type = |column: &String| {
        let key = ObjectKey { kind: "column".into(), parent: of.into(), name: column.clone() };
        catalogue.objects.get(&key).and_then(|facts| facts.get("type").cloned())
    };
    catalogue.columns_of(of).into_iter().map(|column| (column.clone(), of_type(&column))).collect()
}

/// Returns the one other table under which a missing table exists.
fn other_name<'f>(table: &ObjectKey, given: &Catalogue, found: &'f Catalogue) -> Option<&'f str> {
    let wanted = typed_columns(&table.name, given);
    let holders = names_of(table, given).filter_map(|name| table_of(holder(name, found)?, found));
    let of_children = lineage::children(&table.name, given).flat_map(|child| lineage::parents(child, found));
    let of_children = of_children
        .filter_map(|parent| Some(found.objects.get_key_value(&lineage::table_key(&parent))?.0.name.as_str()));
    let mut others = holders.chain(of_children).filter(|other| {
        let key = ObjectKey { name: (*other).to_owned(), ..table.clone() };
        found.objects.contains_key(&key) && !given.objects.contains_key(&key) && typed_columns(other, found) == wanted
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
