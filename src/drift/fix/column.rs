//! Statements for columns of tables and attributes of composite types.

use super::{FixStatement, HoldReason, Phase, fact, lineage, lose, option_clauses, own, run, sequence, table};
use crate::{
    drift::objects::{Catalogue, ObjectFacts, ObjectKey},
    ident::quoted,
};

pub(super) fn collation(facts: &ObjectFacts) -> String {
    fact(facts, "collation").map(|name| format!(" collate {name}")).unwrap_or_default()
}

/// Returns a column in the form of CREATE TABLE.
pub(super) fn definition(table: &str, column: &str, given: &Catalogue) -> Option<String> {
    let key = ObjectKey { kind: "column".into(), parent: table.into(), name: column.into() };
    let facts = given.objects.get(&key)?;
    let mut sql = format!("{} {}{}", quoted(column), fact(facts, "type")?, collation(facts));
    if let Some(identity) = fact(facts, "identity") {
        sql.push_str(&format!(" generated {identity} as identity{}", identity_options(&key, given)));
    } else if let Some(default) = fact(facts, "default") {
        sql.push_str(&format!(" default {default}"));
    } else if let Some(generated) = fact(facts, "generated") {
        sql.push_str(&format!(" {}", generation(generated)));
    }
    // CREATE TABLE and ADD COLUMN create no constraint that is not valid.
    if is_not_null(facts) && !has(facts, "not valid") {
        sql.push_str(&named_not_null(facts));
        sql.push_str(if has(facts, "no inherit") { " not null no inherit" } else { " not null" });
    }
    Some(sql)
}

fn is_not_null(facts: &ObjectFacts) -> bool {
    fact(facts, "not null").is_some_and(|text| text.starts_with("yes"))
}

/// Whether a NOT NULL has a property. These exist since PostgreSQL 18.
fn has(facts: &ObjectFacts, property: &str) -> bool {
    fact(facts, "not null").is_some_and(|text| text.split(", ").any(|word| word == property))
}

/// Returns the clause that names a NOT NULL; empty if it has no explicit name.
pub(super) fn named_not_null(facts: &ObjectFacts) -> String {
    fact(facts, "not null constraint").map(|name| format!(" constraint {}", quoted(name))).unwrap_or_default()
}

/// Adds a NOT NULL as a constraint of the table, because this form supports all properties.
fn add_not_null(column: &str, facts: &ObjectFacts) -> String {
    let properties: String =
        ["no inherit", "not valid"].iter().filter(|word| has(facts, word)).map(|word| format!(" {word}")).collect();
    format!("add{} not null {}{properties}", named_not_null(facts), quoted(column))
}

/// The length in bytes to which the server shortens a name.
const NAME_MAX: usize = 63;

/// Returns statements that change the NOT NULL of a column to the expected one.
fn not_null(key: &ObjectKey, aspect: &str, wanted: &ObjectFacts, held: &ObjectFacts) -> Vec<FixStatement> {
    let table = own(&key.parent);
    let alter = |clause: String| run(Phase::Columns, format!("alter table {table} {clause}"));
    let column = quoted(&key.name);
    let fails = "it fails while a row has none";
    let is_plain = !wanted.contains_key("not null constraint") && fact(wanted, "not null") == Some("yes");
    let is_only_validated =
        fact(held, "not null").and_then(|held| held.strip_suffix(", not valid")) == fact(wanted, "not null");
    match aspect {
        "not null comment" => match fact(wanted, "not null constraint").or(fact(held, "not null constraint")) {
            Some(name) => vec![comment_on_not_null(&table, name, fact(wanted, aspect))],
            None => Vec::new(),
        },
        _ if !is_not_null(wanted) => vec![alter(format!("alter column {column} drop not null"))],
        // The statement of the other aspect includes this.
        "not null constraint" if fact(wanted, "not null") != fact(held, "not null") => Vec::new(),
        "not null" if (is_plain && !is_not_null(held)) || is_only_validated => {
            vec![alter(format!("alter column {column} set not null")).noting(fails)]
        }
        // The server refuses to drop that of a key or of an identity.
        "not null constraint" => {
            let usual = format!("{}_{}_not_null", key.parent, key.name);
            let name = |facts| fact(facts, aspect).unwrap_or(&usual);
            let rename =
                format!("alter table {table} rename constraint {} to {}", quoted(name(held)), quoted(name(wanted)));
            let rename = run(Phase::Names, rename);
            match (held.contains_key(aspect), usual.len() > NAME_MAX) {
                (false, false) => vec![rename.noting("the name is the one that the server chooses unless it is taken")],
                (true, _) if wanted.contains_key(aspect) || usual.len() <= NAME_MAX => vec![rename],
                _ => vec![alter(format!("alter column {column} drop not null, {}", add_not_null(&key.name, wanted)))],
            }
        }
        _ if is_not_null(held) => {
            let add = add_not_null(&key.name, wanted);
            vec![alter(format!("alter column {column} drop not null, {add}"))]
        }
        _ => vec![alter(add_not_null(&key.name, wanted)).noting(fails)],
    }
}

