//! Objects that another one uses while a statement drops it or changes the type of a column. The server refuses that, so
//! they are dropped first and created again.

use super::{FixStatement, Fixes, HoldReason, Phase, alter, fact, function, own, run, trimmings, words::SqlNames};
use crate::{
    drift::objects::{Catalogue, ObjectKey},
    ident::quoted,
};
use std::collections::BTreeSet;

pub(super) fn add(fixes: &mut [Fixes<'_>], given: &Catalogue, found: &Catalogue) {
    let dropped: Vec<&FixStatement> =
        fixes.iter().flat_map(|(_, statements)| statements).filter(|statement| statement.drops.is_some()).collect();
    // Those that are created again, and those that are only dropped.
    let (again, gone): (Vec<_>, Vec<_>) = dropped.into_iter().partition(|statement| !statement.loses_data);
    let again: BTreeSet<ObjectKey> = again.into_iter().filter_map(|statement| statement.drops.clone()).collect();
    let gone: BTreeSet<ObjectKey> = gone.into_iter().filter_map(|statement| statement.drops.clone()).collect();
    let mut texts: Option<Vec<(&ObjectKey, SqlNames)>> = None;
    for (key, statements) in fixes.iter_mut() {
        let targets: Vec<ObjectKey> = statements
            .iter()
            .filter_map(|statement| match &statement.drops {
                Some(dropped) => Some(dropped.clone()).filter(|_| !statement.loses_data),
                None => changes_type(key, statement).then(|| (*key).clone()),
            })
            .collect();
        if targets.is_empty() {
            continue;
        }
        let texts = texts.get_or_insert_with(|| {
            let users = found.objects.keys().filter(|key| can_use(key));
            users.map(|key| (key, SqlNames::of_object(key, found))).collect()
        });
        let loses = statements.iter().any(|statement| statement.loses_data && changes_type(key, statement));
        for user in users(targets, texts, found) {
            if again.contains(user) {
                continue;
            }
            let more = around(user, given, found);
            if more.is_empty() || gone.contains(user) {
                let reason = format!("{} {} uses it: drop that first", user.kind, name(user));
                statements.iter_mut().for_each(|statement| statement.hold_back(HoldReason::Refused, &reason));
                break;
            }
            statements.extend(more.into_iter().map(|mut statement| {
                if loses {
                    statement.hold = HoldReason::OnlyWithLoss;
                }
                statement
            }));
        }
    }
}

/// Removes the statements that drop a part of an object which another statement drops as a whole.
pub(super) fn drop_once(fixes: &mut [Fixes<'_>]) {
    let live =
        fixes.iter().flat_map(|(_, statements)| statements).filter(|one| one.hold == HoldReason::No && !one.loses_data);
    let whole: BTreeSet<String> = live
        .filter_map(|one| one.drops.as_ref())
        .filter(|key| key.parent.is_empty())
        .map(|key| key.name.clone())
        .collect();
    for (_, statements) in fixes {
        statements.retain(|one| !one.drops.as_ref().is_some_and(|key| whole.contains(&key.parent)));
    }
}

fn name(key: &ObjectKey) -> String {
    if key.parent.is_empty() { key.name.clone() } else { format!("{}.{}", key.parent, key.name) }
}

fn changes_type(key: &ObjectKey, statement: &FixStatement) -> bool {
    key.kind == "column"
        && statement.phase == Phase::Columns
        && statement.sql.contains(" type ")
        && statement.sql.contains(" using ")
}

/// Whether an object of the kind prevents that one that it uses is dropped or changed.
fn can_use(key: &ObjectKey) -> bool {
    ["view", "materialized view", "function", "procedure", "trigger", "rule", "policy", "constraint", "index", "column"]
        .contains(&key.kind.as_str())
}

/// Returns the existing objects that use one of the targets, directly or through others.
fn users<'f>(
    mut targets: Vec<ObjectKey>,
    texts: &[(&'f ObjectKey, SqlNames)],
    found: &Catalogue,
) -> Vec<&'f ObjectKey> {
    let mut all: Vec<&ObjectKey> = Vec::new();
    let first = targets.clone();
    while let Some(target) = targets.pop() {
        for (user, words) in texts {
            let is_part = user.parent == target.name && target.parent.is_empty()
                || user.parent.is_empty() && user.name == target.parent;
            if first.contains(user) || all.contains(user) || is_part || !uses(user, words, &target, found) {
                continue;
            }
            all.push(user);
            targets.push((*user).clone());
        }
    }
    all
}

fn uses(user: &ObjectKey, words: &SqlNames, target: &ObjectKey, found: &Catalogue) -> bool {
    if !words.depend_on(target, found) {
        return false;
    }
    let has = |aspect: &str| found.objects.get(user).is_some_and(|facts| facts.contains_key(aspect));
    let definition = found.objects.get(user).and_then(|facts| fact(facts, "definition")).unwrap_or_default();
    match (target.kind.as_str(), user.kind.as_str()) {
        // The server changes the constraints and indexes on a column itself.
        ("column", "constraint" | "index") => false,
        ("column", "column") => has("generated"),
        ("function", "column") => has("generated") || has("default"),
        ("function", "index") => true,
        (_, "column" | "index") => false,
        ("constraint" | "index", "constraint") => definition.starts_with("FOREIGN KEY"),
        ("constraint" | "index", _) => false,
        (_, "constraint") => definition.starts_with("CHECK"),
        _ => true,
    }
}

/// Returns the statements that drop an object and create that of the migrations; empty if they have none.
fn around(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    if !given.objects.contains_key(key) {
        return Vec::new();
    }
    match key.kind.as_str() {
        "function" | "procedure" => {
            let (Some(name), Some(create)) = (function::name(key), function::create(key, given)) else {
                return Vec::new();
            };
            let drop = run(Phase::DropDependents, format!("drop {} {name}", key.kind)).dropping(key);
            [drop, create.making(key)].into_iter().chain(trimmings::of_new(key, given)).collect()
        }
        "column" => around_default(key, given, found),
        _ => alter::again(key, given, found),
    }
}

/// Returns the statements that drop the default of a column and set that of the migrations.
fn around_default(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    if !found.objects[key].contains_key("default") {
        return Vec::new();
    }
    let column = format!("alter table {} alter column {}", own(&key.parent), quoted(&key.name));
    let drop = run(Phase::DropDependents, format!("{column} drop default")).dropping(key);
    let set = fact(&given.objects[key], "default")
        .map(|default| run(Phase::Columns, format!("{column} set default {default}")));
    std::iter::once(drop).chain(set).collect()
}
