//! Compares the objects of a schema with the expected ones. Runs no queries.

use super::{
    fix, ignore,
    objects::{Catalogue, ObjectKey, table_of},
    partitions,
    report::{Change, Difference},
    restored::restored,
};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the differences between `found` and the objects of the migrations.
pub(super) fn differences(given: &Catalogue, found: &Catalogue) -> Vec<Difference> {
    let with_partitions = partitions::added(given, found);
    let given = with_partitions.as_ref().unwrap_or(given);
    let mut all = Vec::new();
    // If a table is missing or unexpected, its dependent objects are not listed separately.
    let alone = |ours: &Catalogue, theirs: &Catalogue| -> BTreeSet<String> {
        let is_parent = |key: &&ObjectKey| has_parts(key) && !theirs.objects.contains_key(*key);
        ours.objects.keys().filter(is_parent).map(|key| key.name.clone()).collect()
    };
    let (gone, added) = (alone(given, found), alone(found, given));
    for (key, facts) in &given.objects {
        match found.objects.get(key) {
            None if gone.contains(table_of(key, facts)) || is_told_by_its_constraint(key, given, found) => {}
            // Another kind of object has the name of the table, and columns with the same names.
            Some(_) if gone.contains(&key.parent) && found.kind_of(&key.parent).is_some() => {}
            None => all.push((key, Change::Missing)),
            Some(actual) => all.extend(aspects(facts, actual).map(|change| (key, change))),
        }
    }
    for (key, facts) in found.objects.iter().filter(|(key, _)| !given.objects.contains_key(key)) {
        if !added.contains(table_of(key, facts)) && !is_told_by_its_constraint(key, found, given) {
            all.push((key, Change::Unexpected));
        }
    }
    all.sort_by(|(a, _), (b, _)| place(a).cmp(&place(b)));
    let mut fixes: Vec<_> =
        all.iter().map(|(key, change)| (*key, fix::statements(key, change, given, found))).collect();
    fix::complete(&mut fixes, given, found);
    let mut all: Vec<Difference> = all
        .into_iter()
        .zip(fixes)
        .map(|((key, change), (_, fix))| {
            let is_unexpected = change == Change::Unexpected;
            let note = is_unexpected.then(|| ignore::rights_of_others(key, found)).flatten();
            Difference { fix, gives_rights: note.is_some(), note, ..difference(key, change) }
        })
        .collect();
    all.extend(column_orders(given, found));
    all
}

/// Whether an object has columns or constraints, which its own line contains.
fn has_parts(key: &ObjectKey) -> bool {
    ["table", "view", "materialized view", "foreign table", "type", "domain"].contains(&key.kind.as_str())
}

/// Whether an index belongs to a constraint. Such an index has no definition of its own: the constraint's line contains
/// it.
fn is_told_by_its_constraint(key: &ObjectKey, here: &Catalogue, there: &Catalogue) -> bool {
    let constraint = ObjectKey { kind: "constraint".into(), ..key.clone() };
    key.kind == "index" && here.objects.contains_key(&constraint) && !there.objects.contains_key(&constraint)
}

/// Returns the sort key: differences are sorted by table, and the table itself is first.
fn place(key: &ObjectKey) -> (&str, bool, &str, &str) {
    let table = if key.parent.is_empty() { &key.name } else { &key.parent };
    (table, !key.parent.is_empty(), &key.kind, &key.name)
}

fn aspects<'a>(
    given: &'a BTreeMap<String, String>,
    found: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = Change> + 'a {
    let names: BTreeSet<&String> = given.keys().chain(found.keys()).collect();
    names.into_iter().filter(|name| !is_same(name, given.get(*name), found.get(*name))).map(|name| Change::Differs {
        aspect: name.clone(),
        found: found.get(name).cloned(),
        given: given.get(name).cloned(),
    })
}

