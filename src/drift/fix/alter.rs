//! What changes one thing about an object that is there.

use super::{FixStatement, Phase, address, column, create, fact, function, grants, own, remove, run};
use crate::{
    drift::compare::{Catalogue, Facts, Key},
    ident::quoted,
};

/// The statements for one aspect of an object that is in both.
pub(super) fn aspect(key: &Key, aspect: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let (Some(wanted), Some(held)) = (given.objects.get(key), found.objects.get(key)) else { return Vec::new() };
    match aspect {
        "grants" => return grants::changes(key, fact(wanted, aspect), fact(held, aspect)),
        "comment" => return create::comment(key, fact(wanted, aspect), given).into_iter().collect(),
        "owner" => {
            let owner = fact(wanted, aspect).unwrap_or("the schema's");
            return address(key).map(|(kind, name)| create::owned(kind, &name, owner)).into_iter().collect();
        }
        _ => {}
    }
    match key.kind.as_str() {
        "column" => column::aspect(key, aspect, given, found),
        "table" => table_aspect(key, aspect, wanted, held, given),
        "sequence" => sequence(key, aspect, wanted),
        "view" | "materialized view" => view(key, aspect, given, found),
        "constraint" => constraint(key, aspect, wanted, held, given, found),
        "index" => index(key, aspect, wanted, held, found),
        "trigger" | "rule" => match aspect {
            "state" => vec![create::state(key, wanted).unwrap_or_else(|| {
                let (table, name) = (own(&key.parent), quoted(&key.name));
                run(Phase::Settings, format!("alter table {table} enable {} {name}", key.kind))
            })],
            _ => again(key, given, found),
        },
        "policy" | "statistics" if aspect != "statistics target" => again(key, given, found),
        "statistics" => {
            let target = fact(wanted, aspect).unwrap_or("-1");
            vec![run(Phase::Settings, format!("alter statistics {} set statistics {target}", own(&key.name)))]
        }
        "function" | "procedure" => function::replace(key, given, found),
        "type" => labels(key, wanted, held),
        "domain" => domain(key, aspect, wanted),
        _ => Vec::new(),
    }
}

/// Dropped and made again.
fn again(key: &Key, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let made = create::object(key, given, None);
    match remove::first(key, found) {
        Some(drop) if !made.is_empty() => std::iter::once(drop).chain(made).collect(),
        _ => Vec::new(),
    }
}

/// Something about a table; `given` finds the index of a replica identity.
pub(super) fn table_aspect(
    key: &Key,
    aspect: &str,
    wanted: &Facts,
    held: &Facts,
    given: &Catalogue,
) -> Vec<FixStatement> {
    let name = own(&key.name);
    let alter = |clause: String| vec![run(Phase::Settings, format!("alter table {name} {clause}"))];
    match aspect {
        "logging" => alter(format!("set {}", fact(wanted, aspect).unwrap_or("logged"))),
        "row security" => {
            let wanted = fact(wanted, aspect).unwrap_or("off");
            let enable = if wanted.starts_with("on") { "enable" } else { "disable" };
            let force = if wanted.ends_with("forced") { "force" } else { "no force" };
            alter(format!("{enable} row level security, {force} row level security"))
        }
        "replica identity" => match fact(wanted, aspect) {
            Some("index") => match given.replica_index_of(&key.name) {
                Some(index) => alter(format!("replica identity using index {}", quoted(index))),
                None => Vec::new(),
            },
            other => alter(format!("replica identity {}", other.unwrap_or("default"))),
        },
        "options" => alter(column::option_clause(fact(wanted, aspect), fact(held, aspect))),
        "toast options" => {
            let prefixed = |list: Option<&str>| {
                list.map(|list| list.split(", ").map(|one| format!("toast.{one}")).collect::<Vec<_>>().join(", "))
            };
            let (wanted, held) = (prefixed(fact(wanted, aspect)), prefixed(fact(held, aspect)));
            alter(column::option_clause(wanted.as_deref(), held.as_deref()))
        }
        "tablespace" => alter(format!("set tablespace {}", quoted(fact(wanted, aspect).unwrap_or("pg_default")))),
        "access method" => alter(format!("set access method {}", quoted(fact(wanted, aspect).unwrap_or("heap")))),
        "publications" => publications(&name, fact(wanted, aspect), fact(held, aspect)),
        "detach pending" => match fact(held, "inherits") {
            Some(parent) => {
                vec![run(Phase::DropDependents, format!("alter table {parent} detach partition {name} finalize"))]
            }
            None => Vec::new(),
        },
        "partition" | "inherits" => parents(&name, wanted, held),
        _ => Vec::new(),
    }
}

