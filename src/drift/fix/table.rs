//! Statements that change an existing table.

use super::{FixStatement, HoldReason, Phase, fact, lineage, option_clauses, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

/// Returns the statements for one aspect of a table. `given` contains the index of a replica identity.
pub(super) fn aspect(
    key: &ObjectKey,
    aspect: &str,
    wanted: &ObjectFacts,
    held: &ObjectFacts,
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
        "options" => option_clauses(fact(wanted, aspect), fact(held, aspect)).flat_map(alter).collect(),
        "toast options" => {
            let prefixed = |list: Option<&str>| {
                list.map(|list| list.split(", ").map(|one| format!("toast.{one}")).collect::<Vec<_>>().join(", "))
            };
            let (wanted, held) = (prefixed(fact(wanted, aspect)), prefixed(fact(held, aspect)));
            option_clauses(wanted.as_deref(), held.as_deref()).flat_map(alter).collect()
        }
        "tablespace" => alter(format!("set tablespace {}", quoted(fact(wanted, aspect).unwrap_or("pg_default")))),
        "access method" => alter(format!("set access method {}", quoted(fact(wanted, aspect).unwrap_or("heap")))),
        "of type" => alter(match fact(wanted, aspect) {
            Some(of) => format!("of {of}"),
            None => "not of".into(),
        }),
        "publications" => publications(&name, fact(wanted, aspect), fact(held, aspect)),
        "detach pending" => match fact(held, "inherits") {
            Some(parent) => {
                vec![run(
                    Phase::DropDependents,
                    format!("alter table {} detach partition {name} finalize", lineage::address(parent)),
                )]
            }
            None => Vec::new(),
        },
        "partition" | "inherits" => parents(&key.name, wanted, held),
        _ => Vec::new(),
    }
}

/// Returns the statements for the parents of a table: inheritance or partitioning.
fn parents(table: &str, wanted: &ObjectFacts, held: &ObjectFacts) -> Vec<FixStatement> {
    let name = own(table);
    let mut all = Vec::new();
    let pair =
        |facts: &ObjectFacts| (fact(facts, "inherits").map(str::to_owned), fact(facts, "partition").map(str::to_owned));
    match pair(held) {
        (Some(parent), Some(_)) => {
            all.push(detach(table, &parent));
        }
        (Some(parents), None) => all.extend(parents.split(", ").map(|parent| {
            run(Phase::DropDependents, format!("alter table {name} no inherit {}", lineage::address(parent)))
        })),
        _ => {}
    }
    match pair(wanted) {
        (Some(parent), Some(bound)) => all.push(attach(table, &parent, &bound)),
        (Some(parents), None) => all.extend(parents.split(", ").map(|parent| {
            run(Phase::Partitions, format!("alter table {name} inherit {}", lineage::address(parent)))
                .making(&lineage::link(table))
        })),
        _ => {}
    }
    if let ((Some(from), Some(old)), (Some(to), Some(new))) = (pair(held), pair(wanted))
        && from == to
        && old != new
    {
        all.iter_mut().for_each(|statement| {
            statement.hold_back(HoldReason::Refused, "it has another bound, which its rows may not fit");
        });
    }
    all
}

/// Returns the statements that make an existing table a partition, also if it is one: what becomes a partition later does not
/// pass its identity on to its own partitions.
pub(super) fn link(table: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let facts = given.objects.get(&lineage::table_key(table));
    let Some((parent, bound)) = facts.and_then(|facts| fact(facts, "inherits").zip(fact(facts, "partition"))) else {
        return Vec::new();
    };
    let first = lineage::is_partition(table, found).then(|| detach(table, parent));
    first.into_iter().chain([attach(table, parent, bound)]).collect()
}

fn detach(table: &str, parent: &str) -> FixStatement {
    run(Phase::DropDependents, format!("alter table {} detach partition {}", lineage::address(parent), own(table)))
}

/// Returns the statement that makes a table a partition.
pub(super) fn attach(table: &str, parent: &str, bound: &str) -> FixStatement {
    let sql = format!("alter table {} attach partition {} {bound}", lineage::address(parent), own(table));
    run(Phase::Partitions, sql).making(&lineage::link(table))
}

/// Returns no statement if a publication contains only some columns or rows.
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
