//! Keeps statements as comments that the server would refuse, because they need an object that the script does not
//! create: no statement for it is known, or its own statement is a comment.

use super::{
    FixStatement, Fixes, HoldReason, Phase, alter, column, fact, lineage, taken,
    words::{SqlNames, base_name},
};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};
use std::collections::{BTreeMap, HashMap};

pub(super) fn mark(fixes: &mut [Fixes<'_>], given: &Catalogue, found: &Catalogue) {
    let words: Vec<Vec<SqlNames>> = fixes
        .iter()
        .map(|(_, statements)| statements.iter().map(|statement| SqlNames::of(&statement.sql)).collect())
        .collect();
    let renamed = taken::renamed(given, found);
    // Each round can only hold back more statements.
    loop {
        let absent = Absent::after(fixes, given, found);
        let mut is_final = true;
        for ((key, statements), words) in fixes.iter_mut().zip(&words) {
            for (statement, words) in statements.iter_mut().zip(words) {
                let only_removes =
                    statement.loses_data && matches!(statement.phase, Phase::DropDependents | Phase::DropObjects);
                if statement.hold == HoldReason::No
                    && !only_removes
                    && let Some(reason) = after_rename(statement, words, &renamed)
                        .or_else(|| absent.reason(key, statement, words, given, found))
                        .or_else(|| other_column(key, statement, given, found))
                        .or_else(|| rows(key, statement, words, &renamed, given, found))
                        .or_else(|| children_elsewhere(key, statement, found))
                {
                    statement.hold_back(HoldReason::Refused, &reason);
                    is_final = false;
                }
            }
        }
        if is_final {
            return;
        }
    }
}

/// The objects of the migrations that do not exist after the statements that are no comments.
struct Absent<'c> {
    by_name: HashMap<&'c str, Vec<&'c ObjectKey>>,
    /// Columns whose type is not changed back, and whether the types have other operators.
    of_other_type: BTreeMap<&'c ObjectKey, bool>,
    /// The labels that enums do not have before the script has run, as expressions contain them: `'high'::mood`. Whether the
    /// script adds them.
    no_labels: Vec<(String, bool)>,
}

