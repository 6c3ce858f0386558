//! Statements that change one aspect of an existing object.

use super::{
    FixStatement, OWNER, Phase, SCHEMA, address, column, create, fact, function, grants, index, lineage,
    option_clauses, own, remove, run, sequence, table, trimmings,
};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

/// Returns the statements for one aspect of an object that exists on both sides.
pub(super) fn aspect(key: &ObjectKey, aspect: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let (Some(wanted), Some(held)) = (given.objects.get(key), found.objects.get(key)) else { return Vec::new() };
    match aspect {
        "grants" => return grants::changes_in(key, fact(wanted, aspect), fact(held, aspect), given),
        "comment" => return trimmings::comment(key, fact(wanted, aspect), given).into_iter().collect(),
        "owner" if key.kind == "schema" => {
            return vec![run(Phase::Owners, format!("alter schema {SCHEMA} owner to {OWNER}"))];
        }
        "owner" => {
            let owner = fact(wanted, aspect).unwrap_or("the schema's");
            return address(key).map(|(kind, name)| trimmings::owned(kind, &name, owner)).into_iter().collect();
        }
        _ => {}
    }
    match key.kind.as_str() {
        "column" => column::aspect(key, aspect, given, found),
        "table" => table::aspect(key, aspect, wanted, held, given),
        "sequence" if aspect == "owned by" && !can_be_owned(key, given, found) => Vec::new(),
        "sequence" => sequence_aspect(key, aspect, wanted),
        "view" | "materialized view" => view(key, aspect, given, found),
        "constraint" => constraint(key, aspect, wanted, held, given, found),
        "index" => index::aspect(key, aspect, given, found),
        "trigger" | "rule" => match aspect {
            "state" => vec![create::state(key, wanted).unwrap_or_else(|| {
                let (table, name) = (own(&key.parent), quoted(&key.name));
                run(Phase::Settings, format!("alter table {table} enable {} {name}", key.kind))
            })],
            _ => again(key, given, found),
        },
        "policy" | "statistics" if aspect != "statistics target" => again(key, given, found),
        "statistics" => {
            vec![create::statistics_target(key, fact(wanted, aspect).unwrap_or("-1"))]
        }
        "function" | "procedure" => replace_function(key, given, found),
        "type" => labels(key, wanted, held),
        "domain" => domain(key, aspect, wanted),
        _ => Vec::new(),
    }
}

/// Whether a sequence can get the expected column: the table exists, and it is the sequence of no identity column.
fn can_be_owned(sequence: &ObjectKey, given: &Catalogue, found: &Catalogue) -> bool {
    let table = fact(&given.objects[sequence], "owned by").and_then(|column| column.split('.').next());
    let is_identity = [given, found].iter().any(|side| side.identity_of(sequence).is_some());
    !is_identity && table.is_none_or(|table| found.kind_of(table).is_some())
}

/// Returns statements that drop an object and create it again.
pub(super) fn again(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    if let Some(above) = lineage::followed(key, given, found).filter(|above| found.objects.contains_key(above)) {
        let state = create::state(key, &given.objects[key]);
        return again(&above, given, found).into_iter().chain(state).chain(trimmings::of_new(key, given)).collect();
    }
    let made = create::object(key, given, None);
    // The migrations do not fill it, and somebody has.
    let is_filled = |catalogue: &Catalogue| fact(&catalogue.objects[key], "populated") == Some("yes");
    let fill = (key.kind == "materialized view" && is_filled(found) && !is_filled(given))
        .then(|| run(Phase::Views, format!("refresh materialized view {}", own(&key.name))).making(key));
    match remove::first(key, found) {
        Some(drop) if !made.is_empty() => std::iter::once(drop).chain(made).chain(fill).collect(),
        _ => Vec::new(),
    }
}

