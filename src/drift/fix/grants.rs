//! Statements for differences of rights, from lists such as
//! `everyone: select; bob: insert and to pass that on, select`.

use super::{FixStatement, Phase, ROLE, SCHEMA, function, own, run};
use crate::{drift::objects::ObjectKey, ident::quoted};
use std::collections::{BTreeMap, BTreeSet};

const PASSING_ON: &str = " and to pass that on";

/// Returns the rights by role, each with its grant option.
fn parsed(list: Option<&str>) -> BTreeMap<&str, BTreeSet<&str>> {
    let entries = list.unwrap_or_default().split("; ").filter_map(|held| held.split_once(": "));
    entries.map(|(who, rights)| (who, rights.split(", ").collect())).collect()
}

fn grantee(who: &str) -> String {
    match who {
        "everyone" => "public".into(),
        "the tenant's role" => ROLE.into(),
        name => quoted(name),
    }
}

/// Returns the object of a right for `on` and `in`, and the columns; `None` for objects without grants.
fn place(key: &ObjectKey) -> Option<(String, String)> {
    let on = match key.kind.as_str() {
        "schema" => format!("on schema {SCHEMA}"),
        "table" | "view" | "materialized view" | "foreign table" => format!("on table {}", own(&key.name)),
        "sequence" => format!("on sequence {}", own(&key.name)),
        "type" => format!("on type {}", own(&key.name)),
        "domain" => format!("on domain {}", own(&key.name)),
        "function" | "aggregate" => format!("on function {}", function::name(key)?),
        "procedure" => format!("on procedure {}", function::name(key)?),
        "column" => {
            return Some((format!("on table {}", own(&key.parent)), format!(" ({})", quoted(&key.name))));
        }
        "default rights" => format!("on {}", key.name.split(" of ").next()?),
        _ => return None,
    };
    Some((on, String::new()))
}

/// Returns the statements that change the rights of `found` to those of `given`.
pub(super) fn changes(key: &ObjectKey, given: Option<&str>, found: Option<&str>) -> Vec<FixStatement> {
    let Some((on, columns)) = place(key) else { return Vec::new() };
    let prefix = match (key.kind.as_str(), key.name.split_once(" of ")) {
        ("default rights", Some((_, role))) => {
            format!("alter default privileges for role {} in schema {SCHEMA} ", quoted(role))
        }
        // The default rights of the schema's owner.
        ("default rights", None) => format!("alter default privileges for role {} in schema {SCHEMA} ", super::OWNER),
        _ => String::new(),
    };
    let (given, found) = (parsed(given), parsed(found));
    let none = BTreeSet::new();
    let mut all = Vec::new();
    for who in found.keys().chain(given.keys()).collect::<BTreeSet<_>>() {
        let (wanted, held) = (given.get(*who).unwrap_or(&none), found.get(*who).unwrap_or(&none));
        let role = grantee(who);
        let without = |rights: Vec<&str>| {
            let rights = rights.iter().map(|right| format!("{}{columns}", right.trim_end_matches(PASSING_ON)));
            rights.collect::<Vec<_>>().join(", ")
        };
        let gone: Vec<&str> = held.difference(wanted).copied().collect();
        if !gone.is_empty() {
            all.push(run(Phase::Grants, format!("{prefix}revoke {} {on} from {role}", without(gone))));
        }
        let (passed, plain): (Vec<&str>, Vec<&str>) =
            wanted.difference(held).copied().partition(|right| right.ends_with(PASSING_ON));
        for (rights, option) in [(plain, ""), (passed, " with grant option")] {
            if !rights.is_empty() {
                all.push(run(Phase::Grants, format!("{prefix}grant {} {on} to {role}{option}", without(rights))));
            }
        }
    }
    all
}

/// Returns the statements that set the rights of a new object. For functions and types, the server grants some to
/// PUBLIC.
pub(super) fn of_new(key: &ObjectKey, given: Option<&str>) -> Vec<FixStatement> {
    let by_itself = match key.kind.as_str() {
        "function" | "procedure" | "aggregate" => Some("everyone: execute"),
        "type" | "domain" => Some("everyone: usage"),
        _ => None,
    };
    changes(key, given, by_itself)
}
