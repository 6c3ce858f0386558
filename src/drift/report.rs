//! What a comparison found.

use crate::{config::IgnoreRule, ident::SchemaName, migration::MigrationId, slug::TenantSlug, tenant::StrangeRow};
use std::fmt;

/// What [`verify`](super::verify()) found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DriftReport {
    /// The shared schema, where it was asked for.
    pub public: Option<SchemaDrift>,
    /// The tenants that were asked for, by slug.
    pub tenants: Vec<SchemaDrift>,
    /// Rights, memberships and settings of the services' logins and of everyone that are wrong whatever the migrations give, and
    /// triggers that should guard the registry; looked for together with the shared schema.
    pub rights: Vec<Difference>,
    /// Schemas and roles that look like a tenant's and that no row of the registry names; looked for with
    /// [`Scope::Everything`](crate::migrate::Scope::Everything) only. They are reported and never touched.
    pub strays: Vec<Difference>,
    /// Rights and strays that a rule of [`Config::drift_ignore`](crate::Config::drift_ignore) is about. No drift.
    pub ignored: Vec<IgnoredDifference>,
    /// The rows of the registry that are no tenants. No drift.
    pub strange: Vec<StrangeRow>,
    /// Rules that were about nothing; only with [`Scope::Everything`](crate::migrate::Scope::Everything).
    pub unused_rules: Vec<IgnoreRule>,
}

/// A difference that is known and meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredDifference {
    /// The difference.
    pub difference: Difference,
    /// The reason that the rule gives.
    pub reason: String,
}

impl DriftReport {
    /// Whether anything differs.
    pub fn has_drift(&self) -> bool {
        !self.strays.is_empty()
            || !self.rights.is_empty()
            || self.schemas().any(|schema| !schema.differences.is_empty())
    }

    /// Whether a schema was not compared because another run was migrating it.
    pub fn has_busy(&self) -> bool {
        self.schemas().any(|schema| schema.not_compared == Some(NotCompared::Busy))
    }

    /// Whether a schema was not compared because what its migrations make is not on record.
    pub fn lacks_reference(&self) -> bool {
        self.schemas().any(|schema| schema.not_compared == Some(NotCompared::NoReference))
    }

    /// The shared schema and the tenants.
    pub fn schemas(&self) -> impl Iterator<Item = &SchemaDrift> {
        self.public.iter().chain(&self.tenants)
    }
}

/// One schema compared with what its migrations give.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchemaDrift {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// The newest migration in its ledger: what it is compared with.
    pub head: Option<MigrationId>,
    /// Everything that differs; empty where all is as the migrations give it.
    pub differences: Vec<Difference>,
    /// What differs and is known and meant: a rule of [`Config::drift_ignore`](crate::Config::drift_ignore) is about it.
    pub ignored: Vec<IgnoredDifference>,
    /// Why its objects were not compared, where they were not.
    pub not_compared: Option<NotCompared>,
}

/// Why the objects of a schema were not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCompared {
    /// The tenant is registered, and its schema is not made yet. No drift.
    SettingUp,
    /// Its status is one that this version does not know, and it has no schema. No drift.
    UnknownStatus,
    /// A run was migrating it for longer than `session.lock_timeout`. No drift, and no proof that there is none.
    Busy,
    /// It has no ledger that can be read; that is among the differences.
    NoLedger,
    /// Migrations were applied to it that have no file here; they are among the differences.
    UnknownMigrations,
    /// What its migrations make is not on record, or by another server or database. No drift, and no proof that there is
    /// none; [`rehearse`](crate::migrate::rehearse()) or the next run makes the record.
    NoReference,
}

impl fmt::Display for NotCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SettingUp => "it is being set up and has no schema yet",
            Self::UnknownStatus => "its status is not known to this version, and it has no schema",
            Self::Busy => "another run is migrating it",
            Self::NoLedger => "it has no ledger, so its migrations are unknown",
            Self::UnknownMigrations => "migrations were applied to it whose files are not here",
            Self::NoReference => "what its migrations make is not on record in this database",
        })
    }
}

impl SchemaDrift {
    /// Whether it was compared, and nothing differs.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.not_compared.is_none()
    }

    /// Whether it has no schema, and its status does not call for one.
    pub(crate) fn is_without_schema(&self) -> bool {
        matches!(self.not_compared, Some(NotCompared::SettingUp | NotCompared::UnknownStatus))
    }
}

/// One object that is not as the migrations give it. `Display` says it in one line:
/// `column orders.total: type is bigint, migrations give integer`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// What it is: `table`, `column`, `index`, `constraint`, `trigger`, `policy`, `function`, `ledger`, `role`, …
    pub kind: String,
    /// Its name in the schema; a column's or constraint's with its table.
    pub object: String,
    /// How it differs.
    pub change: Change,
    /// The statements that would take the difference away, to be read by a person; cgk never runs them. Empty where none are
    /// known. What they make, change or drop is named with its schema; definitions and expressions are as the server writes
    /// them for a search path of the schema alone. [`SchemaDrift::fix_script`] sets it and puts them in order.
    pub fix: Vec<FixStatement>,
    /// What in the files may have made the difference, where nobody need have: a clock or a random value. A likely cause, no proof.
    pub note: Option<String>,
}