/// Returns a text such as `(a * 2) stored` as a clause.
fn generation(text: &str) -> String {
    let (expression, kind) = text.rsplit_once(' ').unwrap_or((text, "stored"));
    format!("generated always as ({expression}) {kind}")
}

fn identity_options(key: &ObjectKey, given: &Catalogue) -> String {
    match given.sequence_of(&key.parent, &key.name) {
        Some((name, facts)) => {
            format!(" (sequence name {}{})", own(name), sequence::options(facts))
        }
        None => String::new(),
    }
}

/// Returns the statements for a column of the migrations that a table does not have.
pub(super) fn missing(
    key: &ObjectKey,
    facts: &ObjectFacts,
    given: &Catalogue,
    found: Option<&Catalogue>,
) -> Vec<FixStatement> {
    let name = quoted(&key.name);
    if given.kind_of(&key.parent) == Some("type") {
        let Some(of) = fact(facts, "type") else { return Vec::new() };
        let cascade = cascade(&key.parent, found);
        let sql = format!("alter type {} add attribute {name} {of}{}{cascade}", own(&key.parent), collation(facts));
        return vec![run(Phase::Types, sql)];
    }
    if given.is_view(&key.parent) {
        return Vec::new();
    }
    let Some(definition) = definition(&key.parent, &key.name, given) else { return Vec::new() };
    let mut add = run(Phase::Columns, format!("alter table {} add column {definition}", own(&key.parent)));
    let is_last = given.columns_of(&key.parent).last() == Some(&key.name);
    let mut notes = Vec::new();
    if !is_last {
        notes.push("the new column is the last one; the order of columns cannot be changed");
    }
    let others = found.map(|found| found.columns_of(&key.parent)).unwrap_or_default();
    let renamed = others.iter().find(|other| {
        let other = ObjectKey { name: (*other).clone(), ..key.clone() };
        let of =
            |catalogue: &Catalogue, key: &ObjectKey| catalogue.objects.get(key).and_then(|f| f.get("type").cloned());
        !given.objects.contains_key(&other)
            && found.is_some_and(|found| of(found, &other) == facts.get("type").cloned())
    });
    let hint = renamed.map(|other| format!("if {other:?} is this column under another name, rename it instead"));
    notes.extend(hint.as_deref());
    if !notes.is_empty() {
        add = add.noting(&notes.join("; "));
    }
    let mut all = vec![add];
    all.extend(trimmings(key, given));
    all
}

/// Whether a row that exists cannot get the column: it is not null, and has no value of its own.
pub(super) fn needs_a_value(key: &ObjectKey, given: &Catalogue) -> bool {
    let Some(facts) = given.objects.get(key) else { return false };
    is_not_null(facts)
        && !has(facts, "not valid")
        && !["default", "identity", "generated"].iter().any(|aspect| facts.contains_key(*aspect))
}

