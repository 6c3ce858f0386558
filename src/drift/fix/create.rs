//! Statements that create a missing object.

use super::{FixStatement, Phase, column, fact, function, grants, own, run, sequence, table, trimmings};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

/// Returns the statements for an object of the migrations, with its dependent objects. `found` contains the existing
/// objects, if there are any.
pub(super) fn object(key: &ObjectKey, given: &Catalogue, found: Option<&Catalogue>) -> Vec<FixStatement> {
    let Some(facts) = given.objects.get(key) else { return Vec::new() };
    let mut all = match key.kind.as_str() {
        "table" => new_table(key, facts, given),
        "view" | "materialized view" => relation_by_definition(key, facts),
        "column" => column::missing(key, facts, given, found),
        "sequence" => sequence::create(key, facts, given),
        "constraint" => constraint(key, facts, given).into_iter().collect(),
        "index" => index(key, facts, given),
        "trigger" => trigger(key, facts, given),
        "rule" => definition(Phase::Triggers, facts).into_iter().chain(state(key, facts)).collect(),
        "policy" => policy(key, facts),
        "function" | "procedure" => function::create(key, given).into_iter().collect(),
        "type" => type_(key, facts, given),
        "domain" => domain(key, facts),
        "statistics" => definition(Phase::Indexes, facts).into_iter().collect(),
        "default rights" => return grants::changes(key, fact(facts, "grants"), None),
        _ => Vec::new(),
    };
    if all.is_empty() {
        return all;
    }
    all.extend(trimmings::of_new(key, given));
    if matches!(key.kind.as_str(), "table" | "view" | "materialized view" | "domain") {
        for hanging in given.objects.keys().filter(|other| other.parent == key.name && other.kind != "column") {
            let index_of_constraint = hanging.kind == "index" && !given.objects[hanging].contains_key("definition");
            if !index_of_constraint {
                all.extend(object(hanging, given, None));
            }
        }
        if given.is_view(&key.name) {
            for column in given.objects.keys().filter(|other| other.parent == key.name && other.kind == "column") {
                all.extend(column::view_default(column, given));
                all.extend(trimmings::of_new(column, given));
            }
        }
        let owned = given.objects.iter().filter(|(other, facts)| {
            let table = fact(facts, "owned by").and_then(|column| column.split('.').next());
            other.kind == "sequence" && table == Some(&key.name)
        });
        all.extend(owned.flat_map(|(sequence, _)| object(sequence, given, None)));
    }
    all
}

fn new_table(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    let name = own(&key.name);
    let columns = given.columns_of(&key.name);
    let lines: Vec<String> = columns
        .iter()
        .filter_map(|column| column::definition(&key.name, column, given).map(|text| format!("    {text}")))
        .collect();
    let mut sql = format!(
        "create {}table {name} (\n{}\n)",
        if fact(facts, "logging") == Some("unlogged") { "unlogged " } else { "" },
        lines.join(",\n")
    );
    let parent = fact(facts, "inherits");
    let bound = fact(facts, "partition");
    if let (Some(parent), None) = (parent, bound) {
        sql.push_str(&format!(" inherits ({parent})"));
    }
    if let Some(by) = fact(facts, "partitioned by") {
        sql.push_str(&format!(" partition by {by}"));
    }
    if let Some(method) = fact(facts, "access method") {
        sql.push_str(&format!(" using {}", quoted(method)));
    }
    if let Some(options) = fact(facts, "options") {
        sql.push_str(&format!(" with ({options})"));
    }
    if let Some(tablespace) = fact(facts, "tablespace") {
        sql.push_str(&format!(" tablespace {}", quoted(tablespace)));
    }
    let mut all = vec![run(Phase::Tables, sql)];
    if let (Some(parent), Some(bound)) = (parent, bound) {
        all.push(run(Phase::Partitions, format!("alter table {parent} attach partition {name} {bound}")));
    }
    for aspect in ["row security", "replica identity", "toast options", "publications"] {
        if facts.contains_key(aspect) && !(aspect == "row security" && fact(facts, aspect) == Some("off")) {
            all.extend(table::aspect(key, aspect, facts, &ObjectFacts::new(), given));
        }
    }
    for column in columns {
        let key = ObjectKey { kind: "column".into(), parent: key.name.clone(), name: column };
        all.extend(column::trimmings(&key, given));
        all.extend(trimmings::of_new(&key, given));
    }
    all
}

/// Returns the statement for a view or materialized view.
pub(super) fn relation_by_definition(key: &ObjectKey, facts: &ObjectFacts) -> Vec<FixStatement> {
    let Some(definition) = fact(facts, "definition") else { return Vec::new() };
    let replace = if key.kind == "view" { "or replace " } else { "" };
    let options = fact(facts, "options").map(|options| format!(" with ({options})")).unwrap_or_default();
    let definition = definition.trim().trim_end_matches(';');
    vec![run(Phase::Views, format!("create {replace}{} {}{options} as\n{definition}", key.kind, own(&key.name)))]
}

