//! Statements that create a missing object.

use super::{
    FixStatement, Phase, column, definition, fact, function, grants, index, lineage, own, run, sequence, table,
    trimmings,
};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

/// Returns the statements for an object of the migrations that does not exist: those of another object if they create it
/// as well.
pub(super) fn missing(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let of_other = match key.kind.as_str() {
        "sequence" => identity_column(key, given).map(|column| match found.objects.get(&column) {
            Some(facts) if facts.contains_key("identity") => Vec::new(),
            Some(_) => column::aspect(&column, "identity", given, found),
            None => object(&column, given, Some(found)),
        }),
        "constraint" | "trigger" => lineage::followed(key, given, found)
            .filter(|above| !found.objects.contains_key(above))
            .map(|above| missing(&above, given, found)),
        "column" => column::above(key, given, found)
            .filter(|above| !found.objects.contains_key(above))
            .map(|above| missing(&above, given, found)),
        _ => None,
    };
    match of_other {
        Some(mut all) => {
            all.extend(state(key, &given.objects[key]));
            all.extend(trimmings::of_new(key, given));
            all
        }
        None => object(key, given, Some(found)),
    }
}

fn identity_column(sequence: &ObjectKey, given: &Catalogue) -> Option<ObjectKey> {
    given.identity_of(sequence)?;
    let (table, column) = fact(&given.objects[sequence], "owned by")?.split_once('.')?;
    Some(ObjectKey { kind: "column".into(), parent: table.into(), name: column.into() })
}