fn sequence_aspect(key: &ObjectKey, aspect: &str, wanted: &ObjectFacts) -> Vec<FixStatement> {
    let value = fact(wanted, aspect);
    let clause = match (aspect, value) {
        ("data type", Some(name)) => format!("as {name}"),
        ("increment", Some(value)) => format!("increment by {value}"),
        ("minimum", Some(value)) => format!("minvalue {value}"),
        ("maximum", Some(value)) => format!("maxvalue {value}"),
        ("start", Some(value)) => format!("start with {value}"),
        ("cache", Some(value)) => format!("cache {value}"),
        ("cycle", Some(_)) => "cycle".into(),
        ("cycle", None) => "no cycle".into(),
        ("owned by", Some(column)) => format!("owned by {}", sequence::owned_by(column)),
        ("owned by", None) => "owned by none".into(),
        ("logging", Some(_)) => "set unlogged".into(),
        ("logging", None) => "set logged".into(),
        _ => return Vec::new(),
    };
    vec![run(Phase::Settings, format!("alter sequence {} {clause}", own(&key.name)))]
}

fn view(key: &ObjectKey, aspect: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let (wanted, held) = (&given.objects[key], &found.objects[key]);
    let name = own(&key.name);
    match aspect {
        "definition" if key.kind == "view" && has_the_same_columns(key, given, found) => {
            create::relation_by_definition(key, wanted)
        }
        "definition" => again(key, given, found),
        "options" => {
            let clauses = option_clauses(fact(wanted, aspect), fact(held, aspect));
            clauses.map(|clause| run(Phase::Settings, format!("alter {} {name} {clause}", key.kind))).collect()
        }
        // A view that reads it can be created only after that.
        "populated" => vec![run(Phase::Views, format!("refresh materialized view {name}")).making(key)],
        "toast options" | "access method" | "tablespace" => table::aspect(key, aspect, wanted, held, given),
        _ => Vec::new(),
    }
}

/// Whether the columns of a view are unchanged. CREATE OR REPLACE VIEW must not change a column.
fn has_the_same_columns(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> bool {
    let types = |catalogue: &Catalogue| -> Vec<(String, Option<String>)> {
        let of = |column: String| {
            let key = ObjectKey { kind: "column".into(), parent: key.name.clone(), name: column.clone() };
            let facts = catalogue.objects.get(&key);
            (column, facts.map(|facts| format!("{:?} {:?}", facts.get("type"), facts.get("collation"))))
        };
        catalogue.columns_of(&key.name).into_iter().map(of).collect()
    };
    types(given) == types(found)
}

fn constraint(
    key: &ObjectKey,
    aspect: &str,
    wanted: &ObjectFacts,
    held: &ObjectFacts,
    given: &Catalogue,
    found: &Catalogue,
) -> Vec<FixStatement> {
    let (table, name) = (own(&key.parent), quoted(&key.name));
    match aspect {
        "definition" => {
            let definition = |facts: &ObjectFacts| fact(facts, "definition").unwrap_or_default().to_owned();
            let kind = if given.is_domain(&key.parent) { "domain" } else { "table" };
            if definition(held) == format!("{} NOT VALID", definition(wanted)) {
                return vec![run(Phase::Checks, format!("alter {kind} {table} validate constraint {name}"))];
            }
            again(key, given, found)
        }
        // There is no statement for the triggers of one foreign key, and the statement for all triggers of a table can
        // affect others.
        "enforcing triggers" if !wanted.contains_key(aspect) && !given.has_quiet_trigger(&key.parent) => {
            vec![
                run(Phase::Settings, format!("alter table {table} enable trigger all"))
                    .noting("needs a superuser; rows written before are not checked"),
            ]
        }
        _ => Vec::new(),
    }
}

/// Adds missing labels, or gives labels their names back. An extra label cannot be removed.
fn labels(key: &ObjectKey, wanted: &ObjectFacts, held: &ObjectFacts) -> Vec<FixStatement> {
    let (wanted, held) = (label_list(wanted), label_list(held));
    if let Some(renamed) = renamed_labels(&wanted, &held) {
        let rename = |(old, new)| {
            run(Phase::Types, format!("alter type {} rename value {old} to {new}", own(&key.name)))
                .noting("the label is in the place of the missing one")
        };
        return renamed.into_iter().map(rename).collect();
    }
    let mut rest = wanted.iter();
    if !held.iter().all(|label| rest.any(|other| other == label)) {
        return Vec::new();
    }
    let mut all = Vec::new();
    for (place, label) in wanted.iter().enumerate().filter(|(_, label)| !held.contains(label)) {
        let after = match place.checked_sub(1).map(|before| &wanted[before]) {
            Some(before) => format!(" after {before}"),
            None => held.first().map(|first| format!(" before {first}")).unwrap_or_default(),
        };
        all.push(run(Phase::Types, format!("alter type {} add value {label}{after}", own(&key.name))));
    }
    all
}

/// Returns the labels of an enum as literals.
fn label_list(facts: &ObjectFacts) -> Vec<String> {
    let (mut all, mut label) = (Vec::new(), String::new());
    let mut is_inside = false;
    for c in fact(facts, "labels").unwrap_or_default().chars() {
        is_inside ^= c == '\'';
        match c {
            ',' | ' ' if !is_inside => all.extend(Some(std::mem::take(&mut label)).filter(|label| !label.is_empty())),
            c => label.push(c),
        }
    }
    all.extend(Some(label).filter(|label| !label.is_empty()));
    all
}

/// Returns the present and the expected names of labels if nothing else differs; `None` if something does.
fn renamed_labels<'l>(wanted: &'l [String], held: &'l [String]) -> Option<Vec<(&'l String, &'l String)>> {
    let differ: Vec<_> = held.iter().zip(wanted).filter(|(old, new)| old != new).collect();
    let is_renamed = |(old, new): &(&String, &String)| !wanted.contains(old) && !held.contains(new);
    (wanted.len() == held.len() && !differ.is_empty() && differ.iter().all(is_renamed)).then_some(differ)
}