/// Whether two values are equal, or become equal after a dump is restored.
fn is_same(aspect: &str, given: Option<&String>, found: Option<&String>) -> bool {
    let is_expression = match aspect {
        "definition" | "default" | "generated" | "using" | "check" | "arguments" => true,
        // The server does not parse and rewrite the text of other bodies.
        "body" => given.is_some_and(|body| body.starts_with("BEGIN ATOMIC")),
        _ => false,
    };
    // A service fills a view that the migrations leave empty.
    let is_filled = aspect == "populated" && found.is_some_and(|found| found == "yes");
    // CLUSTER with an index remembers the index.
    let was_clustered = aspect == "clustered" && given.is_none();
    given == found
        || is_filled
        || was_clustered
        || (is_expression && matches!((given, found), (Some(given), Some(found)) if restored(given) == restored(found)))
}

fn difference(key: &ObjectKey, change: Change) -> Difference {
    let object = match (key.kind.as_str(), key.parent.as_str()) {
        // The name of an index is unique in the schema.
        (_, "") | ("index" | "statistics", _) => key.name.clone(),
        (_, parent) => format!("{parent}.{}", key.name),
    };
    Difference::new(&key.kind, object, change)
}

/// Returns tables whose columns are the same but in another order. A missing or added column has a separate line.
fn column_orders<'a>(given: &'a Catalogue, found: &'a Catalogue) -> impl Iterator<Item = Difference> + 'a {
    given.columns.iter().filter_map(|(table, wanted)| {
        let actual = found.columns.get(table)?;
        let set = |columns: &'a str| columns.split(", ").collect::<BTreeSet<_>>();
        (wanted != actual && set(wanted) == set(actual)).then(|| {
            let (found, given) = (Some(actual.clone()), Some(wanted.clone()));
            Difference::new("table", table, Change::Differs { aspect: "column order".into(), found, given })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(rows: &[(&str, &str, &str, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (kind, parent, name, facts) in rows {
            catalogue.insert(kind, parent, name, &facts.replace('|', "\u{1f}"));
        }
        catalogue
    }

    fn found_lines(given: &[(&str, &str, &str, &str)], found: &[(&str, &str, &str, &str)]) -> Vec<String> {
        differences(&catalogue(given), &catalogue(found)).iter().map(ToString::to_string).collect()
    }

    const TABLE: (&str, &str, &str, &str) = ("table", "", "orders", "row security=off");

    #[test]
    fn the_same_is_no_difference() {
        assert_eq!(found_lines(&[TABLE], &[TABLE]), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_named() {
        let given = [
            TABLE,
            ("column", "orders", "total", "type=integer|not null=yes"),
            ("index", "orders", "i", "state=valid"),
        ];
        let found = [
            TABLE,
            ("column", "orders", "total", "type=bigint|not null=yes"),
            ("table", "", "copy", ""),
            ("column", "copy", "a", ""),
        ];
        assert_eq!(
            found_lines(&given, &found),
            [
                "table copy: not from any migration",
                "column orders.total: type is bigint, migrations give integer",
                "index i: missing"
            ]
        );
        assert_eq!(found_lines(&given, &[]), ["table orders: missing"]);
    }

    #[test]
    fn an_index_is_told_by_its_constraint() {
        let given = [TABLE, ("constraint", "orders", "k", "definition=x"), ("index", "orders", "k", "state=valid")];
        assert_eq!(found_lines(&given, &[TABLE]), ["constraint orders.k: missing"]);
        assert_eq!(found_lines(&[TABLE], &given), ["constraint orders.k: not from any migration"]);
        assert_eq!(found_lines(&given, &given[..2]), ["index k: missing"]);
        let broken = [TABLE, given[1], ("index", "orders", "k", "state=INVALID")];
        assert_eq!(found_lines(&given, &broken), ["index k: state is INVALID, migrations give valid"]);
    }

    #[test]
    fn what_hangs_on_a_table_is_told_by_it() {
        let sequence = ("sequence", "", "copy_id_seq", "owned by=copy.id");
        assert_eq!(
            found_lines(&[TABLE], &[TABLE, ("table", "", "copy", ""), sequence]),
            ["table copy: not from any migration"]
        );
        assert_eq!(found_lines(&[TABLE], &[TABLE, sequence]), ["sequence copy_id_seq: not from any migration"]);
    }

    #[test]
    fn an_expression_may_be_written_as_a_restored_dump_has_it_and_nothing_else_may() {
        let (made, restored) = ("CHECK (((a) AND (b)) AND (c))", "CHECK ((a) AND (b) AND (c))");
        let of = |kind: &'static str, aspect: &str, text: &str| (kind, format!("{aspect}={text}"));
        let differs = |kind, aspect, given: &str, found: &str| {
            let ((_, given), (_, found)) = (of(kind, aspect, given), of(kind, aspect, found));
            !found_lines(&[TABLE, (kind, "orders", "x", &given)], &[TABLE, (kind, "orders", "x", &found)]).is_empty()
        };
        for (kind, aspect) in [
            ("constraint", "definition"),
            ("column", "default"),
            ("column", "generated"),
            ("policy", "using"),
            ("policy", "check"),
            ("function", "arguments"),
        ] {
            assert!(!differs(kind, aspect, made, restored), "{aspect}");
            assert!(differs(kind, aspect, made, "CHECK ((a) AND (b))"), "{aspect}");
        }
        // A comment is no expression, and the server leaves the body of most functions as it is.
        assert!(differs("column", "comment", made, restored));
        assert!(differs("function", "body", made, restored));
        let atomic = |text: &str| format!("BEGIN ATOMIC {text}");
        assert!(!differs("function", "body", &atomic(made), &atomic(restored)));
        // What only one side has differs, whatever it is.
        assert_eq!(
            found_lines(
                &[TABLE, ("column", "orders", "x", "type=text|default=1")],
                &[TABLE, ("column", "orders", "x", "type=text")]
            ),
            ["column orders.x: no default, migrations give 1"]
        );
    }

    #[test]
    fn a_column_with_the_name_of_a_table_hides_nothing_of_it() {
        let items = ("table", "", "items", "row security=off");
        let (total, named) = (("column", "orders", "total", "type=text"), ("column", "items", "orders", "type=text"));
        let (less, more) = (
            found_lines(&[TABLE, items, total, named], &[TABLE, items]),
            found_lines(&[TABLE, items], &[TABLE, items, total, named]),
        );
        assert_eq!(less, ["column items.orders: missing", "column orders.total: missing"]);
        assert_eq!(
            more,
            ["column items.orders: not from any migration", "column orders.total: not from any migration"]
        );
    }

    #[test]
    fn columns_in_another_order_are_told_where_they_are_the_same_columns() {
        let columns = |list| ("columns", "orders", "", list);
        let differs = |found| found_lines(&[TABLE, columns("a, b, c")], &[TABLE, columns(found)]);
        assert_eq!(differs("a, b, c"), Vec::<String>::new());
        assert_eq!(differs("b, a, c").len(), 1);
        // These have lines of their own.
        assert_eq!(differs("b, a"), Vec::<String>::new());
        assert_eq!(differs("b, a, c, d"), Vec::<String>::new());
    }

    #[test]
    fn differences_are_sorted_by_table_and_the_table_is_first() {
        let given = [
            TABLE,
            ("column", "orders", "b", "type=text"),
            ("column", "orders", "a", "type=text"),
            ("statistics", "orders", "s", "kinds=x"),
            ("table", "", "items", "row security=on"),
            ("column", "items", "z", "type=text"),
        ];
        let found = [
            ("table", "", "orders", "row security=on"),
            ("table", "", "items", "row security=off"),
            ("trigger", "items", "t", "x=y"),
        ];
        let found_lines = found_lines(&given, &found);
        let objects: Vec<&str> = found_lines.iter().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(
            objects,
            [
                "table items",
                "column items.z",
                "trigger items.t",
                "table orders",
                "column orders.a",
                "column orders.b",
                "statistics s"
            ]
        );
    }
}