/// Returns statements for the properties of a column that CREATE TABLE and ADD COLUMN do not support, except comment
/// and rights.
pub(super) fn trimmings(key: &ObjectKey, given: &Catalogue) -> Vec<FixStatement> {
    let Some(facts) = given.objects.get(key) else { return Vec::new() };
    let settings = ["storage", "compression", "statistics target", "options"]
        .iter()
        .filter(|aspect| facts.contains_key(**aspect))
        .flat_map(|aspect| setting(key, aspect, facts, &ObjectFacts::new()));
    let table = own(&key.parent);
    let not_valid = has(facts, "not valid")
        .then(|| run(Phase::Checks, format!("alter table {table} {}", add_not_null(&key.name, facts))));
    let comment = fact(facts, "not null comment").map(|text| match fact(facts, "not null constraint") {
        Some(name) => comment_on_not_null(&table, name, Some(text)),
        // The server chooses the name, usually this one.
        None => {
            let name = format!("{}_{}_not_null", key.parent, key.name);
            let mut comment = comment_on_not_null(&table, &name, Some(text));
            comment.hold_back(
                HoldReason::Refused,
                "the server chooses the name of the constraint, which may be another one",
            );
            comment
        }
    });
    settings.chain(not_valid).chain(comment).collect()
}

fn comment_on_not_null(table: &str, name: &str, text: Option<&str>) -> FixStatement {
    let text = text.map_or_else(|| "null".into(), crate::ident::literal);
    run(Phase::Comments, format!("comment on constraint {} on {table} is {text}", quoted(name)))
}

/// Returns the object whose statement also changes a column: the parent's column, or the attribute of the table's type.
pub(super) fn above(key: &ObjectKey, given: &Catalogue, found: &Catalogue) -> Option<ObjectKey> {
    let of_type = |catalogue: &Catalogue| {
        let facts = catalogue.objects.get(&lineage::table_key(&key.parent))?;
        fact(facts, "of type").map(|name| name.trim_matches('"').to_owned())
    };
    let attribute = of_type(given).filter(|name| of_type(found).as_ref() == Some(name));
    let attribute = attribute.map(|parent| ObjectKey { parent, ..key.clone() });
    attribute.filter(|key| given.objects.contains_key(key)).or_else(|| lineage::followed(key, given, found))
}

/// Returns CASCADE if there are tables of a type: the statement changes them too.
fn cascade(of: &str, found: Option<&Catalogue>) -> &'static str {
    let is_of = |facts: &ObjectFacts| fact(facts, "of type").is_some_and(|name| name.trim_matches('"') == of);
    if found.is_some_and(|found| found.objects.values().any(is_of)) { " cascade" } else { "" }
}

/// Returns a column of a table that has a composite type, whose attributes then cannot get another type.
fn column_of_type<'c>(of: &str, found: &'c Catalogue) -> Option<&'c ObjectKey> {
    let has_it = |facts: &ObjectFacts| {
        let name = fact(facts, "type").unwrap_or_default();
        name.strip_suffix("[]").unwrap_or(name).trim_matches('"') == of
    };
    let mut columns = found.objects.iter().filter(|(key, _)| key.kind == "column" && !found.is_view(&key.parent));
    columns.find(|(_, facts)| has_it(facts)).map(|(key, _)| key)
}

/// Returns the statement for the default of a column of a new view, which CREATE VIEW does not set.
pub(super) fn view_default(key: &ObjectKey, given: &Catalogue) -> Option<FixStatement> {
    let default = fact(given.objects.get(key)?, "default")?;
    let sql = format!("alter table {} alter column {} set default {default}", own(&key.parent), quoted(&key.name));
    Some(run(Phase::Settings, sql))
}

