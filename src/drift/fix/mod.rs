//! Computes the statements that would remove a difference, from the expected and the found objects. Runs no queries.
//! The statements are for review; cgk does not run them.
//!
//! The name of a created, changed or dropped object includes its schema. Definitions and expressions are texts of the
//! server, written for a search path of that schema alone, which the script of [`script`] sets.

mod alter;
mod column;
mod create;
mod displaced;
mod function;
mod grants;
mod held_back;
mod index;
mod lineage;
mod order;
mod remove;
mod script;
mod sequence;
mod table;
mod taken;
mod trimmings;
mod words;

use super::{
    objects::{Catalogue, ObjectFacts, ObjectKey},
    report::{Change, Difference, FixStatement, HoldReason, Phase},
};
use crate::ident::{Ident, RoleName, SchemaName, quoted};

/// Placeholders in statements for the quoted names of the schema, its tenant's role and its owner, because tenants with
/// the same differences share the comparison. They are private characters, which do not occur in names that the server
/// quotes.
const SCHEMA: &str = "\u{f8f0}";
const ROLE: &str = "\u{f8f1}";
const OWNER: &str = "\u{f8f2}";

/// Returns the statements for one difference; empty if none are known.
pub(super) fn statements(key: &ObjectKey, change: &Change, given: &Catalogue, found: &Catalogue) -> Vec<FixStatement> {
    match change {
        Change::Missing => match taken::rename_back(key, given, found) {
            Some(rename) => vec![rename],
            None => {
                let mut statements = create::missing(key, given, found);
                taken::mark(key, given, found, &mut statements);
                statements
            }
        },
        Change::Unexpected => match taken::renamed_from(key, given, found) {
            Some(rename) => vec![rename],
            None => remove::object(key, given, found),
        },
        Change::Differs { aspect, .. } => alter::aspect(key, aspect, given, found),
        Change::Wrong { .. } => Vec::new(),
    }
}

/// The statements of a difference, with the key of its object.
type Fixes<'k> = (&'k ObjectKey, Vec<FixStatement>);

/// Completes the statements for all differences of a schema: what has to be dropped and created again around them, which
/// of them the server would refuse, and their order.
pub(super) fn complete(fixes: &mut [Fixes<'_>], given: &Catalogue, found: &Catalogue) {
    if fixes.iter().all(|(_, statements)| statements.is_empty()) {
        return;
    }
    displaced::add(fixes, given, found);
    held_back::mark(fixes, given, found);
    displaced::drop_once(fixes);
    order::set_places(fixes, given, found);
}

/// Inserts the names of a schema into the statements of its differences.
pub(super) fn fill(
    differences: &mut [Difference],
    schema: &SchemaName,
    role: Option<&RoleName>,
    owner: Option<&Ident>,
) {
    for difference in differences {
        difference
            .fix
            .retain(|fix| (role.is_some() || !fix.sql.contains(ROLE)) && (owner.is_some() || !fix.sql.contains(OWNER)));
        for fix in &mut difference.fix {
            for (mark, name) in
                [(SCHEMA, Some(schema.quoted())), (ROLE, role.map(RoleName::quoted)), (OWNER, owner.map(Ident::quoted))]
            {
                if let Some(name) = name.filter(|_| fix.sql.contains(mark)) {
                    fix.sql = fix.sql.replace(mark, &name);
                }
            }
        }
    }
}

fn run(phase: Phase, sql: impl Into<String>) -> FixStatement {
    FixStatement {
        sql: sql.into(),
        loses_data: false,
        note: None,
        phase,
        hold: HoldReason::No,
        makes: None,
        drops: None,
        place: 0,
    }
}

/// Returns a statement that deletes rows, or an object that may be needed.
fn lose(phase: Phase, sql: impl Into<String>) -> FixStatement {
    FixStatement { loses_data: true, ..run(phase, sql) }
}

impl FixStatement {
    pub(super) fn about_role(sql: String) -> Self {
        run(Phase::Roles, sql)
    }

    fn noting(mut self, note: &str) -> Self {
        self.note = Some(note.to_owned());
        self
    }

    fn making(mut self, key: &ObjectKey) -> Self {
        self.makes = Some(key.clone());
        self
    }

    fn dropping(mut self, key: &ObjectKey) -> Self {
        self.drops = Some(key.clone());
        self
    }

    /// Keeps the statement as a comment, with the reason before its other notes.
    fn hold_back(&mut self, hold: HoldReason, reason: &str) {
        self.hold = hold;
        self.note = Some(self.note.take().map_or_else(|| reason.to_owned(), |other| format!("{reason}; {other}")));
    }
}

/// Returns the quoted name of an object with its schema.
fn own(name: &str) -> String {
    format!("{SCHEMA}.{}", quoted(name))
}

fn fact<'a>(facts: &'a ObjectFacts, aspect: &str) -> Option<&'a str> {
    facts.get(aspect).map(String::as_str)
}

/// Returns `set (…)` for the expected options, and `reset (…)` for those that are set and not expected.
fn option_clauses(wanted: Option<&str>, held: Option<&str>) -> impl Iterator<Item = String> {
    let names = |list: Option<&str>| -> Vec<String> {
        let options = list.unwrap_or_default().split(", ").filter(|option| !option.is_empty());
        options.filter_map(|option| option.split('=').next()).map(ToOwned::to_owned).collect()
    };
    let (kept, mut reset) = (names(wanted), names(held));
    reset.retain(|name| !kept.contains(name));
    let reset = (!reset.is_empty()).then(|| format!("reset ({})", reset.join(", ")));
    wanted.map(|options| format!("set ({options})")).into_iter().chain(reset)
}

/// Returns the statement that the server has as the definition of an object.
fn definition(phase: Phase, facts: &ObjectFacts) -> Option<FixStatement> {
    Some(run(phase, fact(facts, "definition")?.trim_end().trim_end_matches(';')))
}

/// Returns the kind and name of an object for COMMENT ON, GRANT and OWNER TO.
fn address(key: &ObjectKey) -> Option<(&'static str, String)> {
    let kind = match key.kind.as_str() {
        "table" => "table",
        "foreign table" => "foreign table",
        "view" => "view",
        "materialized view" => "materialized view",
        "sequence" => "sequence",
        "type" => "type",
        "domain" => "domain",
        "index" => "index",
        "statistics" => "statistics",
        "collation" => "collation",
        "conversion" => "conversion",
        "text search configuration" => "text search configuration",
        "text search dictionary" => "text search dictionary",
        "function" | "procedure" | "aggregate" => {
            let kind = match key.kind.as_str() {
                "function" => "function",
                "procedure" => "procedure",
                _ => "aggregate",
            };
            return Some((kind, function::name(key)?));
        }
        _ => return None,
    };
    Some((kind, own(&key.name)))
}
