//! Statements for indexes, including those of constraints and of partitioned tables.

use super::{FixStatement, Phase, definition, fact, lineage, option_clauses, own, remove, run, trimmings};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

/// Returns the statements for a missing index that belongs to no constraint.
pub(super) fn create(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    // A materialized view is created after the indexes of tables.
    let phase = if given.is_view(&key.parent) { Phase::Triggers } else { Phase::Indexes };
    let Some(mut create) = definition(phase, facts) else { return Vec::new() };
    // The server writes ONLY for a partitioned index. Without it, the indexes of the partitions become parts of this one,
    // and those that do not exist are created.
    if lineage::is_partitioned(&key.parent, given) && fact(facts, "state") == Some("valid") {
        create.sql = create.sql.replacen(" ON ONLY ", " ON ", 1);
    }
    std::iter::once(create).chain(settings(key, facts, given)).collect()
}

/// Returns the statements for the index of a new constraint.
pub(super) fn of_constraint(constraint: &ObjectKey, given: &Catalogue) -> Vec<FixStatement> {
    let key = ObjectKey { kind: "index".into(), ..constraint.clone() };
    let Some(facts) = given.objects.get(&key) else { return Vec::new() };
    let options = set_options(&key, fact(facts, "options"), None);
    options.into_iter().chain(settings(&key, facts, given)).chain(trimmings::of_new(&key, given)).collect()
}

/// Returns the statements for the properties that CREATE INDEX does not set.
fn settings(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    let aspects = ["tablespace", "statistics targets", "clustered", "replica identity"];
    let set = aspects.iter().filter(|aspect| facts.contains_key(**aspect));
    set.flat_map(|aspect| setting(key, aspect, facts, &ObjectFacts::new(), given)).collect()
}

/// Returns the statements for one aspect of an existing index.
pub(super) fn aspect(key: &ObjectKey, aspect: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let (wanted, held) = (&given.objects[key], &found.objects[key]);
    match aspect {
        "definition" if let Some(options) = other_options(key, wanted, held) => options,
        "definition" => match remove::first(key, found) {
            Some(drop) => {
                let mut made = create(key, wanted, given);
                made.iter_mut().take(1).for_each(|create| create.makes = Some(key.clone()));
                std::iter::once(drop).chain(made).chain(trimmings::of_new(key, given)).collect()
            }
            None => Vec::new(),
        },
        _ => setting(key, aspect, wanted, held, given),
    }
}

fn setting(
    key: &ObjectKey,
    aspect: &str,
    wanted: &ObjectFacts,
    held: &ObjectFacts,
    given: &Catalogue,
) -> Vec<FixStatement> {
    let (table, name, index) = (own(&key.parent), quoted(&key.name), own(&key.name));
    let settings = |sql: String| vec![run(Phase::Settings, sql)];
    match aspect {
        "state" if lineage::is_partitioned(&key.parent, given) => attach(key, given),
        "state" => vec![run(Phase::Indexes, format!("reindex index {index}"))],
        "options" => set_options(key, fact(wanted, aspect), fact(held, aspect)),
        "clustered" => settings(format!("alter table {table} cluster on {name}")),
        "replica identity" if wanted.contains_key(aspect) => {
            settings(format!("alter table {table} replica identity using index {name}"))
        }
        "replica identity" => settings(format!("alter table {table} replica identity default")),
        "tablespace" => {
            let tablespace = quoted(fact(wanted, aspect).unwrap_or("pg_default"));
            settings(format!("alter index {index} set tablespace {tablespace}"))
        }
        "statistics targets" => {
            let parsed = |facts: &ObjectFacts| -> Vec<(String, String)> {
                let pairs = fact(facts, aspect).unwrap_or_default().split(", ");
                pairs.filter_map(|pair| pair.split_once(": ")).map(|(a, b)| (a.into(), b.into())).collect()
            };
            let (wanted, held) = (parsed(wanted), parsed(held));
            let reset = held.into_iter().filter(|(n, _)| !wanted.iter().any(|(m, _)| m == n));
            let reset: Vec<_> = reset.map(|(n, _)| (n, "-1".to_owned())).collect();
            let all = reset.into_iter().chain(wanted);
            all.map(|(n, t)| run(Phase::Settings, format!("alter index {index} alter column {n} set statistics {t}")))
                .collect()
        }
        _ => Vec::new(),
    }
}

fn set_options(key: &ObjectKey, wanted: Option<&str>, held: Option<&str>) -> Vec<FixStatement> {
    let clauses = option_clauses(wanted, held);
    clauses.map(|clause| run(Phase::Settings, format!("alter index {} {clause}", own(&key.name)))).collect()
}

/// Returns the statements for an index of which only the options differ. The server does not drop an index of a partition that
/// belongs to that of the table.
fn other_options(key: &ObjectKey, wanted: &ObjectFacts, held: &ObjectFacts) -> Option<Vec<FixStatement>> {
    let parts = |facts: &ObjectFacts| -> Option<(String, Option<String>)> {
        let text = fact(facts, "definition")?;
        let Some((head, rest)) = text.split_once(" WITH (") else { return Some((text.to_owned(), None)) };
        let (options, tail) = rest.split_once(')')?;
        Some((format!("{head}{tail}"), Some(options.to_owned())))
    };
    let ((wanted, to), (held, from)) = (parts(wanted)?, parts(held)?);
    if wanted != held {
        return None;
    }
    Some(set_options(key, to.as_deref(), from.as_deref()))
}

/// Returns the statements that make a partitioned index valid: each partition's index becomes a part of it.
fn attach(key: &ObjectKey, given: &Catalogue) -> Vec<FixStatement> {
    let Some(wanted) = form(key, given) else { return Vec::new() };
    let part_of = |partition: &str| {
        let indexes = given.objects.keys().filter(|other| other.kind == "index" && other.parent == partition);
        indexes.into_iter().find(|other| form(other, given).as_ref() == Some(&wanted))
    };
    let attach = |part: &ObjectKey| {
        run(Phase::Indexes, format!("alter index {} attach partition {}", own(&key.name), own(&part.name)))
    };
    let parts: Vec<Option<&ObjectKey>> = lineage::partitions(&key.parent, given).map(part_of).collect();
    if parts.iter().any(Option::is_none) {
        return Vec::new();
    }
    parts.into_iter().flatten().map(attach).collect()
}

/// Whether an index belongs to a constraint.
pub(super) fn is_of_constraint(key: &ObjectKey, catalogue: &Catalogue) -> bool {
    catalogue.objects.contains_key(&ObjectKey { kind: "constraint".into(), ..key.clone() })
}

/// Returns what two indexes have in common of which one can be a part of the other, and two constraints that differ in the name.
pub(super) fn form(key: &ObjectKey, catalogue: &Catalogue) -> Option<String> {
    let constraint = ObjectKey { kind: "constraint".into(), ..key.clone() };
    if let Some(facts) = catalogue.objects.get(&constraint) {
        return fact(facts, "definition").map(ToOwned::to_owned);
    }
    let (head, columns) = fact(catalogue.objects.get(key)?, "definition")?.split_once(" USING ")?;
    Some(format!("{} {columns}", if head.starts_with("CREATE UNIQUE") { "unique" } else { "index" }))
}
