//! Statements for differences of rights, from lists such as
//! `everyone: select; bob: insert and to pass that on, select`.

use super::{FixStatement, OWNER, Phase, ROLE, SCHEMA, function, own, run};
use crate::{
    catalogue::OWNER_LACKS,
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};
use std::collections::{BTreeMap, BTreeSet};

const PASSING_ON: &str = " and to pass that on";
const WITH_OPTION: &str = " with grant option";

/// Returns the rights by role, each with its grant option.
fn parsed(list: Option<&str>) -> BTreeMap<&str, BTreeSet<&str>> {
    let entries = list.unwrap_or_default().split("; ").filter_map(|held| held.split_once(": "));
    entries.map(|(who, rights)| (who, rights.split(", ").collect())).collect()
}

/// Returns a right without its grant option, and whether it has one.
fn plain(right: &str) -> (&str, bool) {
    right.strip_suffix(PASSING_ON).map_or((right, false), |right| (right, true))
}

/// Whether the rights contain this one, with or without its grant option.
fn has(rights: &BTreeSet<&str>, right: &str) -> bool {
    rights.iter().any(|held| plain(held).0 == right)
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
    changes_beside(key, given, found, OWNER, &[])
}

/// Returns the same for an object of the migrations. A REVOKE on a relation also revokes the right on its columns, so
/// the statements grant the rights on columns that the migrations give again.
pub(super) fn changes_in(
    key: &ObjectKey,
    given: Option<&str>,
    found: Option<&str>,
    expected: &Catalogue,
) -> Vec<FixStatement> {
    let columns: Vec<_> = match key.kind.as_str() {
        "table" | "view" | "materialized view" | "foreign table" => expected
            .objects
            .iter()
            .filter(|(column, _)| column.kind == "column" && column.parent == key.name)
            .filter_map(|(column, facts)| Some((column.name.as_str(), parsed(Some(facts.get("grants")?)))))
            .collect(),
        _ => Vec::new(),
    };
    let owner = expected.objects.get(key).and_then(|facts| facts.get("owner"));
    let owner = owner.filter(|owner| *owner != "the schema's").map_or_else(|| OWNER.to_owned(), |owner| quoted(owner));
    changes_beside(key, given, found, &owner, &columns)
}

/// Returns the statements for one object of this owner. `columns` are the rights on its columns that it must have afterwards.
fn changes_beside(
    key: &ObjectKey,
    given: Option<&str>,
    found: Option<&str>,
    owner: &str,
    columns: &[(&str, BTreeMap<&str, BTreeSet<&str>>)],
) -> Vec<FixStatement> {
    let Some((on, column)) = place(key) else { return Vec::new() };
    let prefix = match (key.kind.as_str(), key.name.split_once(" of ")) {
        ("default rights", Some((_, role))) => {
            format!("alter default privileges for role {} in schema {SCHEMA} ", quoted(role))
        }
        // The default rights of the schema's owner.
        ("default rights", None) => format!("alter default privileges for role {} in schema {SCHEMA} ", OWNER),
        _ => String::new(),
    };
    let (given, found) = (parsed(given), parsed(found));
    let none = BTreeSet::new();
    let mut all = Vec::new();
    let mut add = |sql: String| all.push(run(Phase::Grants, format!("{prefix}{sql}")));
    let list = |rights: &[&str], column: &str| {
        rights.iter().map(|right| format!("{right}{column}")).collect::<Vec<_>>().join(", ")
    };
    for who in found.keys().chain(given.keys()).collect::<BTreeSet<_>>() {
        let (wanted, held) = (given.get(*who).unwrap_or(&none), found.get(*who).unwrap_or(&none));
        if *who == OWNER_LACKS {
            // Rights that only one side's owner lacks: REVOKE is the way to lack them.
            for (verb, direction, rights) in [("grant", "to", held - wanted), ("revoke", "from", wanted - held)] {
                if !rights.is_empty() {
                    let rights: Vec<&str> = rights.into_iter().collect();
                    add(format!("{verb} {} {on} {direction} {owner}", list(&rights, &column)));
                }
            }
            continue;
        }
        let role = grantee(who);
        let (mut gone, mut gone_with_others, mut not_passed_on) = (Vec::new(), Vec::new(), Vec::new());
        for right in held.difference(wanted) {
            let (right, may_pass_on) = plain(right);
            match (has(wanted, right), may_pass_on) {
                (true, true) => not_passed_on.push(right),
                (true, false) => {}
                (false, true) => gone_with_others.push(right),
                (false, false) => gone.push(right),
            }
        }
        // CASCADE revokes only what the role passed on.
        for (rights, before, after) in
            [(&gone, "", ""), (&gone_with_others, "", " cascade"), (&not_passed_on, "grant option for ", " cascade")]
        {
            if !rights.is_empty() {
                add(format!("revoke {before}{} {on} from {role}{after}", list(rights, &column)));
            }
        }
        let (passed, usual): (Vec<&str>, Vec<&str>) =
            wanted.difference(held).copied().partition(|right| plain(right).1);
        // A right that is only without its option stays.
        let usual: Vec<&str> = usual.into_iter().filter(|right| !has(held, right)).collect();
        let passed: Vec<&str> = passed.into_iter().map(|right| plain(right).0).collect();
        for (rights, option) in [(usual, ""), (passed, WITH_OPTION)] {
            if !rights.is_empty() {
                add(format!("grant {} {on} to {role}{option}", list(&rights, &column)));
            }
        }
        let revoked: Vec<&str> = [gone, gone_with_others, not_passed_on].concat();
        for (name, rights) in columns.iter().filter_map(|(name, rights)| Some((name, rights.get(who)?))) {
            for right in rights {
                let (right, may_pass_on) = plain(right);
                if revoked.contains(&right) {
                    let option = if may_pass_on { WITH_OPTION } else { "" };
                    add(format!("grant {} {on} to {role}{option}", list(&[right], &format!(" ({})", quoted(name)))));
                }
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