/// Returns the statements for an object of the migrations, with its dependent objects. `found` contains the existing
/// objects, if there are any.
pub(super) fn object(key: &ObjectKey, given: &Catalogue, found: Option<&Catalogue>) -> Vec<FixStatement> {
    let Some(facts) = given.objects.get(key) else { return Vec::new() };
    let mut all = match key.kind.as_str() {
        "table" => new_table(key, facts, given),
        "view" | "materialized view" => view(key, facts, given),
        "column" => column::missing(key, facts, given, found),
        "sequence" => sequence::create(key, facts, given),
        "constraint" => constraint(key, facts, given).into_iter().chain(index::of_constraint(key, given)).collect(),
        "index" => index::create(key, facts, given),
        "trigger" => trigger(key, facts, given),
        "rule" => definition(Phase::Triggers, facts).into_iter().chain(state(key, facts)).collect(),
        "policy" => policy(key, facts),
        "function" | "procedure" => function::create(key, given).into_iter().collect(),
        "type" => type_(key, facts, given),
        "domain" => domain(key, facts),
        "statistics" => {
            let target = fact(facts, "statistics target").map(|target| statistics_target(key, target));
            definition(Phase::Indexes, facts).into_iter().chain(target).collect()
        }
        "default rights" => return grants::changes(key, fact(facts, "grants"), None),
        _ => Vec::new(),
    };
    match all.first_mut() {
        // The column creates the sequence of its identity.
        None if key.kind == "sequence" && given.identity_of(key).is_some() => {}
        None => return all,
        // Only the state of a trigger that comes with the parent's.
        Some(_) if key.kind == "trigger" && lineage::inherited(key, given).is_some() => {}
        Some(create) => drop(create.makes.get_or_insert_with(|| key.clone())),
    }
    all.extend(trimmings::of_new(key, given));
    if matches!(key.kind.as_str(), "table" | "view" | "materialized view" | "domain") {
        for hanging in given.objects.keys().filter(|other| other.parent == key.name && other.kind != "column") {
            let index_of_constraint = hanging.kind == "index" && !given.objects[hanging].contains_key("definition");
            // CREATE TABLE with INHERITS, and an addition to the parent, create it.
            let comes_with_parent = hanging.kind == "constraint"
                && !lineage::is_partition(&key.name, given)
                && lineage::inherited(hanging, given).is_some();
            if !index_of_constraint && !comes_with_parent {
                all.extend(object(hanging, given, None));
            }
        }
        if given.is_view(&key.name) {
            for column in given.objects.keys().filter(|other| other.parent == key.name && other.kind == "column") {
                all.extend(column::view_default(column, given));
                all.extend(column::trimmings(column, given));
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
    let inherited = inherited_columns(&key.name, given);
    let lines: Vec<String> = columns
        .iter()
        .filter(|column| !inherited.contains(column))
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
        all.push(table::attach(&key.name, parent, bound));
    }
    for aspect in ["of type", "row security", "replica identity", "toast options", "publications"] {
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

/// Returns the columns of a table that CREATE TABLE with INHERITS takes over from its parents.
fn inherited_columns(table: &str, given: &Catalogue) -> Vec<String> {
    if lineage::is_partition(table, given) {
        return Vec::new();
    }
    let parents = lineage::parents(table, given);
    let mut all: Vec<String> = Vec::new();
    for column in parents.iter().flat_map(|parent| given.columns_of(parent)) {
        if !all.contains(&column) {
            all.push(column);
        }
    }
    let is_same = |column: &String| {
        let facts_in = |table: &str| {
            let key = ObjectKey { kind: "column".into(), parent: table.into(), name: column.clone() };
            let mut facts = given.objects.get(&key)?.clone();
            ["comment", "grants", "storage", "compression", "statistics target", "options"]
                .iter()
                .for_each(|aspect| drop(facts.remove(*aspect)));
            Some(facts)
        };
        let own = facts_in(table);
        parents.iter().filter_map(|parent| facts_in(parent)).all(|facts| Some(facts) == own)
    };
    all.retain(is_same);
    all
}

fn view(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    let mut all = relation_by_definition(key, facts);
    if key.kind == "materialized view" && !all.is_empty() {
        for aspect in ["toast options", "access method", "tablespace"].iter().filter(|a| facts.contains_key(**a)) {
            all.extend(table::aspect(key, aspect, facts, &ObjectFacts::new(), given));
        }
    }
    all
}

/// Returns the statement for a view or materialized view.
pub(super) fn relation_by_definition(key: &ObjectKey, facts: &ObjectFacts) -> Vec<FixStatement> {
    let Some(definition) = fact(facts, "definition") else { return Vec::new() };
    let replace = if key.kind == "view" { "or replace " } else { "" };
    let options = fact(facts, "options").map(|options| format!(" with ({options})")).unwrap_or_default();
    let definition = definition.trim().trim_end_matches(';');
    let data = if fact(facts, "populated") == Some("no") { "\nwith no data" } else { "" };
    let sql = format!("create {replace}{} {}{options} as\n{definition}{data}", key.kind, own(&key.name));
    vec![run(Phase::Views, sql).making(key)]
}

pub(super) fn constraint(key: &ObjectKey, facts: &ObjectFacts, catalogue: &Catalogue) -> Option<FixStatement> {
    let definition = fact(facts, "definition")?;
    let kind = if catalogue.is_domain(&key.parent) { "domain" } else { "table" };
    let phase = match definition.split(' ').next() {
        // The server refuses it as soon as a column has an array of the domain.
        _ if kind == "domain" => Phase::Types,
        Some("FOREIGN") => Phase::ForeignKeys,
        Some("CHECK" | "NOT") => Phase::Checks,
        _ => Phase::Keys,
    };
    let sql = format!("alter {kind} {} add constraint {} {definition}", own(&key.parent), quoted(&key.name));
    let add = run(phase, sql).making(key);
    Some(match fact(facts, "enforcing triggers") {
        Some(state) => add.noting(&format!("in the migrations its triggers are not enabled ({state})")),
        None => add,
    })
}

pub(super) fn statistics_target(key: &ObjectKey, target: &str) -> FixStatement {
    run(Phase::Settings, format!("alter statistics {} set statistics {target}", own(&key.name)))
}

fn trigger(key: &ObjectKey, facts: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    // A partition has the triggers of its parent.
    let own = if lineage::inherited(key, given).is_some() { None } else { definition(Phase::Triggers, facts) };
    own.into_iter().chain(state(key, facts)).collect()
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
        let create = run(Phase::Types, format!("create type {name} as ({})", attributes.join(", ")));
        let of_attributes = columns.iter().flat_map(|column| {
            let key = ObjectKey { kind: "column".into(), parent: key.name.clone(), name: column.clone() };
            trimmings::of_new(&key, given)
        });
        return std::iter::once(create).chain(of_attributes).collect();
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
        sql.push_str(&column::named_not_null(facts));
        sql.push_str(" not null");
    }
    vec![run(Phase::Types, sql)]
}
