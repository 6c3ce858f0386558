//! Accepts partitions that no migration created, of tables that the migrations partition. A schedule, pg_partman or a
//! person creates them over time. They are not drift if they allow no more access than their table.

use super::objects::{Catalogue, Facts, Key};

/// The objects of a partition that are compared, because the server does not enforce that they match the table.
const OWN_KINDS: [&str; 3] = ["trigger", "rule", "policy"];

/// Returns the objects of the migrations, and the allowed form of additional partitions; `None` if there are none.
///
/// The columns, constraints and indexes of a partition are accepted: the server ensures that they match its table. Its
/// owner must be the schema's. Its rights must not exceed those of the table, and its row security must not be weaker.
/// Its triggers, rules and policies must be those of the table.
pub(super) fn added(given: &Catalogue, found: &Catalogue) -> Option<Catalogue> {
    let mut all: Option<Catalogue> = None;
    for (key, facts) in &found.objects {
        if key.kind != "table" || given.objects.contains_key(key) {
            continue;
        }
        let Some(table) = partitioned(given, found, key) else { continue };
        let all = all.get_or_insert_with(|| given.clone());
        let of_table = &given.objects[&table];
        all.objects.insert(key.clone(), may_be(facts, of_table));
        all.copy_columns(&key.name, found);
        for (part, facts) in found.objects.iter().filter(|(part, _)| part.parent == key.name) {
            let in_table = Key { parent: table.name.clone(), ..part.clone() };
            let of_table = given.objects.get(&in_table);
            if OWN_KINDS.contains(&part.kind.as_str()) && of_table.is_none() {
                continue;
            }
            let facts = may_be(facts, of_table.unwrap_or(&Facts::new()));
            all.objects.insert(part.clone(), facts);
        }
    }
    all
}

/// Returns the migrations' partitioned table that a partition belongs to, also through nested partitions.
fn partitioned(given: &Catalogue, found: &Catalogue, partition: &Key) -> Option<Key> {
    let mut key = partition.clone();
    // The limit prevents an endless loop if the catalogue contains a cycle, which should be impossible.
    for _ in 0..found.objects.len() {
        let facts = found.objects.get(&key).filter(|facts| facts.contains_key("partition"))?;
        key = Key { name: facts.get("inherits")?.clone(), ..key };
        if given.objects.contains_key(&key) {
            return given.objects[&key].contains_key("partitioned by").then_some(key);
        }
    }
    None
}

/// Returns the found properties of an object, but with the table's value for the properties that must not differ.
fn may_be(found: &Facts, table: &Facts) -> Facts {
    let mut facts = found.clone();
    if facts.contains_key("owner") {
        facts.insert("owner".into(), "the schema's".into());
    }
    if let Some(of_table) = table.get("row security").filter(|security| security.starts_with("on"))
        && facts.get("row security").is_some_and(|own| own != "on, forced")
    {
        facts.insert("row security".into(), of_table.clone());
    }
    if let Some(grants) = facts.remove("grants") {
        let grants = common(&grants, table.get("grants").map_or("", String::as_str));
        if !grants.is_empty() {
            facts.insert("grants".into(), grants);
        }
    }
    facts
}

/// Returns the common rights of two lists of grants, in the order of the first:
/// `bob: insert, select; everyone: select`.
fn common(grants: &str, others: &str) -> String {
    let parts = |text: &str| -> Vec<(String, Vec<String>)> {
        let split = |held: &str| {
            held.rsplit_once(": ")
                .map(|(who, rights)| (who.to_owned(), rights.split(", ").map(ToOwned::to_owned).collect()))
        };
        text.split("; ").filter_map(split).collect()
    };
    let others = parts(others);
    let mut kept = Vec::new();
    for (who, rights) in parts(grants) {
        let Some((_, theirs)) = others.iter().find(|(other, _)| *other == who) else { continue };
        let rights: Vec<String> = rights.into_iter().filter(|right| theirs.contains(right)).collect();
        if !rights.is_empty() {
            kept.push(format!("{who}: {}", rights.join(", ")));
        }
    }
    kept.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_cut_to_those_of_the_table() {
        assert_eq!(common("bob: insert, select; everyone: select", "bob: select; eve: select"), "bob: select");
        assert_eq!(common("bob: select", "bob: insert, select"), "bob: select");
        assert_eq!(common("bob: select", ""), "");
    }
}