fn setting(key: &ObjectKey, aspect: &str, given: &ObjectFacts, found: &ObjectFacts) -> Vec<FixStatement> {
    let wanted = fact(given, aspect);
    let clauses: Vec<String> = match aspect {
        "storage" => vec![format!("set storage {}", wanted.unwrap_or_else(|| usual_storage(given)))],
        "compression" => vec![format!("set compression {}", wanted.unwrap_or("default"))],
        "statistics target" => vec![format!("set statistics {}", wanted.unwrap_or("-1"))],
        "options" => option_clauses(wanted, fact(found, aspect)).collect(),
        _ => Vec::new(),
    };
    let column = format!("alter table {} alter column {}", own(&key.parent), quoted(&key.name));
    clauses.into_iter().map(|clause| run(Phase::Settings, format!("{column} {clause}"))).collect()
}

/// Returns the default storage of a type.
fn usual_storage(facts: &ObjectFacts) -> &'static str {
    match fact(facts, "type").unwrap_or_default() {
        array if array.ends_with("[]") => "extended",
        main if ["numeric", "inet", "cidr"].iter().any(|name| main.starts_with(name)) => "main",
        _ => "extended",
    }
}

/// Returns the statements for one aspect of a column that differs.
pub(super) fn aspect(key: &ObjectKey, aspect: &str, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    let (wanted, held) = (&given.objects[key], &found.objects[key]);
    let kind = given.kind_of(&key.parent).unwrap_or("table");
    let alter = |clause: String| {
        run(Phase::Columns, format!("alter table {} alter column {} {clause}", own(&key.parent), quoted(&key.name)))
    };
    match aspect {
        "type" | "collation" if kind == "type" => {
            let Some(of) = fact(wanted, "type") else { return Vec::new() };
            let name = quoted(&key.name);
            let (collation, cascade) = (collation(wanted), cascade(&key.parent, Some(found)));
            let sql = format!("alter type {} alter attribute {name} type {of}{collation}{cascade}", own(&key.parent));
            let mut change = run(Phase::Types, sql);
            if let Some(user) = column_of_type(&key.parent, found) {
                change
                    .hold_back(HoldReason::Refused, &format!("the column {}.{} has the type", user.parent, user.name));
            }
            vec![change]
        }
        // The line of the view contains it.
        "type" | "collation" | "not null" if given.is_view(&key.parent) => Vec::new(),
        "type" | "collation" => {
            if let Some(above) = above(key, given, found)
                && found.objects.get(&above).is_some_and(|facts| facts.get(aspect) == held.get(aspect))
            {
                return self::aspect(&above, aspect, given, found);
            }
            let Some(of) = fact(wanted, "type") else { return Vec::new() };
            let clause = format!("type {of}{} using {}::{of}", collation(wanted), quoted(&key.name));
            let mut change = alter(clause);
            if lineage::is_partitioned_by(key, found) {
                change.hold_back(HoldReason::Refused, "the table is partitioned by the column");
            }
            let same_type = fact(held, "type") == Some(of);
            let widens = fact(held, "type").is_some_and(|from| widens(from, of));
            if same_type || widens || of == "text" {
                vec![change]
            } else {
                vec![FixStatement { loses_data: true, ..change }.noting("values may be rounded, cut off or refused")]
            }
        }
        "not null constraint"
            if let Some(above) = above(key, given, found)
                && found.objects.get(&above).is_some_and(|facts| facts.get(aspect) == held.get(aspect)) =>
        {
            self::aspect(&above, aspect, given, found)
        }
        "not null" | "not null constraint" | "not null comment" => not_null(key, aspect, wanted, held),
        "default" => vec![match fact(wanted, "default") {
            Some(default) => alter(format!("set default {default}")),
            // An identity can be added only after that.
            None => FixStatement { phase: Phase::DropDependents, ..alter("drop default".into()) },
        }],
        "generated" => generated(key, wanted, given),
        // From PostgreSQL 17 on, a partition has the identity of its table, without a sequence of its own.
        "identity"
            if wanted.contains_key("identity")
                && lineage::is_partition(&key.parent, given)
                && given.sequence_of(&key.parent, &key.name).is_none() =>
        {
            match above(key, given, found) {
                Some(above) if lineage::is_linked(&key.parent, given, found) && found.objects.contains_key(&above) => {
                    self::aspect(&above, aspect, given, found)
                }
                _ => table::link(&key.parent, given, found),
            }
        }
        "identity" => identity(key, given, found, alter),
        "storage" | "compression" | "statistics target" | "options" => setting(key, aspect, wanted, held),
        _ => Vec::new(),
    }
}