/// What a table inherits from, or is a partition of.
fn parents(name: &str, wanted: &Facts, held: &Facts) -> Vec<FixStatement> {
    let mut all = Vec::new();
    let pair =
        |facts: &Facts| (fact(facts, "inherits").map(str::to_owned), fact(facts, "partition").map(str::to_owned));
    match pair(held) {
        (Some(parent), Some(_)) => {
            all.push(run(Phase::DropDependents, format!("alter table {parent} detach partition {name}")));
        }
        (Some(parents), None) => all.extend(
            parents
                .split(", ")
                .map(|parent| run(Phase::DropDependents, format!("alter table {name} no inherit {parent}"))),
        ),
        _ => {}
    }
    match pair(wanted) {
        (Some(parent), Some(bound)) => {
            all.push(run(Phase::Partitions, format!("alter table {parent} attach partition {name} {bound}")));
        }
        (Some(parents), None) => all.extend(
            parents.split(", ").map(|parent| run(Phase::Partitions, format!("alter table {name} inherit {parent}"))),
        ),
        _ => {}
    }
    all
}

/// None where a publication takes only some columns or rows.
fn publications(name: &str, wanted: Option<&str>, held: Option<&str>) -> Vec<FixStatement> {
    let list = |text: Option<&str>| text.map(|text| text.split(", ").map(str::to_owned).collect::<Vec<_>>());
    let (wanted, held) = (list(wanted).unwrap_or_default(), list(held).unwrap_or_default());
    if wanted.iter().chain(&held).any(|one| one.contains([' ', '('])) {
        return Vec::new();
    }
    let one = |verb: &str, publication: &String| {
        run(Phase::Settings, format!("alter publication {} {verb} table {name}", quoted(publication)))
    };
    let dropped = held.iter().filter(|publication| !wanted.contains(publication)).map(|p| one("drop", p));
    let added = wanted.iter().filter(|publication| !held.contains(publication)).map(|p| one("add", p));
    dropped.chain(added).collect()
}

fn sequence(key: &Key, aspect: &str, wanted: &Facts) -> Vec<FixStatement> {
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
        ("owned by", Some(column)) => format!("owned by {}", create::owned_by(column)),
        ("owned by", None) => "owned by none".into(),
        ("logging", Some(_)) => "set unlogged".into(),
        ("logging", None) => "set logged".into(),
        _ => return Vec::new(),
    };
    vec![run(Phase::Settings, format!("alter sequence {} {clause}", own(&key.name)))]
}

fn view(key: &Key, aspect: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let (wanted, held) = (&given.objects[key], &found.objects[key]);
    let name = own(&key.name);
    match aspect {
        "definition" if key.kind == "view" && has_the_same_columns(key, given, found) => {
            create::relation_by_definition(key, wanted)
        }
        "definition" => {
            let mut all = again(key, given, found);
            for drop in all.iter_mut().filter(|fix| fix.phase == Phase::DropDependents) {
                drop.note = Some("views and functions that use it must go first".into());
            }
            all
        }
        "options" => {
            let clause = column::option_clause(fact(wanted, aspect), fact(held, aspect));
            vec![run(Phase::Settings, format!("alter {} {name} {clause}", key.kind))]
        }
        _ => Vec::new(),
    }
}