pub(super) fn constraint(key: &ObjectKey, facts: &ObjectFacts, catalogue: &Catalogue) -> Option<FixStatement> {
    let definition = fact(facts, "definition")?;
    let kind = if catalogue.is_domain(&key.parent) { "domain" } else { "table" };
    let phase = match definition.split(' ').next() {
        Some("FOREIGN") => Phase::ForeignKeys,
        Some("CHECK" | "NOT") => Phase::Checks,
        _ => Phase::Keys,
    };
    Some(run(phase, format!("alter {kind} {} add constraint {} {definition}", own(&key.parent), quoted(&key.name))))
}

pub(super) fn definition(phase: Phase, facts: &ObjectFacts) -> Option<FixStatement> {
    Some(run(phase, fact(facts, "definition")?.trim_end().trim_end_matches(';')))
}

pub(super) fn index(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    // A materialized view is created after the indexes of tables.
    let phase = if given.is_view(&key.parent) { Phase::Triggers } else { Phase::Indexes };
    let Some(create) = definition(phase, facts) else { return Vec::new() };
    let table = own(&key.parent);
    let mut all = vec![create];
    if facts.contains_key("clustered") {
        all.push(run(Phase::Settings, format!("alter table {table} cluster on {}", quoted(&key.name))));
    }
    if facts.contains_key("replica identity") {
        all.push(run(
            Phase::Settings,
            format!("alter table {table} replica identity using index {}", quoted(&key.name)),
        ));
    }
    all
}

fn trigger(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    // A partition has the triggers of its parent.
    let table = ObjectKey { kind: "table".into(), parent: String::new(), name: key.parent.clone() };
    let parent = given.objects.get(&table).filter(|facts| facts.contains_key("partition"));
    let parent = parent.and_then(|facts| fact(facts, "inherits"));
    if parent.is_some_and(|parent| given.objects.contains_key(&ObjectKey { parent: parent.into(), ..key.clone() })) {
        return Vec::new();
    }
    definition(Phase::Triggers, facts).into_iter().chain(state(key, facts)).collect()
}

/// Returns the statement that sets whether a trigger or rule fires.
pub(super) fn state(key: &ObjectKey, facts: &ObjectFacts) -> Option<FixStatement> {
    let word = match fact(facts, "state")? {
        "enabled" => return None,
        "disabled" => "disable",
        "replica only" => "enable replica",
        _ => "enable always",
    };
    Some(run(Phase::Settings, format!("alter table {} {word} {} {}", own(&key.parent), key.kind, quoted(&key.name))))
}

pub(super) fn policy(key: &ObjectKey, facts: &ObjectFacts) -> Vec<FixStatement> {
    let mut sql = format!("create policy {} on {}", quoted(&key.name), own(&key.parent));
    if facts.contains_key("kind") {
        sql.push_str(" as restrictive");
    }
    sql.push_str(&format!(" for {}", fact(facts, "command").unwrap_or("all")));
    let role = |name: &str| match name {
        "everyone" => "public".to_owned(),
        "the tenant's role" => super::ROLE.to_owned(),
        name => quoted(name),
    };
    let roles: Vec<String> = fact(facts, "roles").unwrap_or("everyone").split(", ").map(role).collect();
    sql.push_str(&format!(" to {}", roles.join(", ")));
    for (aspect, word) in [("using", "using"), ("check", "with check")] {
        if let Some(expression) = fact(facts, aspect) {
            sql.push_str(&format!(" {word} ({expression})"));
        }
    }
    vec![run(Phase::Triggers, sql)]
}

fn type_(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    let name = own(&key.name);
    if let Some(labels) = fact(facts, "labels") {
        return vec![run(Phase::Types, format!("create type {name} as enum ({labels})"))];
    }
    let columns = given.columns_of(&key.name);
    if !columns.is_empty() {
        let attribute = |column: &String| {
            let key = ObjectKey { kind: "column".into(), parent: key.name.clone(), name: column.clone() };
            let facts = given.objects.get(&key)?;
            Some(format!("{} {}{}", quoted(column), fact(facts, "type")?, column::collation(facts)))
        };
        let attributes: Vec<String> = columns.iter().filter_map(attribute).collect();
        return vec![run(Phase::Types, format!("create type {name} as ({})", attributes.join(", ")))];
    }
    // With functions, a collation or an operator class of its own, a range has more parts.
    let parts: Vec<&str> = fact(facts, "range of").unwrap_or_default().split(", ").collect();
    let [of, multirange] = parts.as_slice() else { return Vec::new() };
    let Some(multirange) = multirange.strip_prefix("multirange ") else { return Vec::new() };
    let sql = format!("create type {name} as range (subtype = {of}, multirange_type_name = {multirange})");
    vec![run(Phase::Types, sql)]
}

fn domain(key: &ObjectKey, facts: &ObjectFacts) -> Vec<FixStatement> {
    let Some(of) = fact(facts, "type") else { return Vec::new() };
    let mut sql = format!("create domain {} as {of}{}", own(&key.name), column::collation(facts));
    if let Some(default) = fact(facts, "default") {
        sql.push_str(&format!(" default {default}"));
    }
    if facts.contains_key("not null") {
        sql.push_str(" not null");
    }
    vec![run(Phase::Types, sql)]
}