/// Whether every value of the first type is also a value of the second, unchanged.
fn widens(from: &str, to: &str) -> bool {
    const INTEGERS: [&str; 4] = ["smallint", "integer", "bigint", "numeric"];
    let place = |name: &str| INTEGERS.iter().position(|integer| *integer == name);
    if let (Some(from), Some(to)) = (place(from), place(to)) {
        return from < to;
    }
    match (length(from), length(to)) {
        (Some(Some(from)), Some(to)) => to.is_none_or(|to| from < to),
        _ => (from, to) == ("real", "double precision"),
    }
}

/// Returns the length of a `character varying`; `None` for another type. A type without a length returns `Some(None)`.
fn length(name: &str) -> Option<Option<u32>> {
    let rest = name.strip_prefix("character varying")?;
    match rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(number) => number.parse().ok().map(Some),
        None => rest.is_empty().then_some(None),
    }
}

fn generated(key: &ObjectKey, wanted: &ObjectFacts, given: &Catalogue) -> Vec<FixStatement> {
    let (table, name) = (own(&key.parent), quoted(&key.name));
    if !wanted.contains_key("generated") {
        return vec![run(Phase::Columns, format!("alter table {table} alter column {name} drop expression"))];
    }
    let Some(definition) = definition(&key.parent, &key.name, given) else { return Vec::new() };
    let sql = format!("alter table {table} drop column {name}, add column {definition}");
    vec![lose(Phase::Columns, sql).noting("the column is recreated as the last one and computed for every row")]
}

fn identity(
    key: &ObjectKey,
    given: &Catalogue,
    found: &Catalogue,
    alter: impl Fn(String) -> FixStatement,
) -> Vec<FixStatement> {
    let (wanted, held) = (&given.objects[key], &found.objects[key]);
    let column = format!("{}.{}", key.parent, key.name);
    match (fact(wanted, "identity"), fact(held, "identity")) {
        (Some(identity), Some(_)) => vec![alter(format!("set generated {identity}"))],
        (Some(identity), None) => {
            let add = alter(format!("add generated {identity} as identity{}", identity_options(key, given)));
            let sequence = given.sequence_of(&key.parent, &key.name);
            let continued = sequence.and_then(|(name, facts)| sequence::continued(name, facts, &column, given));
            std::iter::once(add).chain(continued).collect()
        }
        (None, _) => {
            // A default can be set only after that. The sequence of the identity goes with it.
            let mut all = vec![FixStatement { phase: Phase::DropDependents, ..alter("drop identity".into()) }];
            if let Some((name, facts)) = given.sequence_of(&key.parent, &key.name)
                && found.sequence_of(&key.parent, &key.name).is_some_and(|(other, _)| other == name)
            {
                let key = ObjectKey { kind: "sequence".into(), parent: String::new(), name: name.into() };
                all.extend(sequence::create(&key, facts, given));
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::widens;

    #[test]
    fn only_types_that_hold_every_value_are_wider() {
        for (from, to) in [
            ("smallint", "integer"),
            ("integer", "bigint"),
            ("integer", "numeric"),
            ("real", "double precision"),
            ("character varying(10)", "character varying(20)"),
            ("character varying(10)", "character varying"),
        ] {
            assert!(widens(from, to), "{from} to {to}");
            assert!(!widens(to, from), "{to} to {from}");
        }
        for (from, to) in [
            ("bigint", "bigint"),
            ("bigint", "double precision"),
            ("integer", "numeric(5,2)"),
            ("character(5)", "character varying(9)"),
            ("character varying", "character varying"),
            ("timestamp without time zone", "timestamp with time zone"),
        ] {
            assert!(!widens(from, to), "{from} to {to}");
        }
    }
}