/// CREATE OR REPLACE VIEW may change no column.
fn has_the_same_columns(key: &Key, given: &Catalogue, found: &Catalogue) -> bool {
    let types = |catalogue: &Catalogue| -> Vec<(String, Option<String>)> {
        let of = |column: String| {
            let key = Key { kind: "column".into(), parent: key.name.clone(), name: column.clone() };
            let facts = catalogue.objects.get(&key);
            (column, facts.map(|facts| format!("{:?} {:?}", facts.get("type"), facts.get("collation"))))
        };
        catalogue.columns_of(&key.name).into_iter().map(of).collect()
    };
    types(given) == types(found)
}

fn constraint(
    key: &Key,
    aspect: &str,
    wanted: &Facts,
    held: &Facts,
    given: &Catalogue,
    found: &Catalogue,
) -> Vec<FixStatement> {
    let (table, name) = (own(&key.parent), quoted(&key.name));
    match aspect {
        "definition" => {
            let definition = |facts: &Facts| fact(facts, "definition").unwrap_or_default().to_owned();
            let kind = if given.is_domain(&key.parent) { "domain" } else { "table" };
            if definition(held) == format!("{} NOT VALID", definition(wanted)) {
                return vec![run(Phase::Checks, format!("alter {kind} {table} validate constraint {name}"))];
            }
            again(key, given, found)
        }
        // There is no statement for one foreign key's triggers, and all of a table's may be more than these.
        "enforcing triggers" if !wanted.contains_key(aspect) && !given.has_quiet_trigger(&key.parent) => {
            vec![
                run(Phase::Settings, format!("alter table {table} enable trigger all"))
                    .noting("needs a superuser; rows written before are not checked"),
            ]
        }
        _ => Vec::new(),
    }
}

fn index(key: &Key, aspect: &str, wanted: &Facts, held: &Facts, found: &Catalogue) -> Vec<FixStatement> {
    let (table, name, index) = (own(&key.parent), quoted(&key.name), own(&key.name));
    let settings = |sql: String| vec![run(Phase::Settings, sql)];
    match aspect {
        "state" => vec![run(Phase::Indexes, format!("reindex index {index}"))],
        "options" => {
            let clause = column::option_clause(fact(wanted, aspect), fact(held, aspect));
            settings(format!("alter index {index} {clause}"))
        }
        "definition" => match remove::first(key, found) {
            Some(drop) => std::iter::once(drop).chain(create::index(key, wanted)).collect(),
            None => Vec::new(),
        },
        "clustered" if wanted.contains_key(aspect) => settings(format!("alter table {table} cluster on {name}")),
        "clustered" => settings(format!("alter table {table} set without cluster")),
        "replica identity" if wanted.contains_key(aspect) => {
            settings(format!("alter table {table} replica identity using index {name}"))
        }
        "replica identity" => settings(format!("alter table {table} replica identity default")),
        "tablespace" => {
            let tablespace = quoted(fact(wanted, aspect).unwrap_or("pg_default"));
            settings(format!("alter index {index} set tablespace {tablespace}"))
        }
        "statistics targets" => {
            let parsed = |facts: &Facts| -> Vec<(String, String)> {
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

/// A label that is missing can be added; one too many cannot be taken away.
fn labels(key: &Key, wanted: &Facts, held: &Facts) -> Vec<FixStatement> {
    let list = |facts: &Facts| -> Vec<String> {
        let text = fact(facts, "labels").unwrap_or_default();
        text.split(", ").filter(|label| !label.is_empty()).map(ToOwned::to_owned).collect()
    };
    let (wanted, held) = (list(wanted), list(held));
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

fn domain(key: &Key, aspect: &str, wanted: &Facts) -> Vec<FixStatement> {
    let clause = match (aspect, fact(wanted, aspect)) {
        ("default", Some(default)) => format!("set default {default}"),
        ("default", None) => "drop default".into(),
        ("not null", Some(_)) => "set not null".into(),
        ("not null", None) => "drop not null".into(),
        _ => return Vec::new(),
    };
    vec![run(Phase::Settings, format!("alter domain {} {clause}", own(&key.name)))]
}