/// Returns the labels that an existing enum gets by no statement before the end of the transaction, and whether a statement adds
/// them.
pub(super) fn missing_labels(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<(String, bool)> {
    let (Some(wanted), Some(held)) = (given.objects.get(key), found.objects.get(key)) else { return Vec::new() };
    if key.kind != "type" || wanted.get("labels") == held.get("labels") {
        return Vec::new();
    }
    let is_added = !labels(key, wanted, held).is_empty();
    let (wanted, held) = (label_list(wanted), label_list(held));
    match renamed_labels(&wanted, &held) {
        Some(_) => Vec::new(),
        None => wanted.into_iter().filter(|label| !held.contains(label)).map(|label| (label, is_added)).collect(),
    }
}

fn domain(key: &ObjectKey, aspect: &str, wanted: &ObjectFacts) -> Vec<FixStatement> {
    let clause = match (aspect, fact(wanted, aspect)) {
        ("default", Some(default)) => format!("set default {default}"),
        ("default", None) => "drop default".into(),
        ("not null", Some(_)) => match fact(wanted, "not null constraint") {
            Some(name) => format!("add constraint {} not null", quoted(name)),
            None => "set not null".into(),
        },
        ("not null", None) => "drop not null".into(),
        _ => return Vec::new(),
    };
    vec![run(Phase::Settings, format!("alter domain {} {clause}", own(&key.name)))]
}

/// Returns statements that change an existing function to the expected one.
fn replace_function(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let Some(create) = function::create(key, given) else { return Vec::new() };
    let (wanted, held) = (&given.objects[key], &found.objects[key]);
    // CREATE OR REPLACE cannot make these changes.
    if !["returns", "arguments"].iter().any(|aspect| wanted.get(*aspect) != held.get(*aspect)) {
        return vec![create];
    }
    let Some(name) = function::name(key) else { return Vec::new() };
    let mut all = vec![run(Phase::DropDependents, format!("drop {} {name}", key.kind)).dropping(key), create];
    all.extend(trimmings::of_new(key, given));
    all
}
