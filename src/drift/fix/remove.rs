//! Statements that remove an unexpected object.

use super::{FixStatement, Phase, SCHEMA, address, fact, grants, lineage, lose, own, run};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};

/// Returns the statements for an object that exists but should not.
pub(super) fn object(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let Some(facts) = found.objects.get(key) else { return Vec::new() };
    let if_exists = if_exists(key, found);
    match key.kind.as_str() {
        "column" if found.is_view(&key.parent) => {
            vec![]
        }
        "column" if found.kind_of(&key.parent) == Some("type") => {
            vec![lose(
                Phase::DropObjects,
                format!("alter type {} drop attribute {}", own(&key.parent), quoted(&key.name)),
            )]
        }
        "column" => vec![
            lose(
                // A table with other columns cannot become a partition.
                if lineage::is_partition(&key.parent, given) && if_exists.is_empty() {
                    Phase::Columns
                } else {
                    Phase::DropObjects
                },
                format!("alter table {} drop column {if_exists}{}", own(&key.parent), quoted(&key.name)),
            )
            .noting("the column may hold rows' only copy of something"),
        ],
        "sequence" if fact(facts, "owned by").is_some() => {
            vec![
                lose(Phase::DropObjects, format!("drop sequence if exists {}", own(&key.name)))
                    .noting("it goes with the column that it belongs to"),
            ]
        }
        "operator" => vec![lose(Phase::DropObjects, format!("drop operator {SCHEMA}.{}", key.name))],
        "extension" => vec![
            lose(Phase::DropObjects, format!("drop extension {}", quoted(&key.name)))
                .noting("other schemas may use it: if so, move it with ALTER EXTENSION … SET SCHEMA"),
        ],
        "default rights" => grants::changes(key, None, fact(facts, "grants")),
        _ => dependent(key, found).map_or_else(
            || match address(key) {
                Some((kind, name)) => vec![lose(Phase::DropObjects, format!("drop {kind} {name}")).dropping(key)],
                None => vec![],
            },
            |sql| vec![lose(Phase::DropDependents, sql).dropping(key)],
        ),
    }
}

/// Returns the DROP of an object that depends on others and has no dependent objects; `None` for any other object.
pub(super) fn dependent(key: &ObjectKey, catalogue: &Catalogue) -> Option<String> {
    let name = quoted(&key.name);
    let if_exists = if_exists(key, catalogue);
    Some(match key.kind.as_str() {
        "constraint" if catalogue.is_domain(&key.parent) => {
            format!("alter domain {} drop constraint {name}", own(&key.parent))
        }
        "constraint" => format!("alter table {} drop constraint {if_exists}{name}", own(&key.parent)),
        "trigger" | "rule" | "policy" => format!("drop {} {if_exists}{name} on {}", key.kind, own(&key.parent)),
        "index" => format!("drop index {if_exists}{}", own(&key.name)),
        "statistics" | "view" | "materialized view" => format!("drop {} {}", key.kind, own(&key.name)),
        _ => return None,
    })
}

/// Returns IF EXISTS for a part of a table with a parent: the parent's statement, which runs first, drops it as well if it
/// belongs to the parent's.
fn if_exists(key: &ObjectKey, catalogue: &Catalogue) -> &'static str {
    if lineage::parents(&key.parent, catalogue).is_empty() { "" } else { "if exists " }
}

/// Returns the DROP of an object that is created again immediately.
pub(super) fn first(key: &ObjectKey, catalogue: &Catalogue) -> Option<FixStatement> {
    dependent(key, catalogue).map(|sql| run(Phase::DropDependents, sql).dropping(key))
}
