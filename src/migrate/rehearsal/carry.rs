//! Applies the differences between two snapshots of a schema to its record.

use std::collections::BTreeMap;

pub(super) type RecordKey<'a> = [&'a str; 3];

pub(super) fn keyed(objects: &[String]) -> BTreeMap<RecordKey<'_>, &str> {
    let rows = objects.chunks_exact(4);
    rows.map(|row| ([row[0].as_str(), row[1].as_str(), row[2].as_str()], row[3].as_str())).collect()
}

/// Returns the recorded objects with the changes of a migration. `before` and `after` are the snapshots.
pub(super) fn carried_over(given: &[String], before: &[String], after: &[String]) -> Vec<String> {
    let (given, before, after) = (keyed(given), keyed(before), keyed(after));
    let mut made: BTreeMap<RecordKey<'_>, String> =
        given.iter().map(|(key, facts)| (*key, (*facts).to_owned())).collect();
    for (key, facts) in &after {
        match (before.get(key), given.get(key)) {
            (None, _) => drop(made.insert(*key, (*facts).to_owned())),
            (Some(old), Some(known)) if old != facts => drop(made.insert(*key, changed(key, known, old, facts))),
            _ => {}
        }
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        made.remove(key);
    }
    let flat = |(key, facts): (RecordKey<'_>, String)| key.map(ToOwned::to_owned).into_iter().chain([facts]);
    made.into_iter().flat_map(flat).collect()
}

/// Returns the recorded facts of one object, with the changes of the aspects that differ between two snapshots.
fn changed(key: &RecordKey<'_>, known: &str, old: &str, new: &str) -> String {
    if key[0] == "columns" || known == old {
        return new.to_owned();
    }
    let parse = |facts: &str| -> BTreeMap<String, String> {
        let facts = facts.split('\u{1f}').filter_map(|fact| fact.split_once('='));
        facts.map(|(aspect, value)| (aspect.to_owned(), value.to_owned())).collect()
    };
    let (mut known, old, new) = (parse(known), parse(old), parse(new));
    for (aspect, value) in &new {
        if old.get(aspect) != Some(value) {
            known.insert(aspect.clone(), value.clone());
        }
    }
    known.retain(|aspect, _| new.contains_key(aspect) || !old.contains_key(aspect));
    known.into_iter().map(|(aspect, value)| format!("{aspect}={value}")).collect::<Vec<_>>().join("\u{1f}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[[&str; 4]]) -> Vec<String> {
        rows.iter().flatten().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn only_what_a_migration_changed_reaches_the_record() {
        let given = rows(&[["column", "t", "a", "type=int\u{1f}default=1"], ["table", "", "t", "owner=x"]]);
        // A default and a table that were created by hand.
        let before = rows(&[
            ["column", "t", "a", "type=int\u{1f}default=2"],
            ["table", "", "hand", "owner=x"],
            ["table", "", "t", "owner=x"],
        ]);
        let after = rows(&[
            ["column", "t", "a", "type=bigint\u{1f}default=2"],
            ["table", "", "hand", "owner=x"],
            ["table", "", "new", "owner=x"],
        ]);
        let expected = rows(&[["column", "t", "a", "default=1\u{1f}type=bigint"], ["table", "", "new", "owner=x"]]);
        assert_eq!(carried_over(&given, &before, &after), expected);
        assert_eq!(carried_over(&given, &before, &before), given.clone(), "nothing changed, nothing is blessed");
    }
}