impl<'c> Absent<'c> {
    fn after(fixes: &[Fixes<'c>], given: &'c Catalogue, found: &'c Catalogue) -> Self {
        let mut made: BTreeMap<&ObjectKey, bool> = BTreeMap::new();
        let mut of_other_type = BTreeMap::new();
        let mut no_labels = Vec::new();
        for (key, statements) in fixes {
            for statement in statements.iter().filter(|statement| statement.hold != HoldReason::OnlyWithLoss) {
                if let Some(makes) = &statement.makes {
                    *made.entry(makes).or_default() |= is_live(statement);
                }
            }
            for (label, is_added) in alter::missing_labels(key, given, found) {
                no_labels.extend([&key.name, &quoted(&key.name)].map(|of| (format!("{label}::{of}"), is_added)));
            }
            if key.kind == "column"
                && !given.is_view(&key.parent)
                && !statements.iter().any(is_live)
                && let Some((wanted, held)) = types(key, given, found)
            {
                of_other_type.insert(*key, group(wanted) != group(held));
            }
        }
        let mut by_name: HashMap<&str, Vec<&ObjectKey>> = HashMap::new();
        for key in given.objects.keys().filter(|key| !exists(key, &made, given, found)) {
            by_name.entry(base_name(key)).or_default().push(key);
            if ["constraint", "index"].contains(&key.kind.as_str()) {
                by_name.entry(&key.parent).or_default().push(key);
            }
        }
        Self { by_name, of_other_type, no_labels }
    }

    /// Returns why the server would refuse a statement.
    fn reason(
        &self,
        of: &ObjectKey,
        statement: &FixStatement,
        words: &SqlNames,
        given: &Catalogue,
        found: &Catalogue,
    ) -> Option<String> {
        let named = words.all().filter_map(|name| self.by_name.get(name)).flatten();
        let needed = named.into_iter().filter(|key| words.depend_on(key, given));
        // A whole object is the better reason than a part of it.
        let needed = needed.min_by_key(|key| (!key.parent.is_empty(), **key));
        if let Some(key) = needed {
            let name = if key.parent.is_empty() || key.kind == "index" {
                key.name.clone()
            } else {
                format!("{}.{}", key.parent, key.name)
            };
            return Some(match statement.drops.as_ref() == Some(*key) {
                true => format!("no statement here creates {} {name} again", key.kind),
                false => format!("it needs {} {name}, which no statement here creates", key.kind),
            });
        }
        if let Some((label, is_added)) = self.no_labels.iter().find(|(label, _)| statement.sql.contains(label.as_str()))
        {
            return Some(match is_added {
                true => "the server accepts a new label only after the transaction that adds it".to_owned(),
                false => format!("there is no {label}, and no statement here adds it"),
            });
        }
        let reads_columns = matches!(
            statement.phase,
            Phase::LateFunctions
                | Phase::Keys
                | Phase::Checks
                | Phase::Indexes
                | Phase::ForeignKeys
                | Phase::Views
                | Phase::Triggers
        );
        // Its text may differ only because of the type.
        let is_only_restored = statement.makes.as_ref() == Some(of) && found.objects.contains_key(of);
        let is_its_default = |key: &ObjectKey| key == of && statement.sql.contains(" set default ");
        // A partition has the types of its table.
        let link = statement.makes.as_ref().filter(|made| made.kind == lineage::LINK);
        let (column, _) = self.of_other_type.iter().find(|(key, has_other_operators)| {
            let is_in_the_way = **has_other_operators || is_only_restored;
            is_in_the_way && reads_columns && words.contain(key)
                || **has_other_operators && is_its_default(key)
                || link.is_some_and(|link| link.name == key.parent)
        })?;
        Some(format!("the column {}.{} has another type", column.parent, column.name))
    }
}

/// Returns why a table cannot become a partition: it has a column that its table does not have, or of another type.
fn other_column(key: &ObjectKey, statement: &FixStatement, given: &Catalogue, found: &Catalogue) -> Option<String> {
    if statement.phase != Phase::Partitions || !lineage::is_partition(&key.name, given) {
        return None;
    }
    let mut columns = found.columns_of(&key.name).into_iter();
    let column = columns.find(|name| {
        let column = ObjectKey { kind: "column".into(), parent: key.name.clone(), name: name.clone() };
        !given.objects.contains_key(&column)
    })?;
    Some(format!("the column {}.{column} is in no migration", key.name))
}

/// Returns why a statement waits for another script: what an object refers to under its present name differs only until the name
/// is given back.
fn after_rename(statement: &FixStatement, words: &SqlNames, renamed: &[(&ObjectKey, &ObjectKey)]) -> Option<String> {
    if statement.phase == Phase::Names {
        return None;
    }
    let is_link = statement.makes.as_ref().is_some_and(|made| made.kind == lineage::LINK);
    let names = |(old, new): &&(&ObjectKey, &ObjectKey)| {
        words.contain(old) || (is_link || old.kind != "table") && words.contain(new)
    };
    renamed.iter().find(names).map(|(old, _)| name_first(old))
}

fn name_first(old: &ObjectKey) -> String {
    format!("{} {} gets its name back first: compare again after that", old.kind, old.name)
}

/// Returns why a statement is left to a person: the server would change a table of another schema too.
fn children_elsewhere(key: &ObjectKey, statement: &FixStatement, found: &Catalogue) -> Option<String> {
    let subject = statement.makes.as_ref().or(statement.drops.as_ref()).unwrap_or(key);
    let table = if subject.parent.is_empty() { &subject.name } else { &subject.parent };
    let children = fact(found.objects.get(&lineage::table_key(table))?, "children elsewhere")?;
    let is_harmless = matches!(statement.phase, Phase::Comments | Phase::Grants);
    (!is_harmless).then(|| format!("it may also change {children}, a child of {table} in another schema"))
}

/// Returns why the rows that exist are certain to be in the way, or likely.
fn rows(
    key: &ObjectKey,
    statement: &FixStatement,
    words: &SqlNames,
    renamed: &[(&ObjectKey, &ObjectKey)],
    given: &Catalogue,
    found: &Catalogue,
) -> Option<String> {
    let exists = |table: &str| found.objects.contains_key(&lineage::table_key(table));
    let made = statement.makes.as_ref()?;
    match statement.phase {
        Phase::ForeignKeys if made.kind == "constraint" && exists(&made.parent) => {
            let mut referenced = words.referenced().flat_map(|table| lineage::with_partitions(table, given));
            let table = referenced.find(|table| !exists(table))?;
            Some(match renamed.iter().find(|(_, new)| new.name == table) {
                Some((old, _)) => name_first(old),
                None => format!(
                    "it fails while {} has rows that refer to table {table}, which is created without rows",
                    made.parent
                ),
            })
        }
        Phase::Columns
            if made == key && made.kind == "column" && exists(&made.parent) && column::needs_a_value(key, given) =>
        {
            Some(
                "it fails while the table has rows: add the column without NOT NULL, fill it, then set NOT NULL"
                    .to_owned(),
            )
        }
        _ => None,
    }
}

fn is_live(statement: &FixStatement) -> bool {
    statement.hold == HoldReason::No && !statement.loses_data
}

fn exists(key: &ObjectKey, made: &BTreeMap<&ObjectKey, bool>, given: &Catalogue, found: &Catalogue) -> bool {
    if let Some(is_made) = made.get(key) {
        return *is_made;
    }
    if found.objects.contains_key(key) {
        return true;
    }
    // What the parent gives to the table comes with the link to it.
    let is_linked = match made.get(&lineage::link(&key.parent)) {
        Some(is_made) => *is_made,
        None => true,
    };
    is_linked && comes_with(key, given, found).is_some_and(|other| exists(&other, made, given, found))
}

/// Returns the object whose statement also creates this one.
fn comes_with(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<ObjectKey> {
    let whole = |name: &str| {
        let kind = given.kind_of(name)?;
        Some(ObjectKey { kind: kind.into(), parent: String::new(), name: name.into() })
    };
    if key.kind == "sequence" {
        let (table, column) = fact(&given.objects[key], "owned by")?.split_once('.')?;
        let column = ObjectKey { kind: "column".into(), parent: table.into(), name: column.into() };
        return Some(column);
    }
    if key.parent.is_empty() {
        return None;
    }
    let constraint = ObjectKey { kind: "constraint".into(), ..key.clone() };
    if key.kind == "index" && given.objects.contains_key(&constraint) {
        return Some(constraint);
    }
    let whole = whole(&key.parent)?;
    if !found.objects.contains_key(&whole) || given.is_view(&key.parent) {
        return Some(whole);
    }
    column::above(key, given, found).or_else(|| lineage::inherited(key, given))
}

/// Returns the expected and the found type of a column if they differ.
fn types<'c>(key: &ObjectKey, given: &'c Catalogue, found: &'c Catalogue) -> Option<(&'c str, &'c str)> {
    let (wanted, held) = (fact(given.objects.get(key)?, "type")?, fact(found.objects.get(key)?, "type")?);
    (wanted != held).then_some((wanted, held))
}

/// Returns the types that have the same operators as a type; the type itself if none are known.
fn group(name: &str) -> &str {
    const NUMBERS: [&str; 6] = ["smallint", "integer", "bigint", "numeric", "real", "double precision"];
    let plain = name.split('(').next().unwrap_or_default();
    match plain {
        "text" | "character varying" | "character" => "text",
        plain if NUMBERS.contains(&plain) => "number",
        plain if plain.starts_with("timestamp") || plain == "date" => "time",
        _ => name,
    }
}