/// When a statement is run: what others need comes first, what needs nothing any more is dropped last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Roles,
    /// Triggers, rules, policies, views, constraints and indexes that go or are made again.
    DropDependents,
    Types,
    Sequences,
    /// Functions that name no table that is missing.
    Functions,
    Tables,
    Columns,
    /// Functions that name a table.
    LateFunctions,
    Keys,
    Checks,
    Indexes,
    Partitions,
    ForeignKeys,
    Views,
    Triggers,
    Settings,
    Owners,
    Grants,
    Comments,
    /// Tables, columns, functions, sequences and types that no migration gives.
    DropObjects,
}

/// One statement of a [`Difference::fix`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FixStatement {
    /// The statement, without a semicolon at its end.
    pub sql: String,
    /// Whether rows or an object that may be wanted are lost by it.
    pub loses_data: bool,
    /// What to know before it is run.
    pub note: Option<String>,
    pub(super) phase: Phase,
}

/// How an object differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The migrations give it, and it is not there.
    Missing,
    /// It is there, and no migration gives it.
    Unexpected,
    /// It is there, and something about it is another.
    Differs {
        /// What about it: `type`, `default`, `definition`, `grants`, …
        aspect: String,
        /// What it is, where it is anything.
        found: Option<String>,
        /// What the migrations give, where they give anything.
        given: Option<String>,
    },
    /// Anything else, in words.
    Wrong {
        /// What.
        what: String,
    },
}

impl Difference {
    pub(crate) fn new(kind: &str, object: impl Into<String>, change: Change) -> Self {
        Self { kind: kind.into(), object: object.into(), change, fix: Vec::new(), note: None }
    }

    /// Whether somebody beside the tenant's role has a right that no migration gives.
    pub(crate) fn grants_to_others(&self) -> bool {
        let Change::Differs { aspect, found: Some(found), given } = &self.change else { return false };
        let holders = |grants: &str| -> Vec<String> { grants.split("; ").map(ToOwned::to_owned).collect() };
        let given = given.as_deref().map_or_else(Vec::new, holders);
        aspect == "grants"
            && holders(found).iter().any(|held| !held.starts_with("the tenant's role: ") && !given.contains(held))
    }

    pub(crate) fn wrong(kind: &str, object: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(kind, object, Change::Wrong { what: what.into() })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        match &self.change {
            Change::Missing => f.write_str(": missing"),
            Change::Unexpected => f.write_str(": not from any migration"),
            Change::Wrong { what } => write!(f, ": {what}"),
            Change::Differs { aspect, found, given } => {
                let verb = if aspect.ends_with('s') && !aspect.ends_with("ss") { "are" } else { "is" };
                let (found, given) = shortened(found.as_deref(), given.as_deref());
                match found {
                    Some(found) => write!(f, ": {aspect} {verb} {found}")?,
                    None => write!(f, ": no {aspect}")?,
                }
                write!(f, ", migrations give {}", given.as_deref().unwrap_or("none"))
            }
        }?;
        match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

/// How much of a value is shown in a line, in characters.
const SHOWN_MAX: usize = 100;

/// Both values; of long ones, and of those of several lines, the place where they part.
fn shortened(found: Option<&str>, given: Option<&str>) -> (Option<String>, Option<String>) {
    let long = |text: Option<&str>| text.is_some_and(|text| text.contains('\n') || text.chars().count() > SHOWN_MAX);
    if !long(found) && !long(given) {
        return (found.map(ToOwned::to_owned), given.map(ToOwned::to_owned));
    }
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (found, given) = (found.map(flat), given.map(flat));
    let pair = found.as_deref().unwrap_or_default().chars().zip(given.as_deref().unwrap_or_default().chars());
    let same = pair.take_while(|(a, b)| a == b).count();
    let from = if same > SHOWN_MAX / 3 { same - SHOWN_MAX / 4 } else { 0 };
    let cut = |text: String| {
        let length = text.chars().count();
        let part: String = text.chars().skip(from).take(SHOWN_MAX).collect();
        let (open, close) = (if from > 0 { "…" } else { "" }, if from + SHOWN_MAX < length { "…" } else { "" });
        format!("{open}{part}{close}")
    };
    (found.map(cut), given.map(cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(aspect: &str, found: Option<&str>, given: Option<&str>) -> String {
        let change =
            Change::Differs { aspect: aspect.into(), found: found.map(Into::into), given: given.map(Into::into) };
        Difference::new("column", "t.a", change).to_string()
    }

    #[test]
    fn a_line_says_what_is_and_what_should_be() {
        assert_eq!(
            told("type", Some("bigint"), Some("integer")),
            "column t.a: type is bigint, migrations give integer"
        );
        assert_eq!(told("default", None, Some("now()")), "column t.a: no default, migrations give now()");
        assert_eq!(
            told("grants", Some("bob: select"), None),
            "column t.a: grants are bob: select, migrations give none"
        );
    }

    #[test]
    fn long_values_are_shown_where_they_part() {
        let (a, b) = ("x ".repeat(200) + "end one", "x ".repeat(200) + "end two\nmore");
        let line = told("body", Some(&a), Some(&b));
        assert!(line.contains("one") && line.contains("two more") && !line.contains('\n'), "{line}");
        assert!(line.chars().count() < 300, "{line}");
    }
}
