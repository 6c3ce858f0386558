//! Keeps statements as comments that the server would refuse, because they need an object that the script does not
//! create: no statement for it is known, or its own statement is a comment.

use super::{
    FixStatement, Fixes, HoldReason, Phase, column, fact, lineage,
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
                    && let Some(reason) =
                        absent.reason(statement, words, given).or_else(|| other_column(key, statement, given, found))
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
    /// The labels that are added to enums, as expressions contain them: `'high'::mood`.
    new_labels: Vec<String>,
}

impl<'c> Absent<'c> {
    fn after(fixes: &[Fixes<'c>], given: &'c Catalogue, found: &'c Catalogue) -> Self {
        let mut made: BTreeMap<&ObjectKey, bool> = BTreeMap::new();
        let mut of_other_type = BTreeMap::new();
        let mut new_labels = Vec::new();
        for (key, statements) in fixes {
            for statement in statements.iter().filter(|statement| statement.hold != HoldReason::OnlyWithLoss) {
                if let Some((_, label)) = statement.sql.split_once(" add value ").filter(|_| key.kind == "type") {
                    let label = label.split(" after ").next().unwrap_or_default();
                    let label = label.split(" before ").next().unwrap_or_default();
                    new_labels.extend([&key.name, &quoted(&key.name)].map(|of| format!("{label}::{of}")));
                }
                if let Some(makes) = &statement.makes {
                    *made.entry(makes).or_default() |= is_live(statement);
                }
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
        Self { by_name, of_other_type, new_labels }
    }

    /// Returns why the server would refuse a statement.
    fn reason(&self, statement: &FixStatement, words: &SqlNames, given: &Catalogue) -> Option<String> {
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
        if self.new_labels.iter().any(|label| statement.sql.contains(label.as_str())) {
            return Some("the server accepts a new label only after the transaction that adds it".to_owned());
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
        // A partition has the types of its table.
        let link = statement.makes.as_ref().filter(|made| made.kind == lineage::LINK);
        let (column, _) = self.of_other_type.iter().find(|(key, has_other_operators)| {
            reads_columns && **has_other_operators && words.contain(key)
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
