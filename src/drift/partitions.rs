//! Accepts partitions that no migration created, of tables that the migrations partition. A schedule, pg_partman or a
//! person creates them over time. They are not drift if they allow no more access than their table.

use super::objects::{Catalogue, ObjectFacts, ObjectKey, without_word};

/// The objects of a partition that are compared, because the server does not enforce that they match the table.
const OWN_KINDS: [&str; 3] = ["trigger", "rule", "policy"];

/// Their properties that must be those of the table's object with the same name. A definition contains the name of the
/// partition, so it is not compared.
const OWN_ASPECTS: [&str; 6] = ["state", "command", "kind", "roles", "using", "check"];

/// Returns the objects of the migrations, and the allowed form of additional partitions; `None` if there are none.
///
/// The columns, constraints and indexes of a partition are accepted: the server ensures that they match its table. Its
/// owner must be the schema's. Its rights must not exceed those of the table, and its row security must not be weaker.
/// Its triggers, rules and policies must have the names of the table's, and the same effect.
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
            let in_table = ObjectKey { parent: table.name.clone(), ..part.clone() };
            let of_table = given.objects.get(&in_table);
            let facts = match of_table {
                None if OWN_KINDS.contains(&part.kind.as_str()) => continue,
                Some(of_table) if OWN_KINDS.contains(&part.kind.as_str()) => must_be(part, facts, &in_table, of_table),
                _ => may_be(facts, of_table.unwrap_or(&ObjectFacts::new())),
            };
            all.objects.insert(part.clone(), facts);
        }
    }
    all
}

/// Returns the migrations' partitioned table that a partition belongs to, also through nested partitions.
fn partitioned(given: &Catalogue, found: &Catalogue, partition: &ObjectKey) -> Option<ObjectKey> {
    let mut key = partition.clone();
    // The limit prevents an endless loop if the catalogue contains a cycle, which should be impossible.
    for _ in 0..found.objects.len() {
        let facts = found.objects.get(&key).filter(|facts| facts.contains_key("partition"))?;
        key = ObjectKey { name: facts.get("inherits")?.clone(), ..key };
        if given.objects.contains_key(&key) {
            return given.objects[&key].contains_key("partitioned by").then_some(key);
        }
    }
    None
}

/// Returns the found properties of an object, but with the table's value for the properties that must not differ.
fn may_be(found: &ObjectFacts, table: &ObjectFacts) -> ObjectFacts {
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

/// Returns the found properties of a partition's trigger, rule or policy, but with the table's value for those that
/// decide its effect.
fn must_be(part: &ObjectKey, found: &ObjectFacts, in_table: &ObjectKey, table: &ObjectFacts) -> ObjectFacts {
    let mut facts = found.clone();
    // An expression can name the columns with the name of their table.
    let unqualified = |text: &String, key: &ObjectKey| without_word(text, &format!("{}.", key.parent));
    for aspect in OWN_ASPECTS {
        match (found.get(aspect), table.get(aspect)) {
            (Some(own), Some(of_table)) if unqualified(own, part) == unqualified(of_table, in_table) => {}
            (_, Some(of_table)) => drop(facts.insert(aspect.into(), of_table.clone())),
            (_, None) => drop(facts.remove(aspect)),
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
    use super::{super::compare::differences, *};

    #[test]
    fn rights_are_cut_to_those_of_the_table() {
        assert_eq!(common("bob: insert, select; everyone: select", "bob: select; eve: select"), "bob: select");
        assert_eq!(common("bob: select", "bob: insert, select"), "bob: select");
        assert_eq!(common("bob: select", ""), "");
    }

    type Row = (&'static str, &'static str, &'static str, &'static str);

    fn catalogue(rows: &[Row]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (kind, parent, name, facts) in rows {
            catalogue.insert(kind, parent, name, &facts.replace('|', "\u{1f}"));
        }
        catalogue
    }

    const TABLE: [Row; 4] = [
        ("table", "", "orders", "owner=the schema's|partitioned by=RANGE (d)|row security=on|grants=app: select"),
        ("column", "orders", "d", "type=date"),
        ("policy", "orders", "p", "command=all|roles=everyone|using=(a = orders.a)"),
        ("trigger", "orders", "t", "definition=on orders|state=enabled"),
    ];

    /// Returns the lines about a partition `new` of the table, and about its objects.
    fn found_lines(facts: &'static str, more: &[Row]) -> Vec<String> {
        let given = catalogue(&TABLE);
        let mut found = given.clone();
        let added = catalogue(&[&[("table", "", "new", facts)], more].concat());
        found.objects.extend(added.objects);
        differences(&given, &found).iter().map(ToString::to_string).collect()
    }

    const FITS: &str = "owner=the schema's|partition=x|inherits=orders|row security=on|grants=app: select";

    #[test]
    fn a_partition_may_be_added_if_it_allows_no_more_than_its_table() {
        let whole = [
            ("column", "new", "d", "type=date"),
            ("index", "new", "i", "state=valid"),
            ("policy", "new", "p", "command=all|roles=everyone|using=(a = new.a)"),
            ("trigger", "new", "t", "definition=on new|state=enabled|comment=x"),
            ("table", "", "below", "owner=the schema's|partition=x|inherits=new|row security=on, forced"),
        ];
        assert_eq!(found_lines(FITS, &whole), Vec::<String>::new());
        for (facts, line) in [
            ("owner=bob|partition=x|inherits=orders|row security=on", "owner is bob, migrations give the schema's"),
            ("partition=x|inherits=orders|row security=off", "row security is off, migrations give on"),
            ("partition=x|inherits=orders|grants=app: insert, select", "migrations give app: select"),
            ("partition=x|inherits=orders|grants=eve: select", "grants are eve: select, migrations give none"),
            ("partition=x|inherits=elsewhere", "not from any migration"),
            ("inherits=orders", "not from any migration"),
        ] {
            let found_lines = found_lines(facts, &[]);
            assert!(
                found_lines.len() == 1 && found_lines[0].starts_with("table new: ") && found_lines[0].ends_with(line),
                "{found_lines:?}"
            );
        }
    }

    #[test]
    fn what_acts_on_a_partition_must_act_as_on_its_table() {
        for (row, line) in [
            (("policy", "new", "q", "command=all"), "policy new.q: not from any migration"),
            (
                ("policy", "new", "p", "command=all|roles=everyone|using=true"),
                "policy new.p: using is true, migrations give (a = orders.a)",
            ),
            (
                ("policy", "new", "p", "command=all|roles=bob|using=(a = new.a)"),
                "policy new.p: roles are bob, migrations give everyone",
            ),
            (
                ("policy", "new", "p", "command=all|kind=restrictive|roles=everyone|using=(a = new.a)"),
                "policy new.p: kind is restrictive, migrations give none",
            ),
            (("trigger", "new", "u", "state=enabled"), "trigger new.u: not from any migration"),
            (
                ("trigger", "new", "t", "definition=on new|state=disabled"),
                "trigger new.t: state is disabled, migrations give enabled",
            ),
            (("rule", "new", "r", "state=enabled"), "rule new.r: not from any migration"),
        ] {
            assert_eq!(found_lines(FITS, &[row]), [line]);
        }
    }
}
