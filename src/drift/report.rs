//! The result of a comparison.

use super::objects::ObjectKey;
use crate::{
    catalogue::OWNER_LACKS, config::IgnoreRule, ident::SchemaName, migrate::StartedMigration, migration::MigrationId,
    slug::TenantSlug, tenant::StrangeRow,
};
use std::fmt;

/// The result of [`verify`](super::verify()).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DriftReport {
    /// The shared schema, if it was selected.
    pub public: Option<SchemaDrift>,
    /// The selected tenants, sorted by slug.
    pub tenants: Vec<SchemaDrift>,
    /// Incorrect rights, memberships and settings of service logins and of PUBLIC, and missing triggers of the
    /// registry. They do not depend on the migrations, and are checked together with the shared schema.
    pub rights: Vec<Difference>,
    /// Schemas and roles that have the name of a tenant's and are not in the registry. They are checked only with
    /// [`Scope::Everything`](crate::migrate::Scope::Everything). They are reported and never changed.
    pub strays: Vec<Difference>,
    /// Rights and orphans that match a rule of [`Config::drift_ignore`](crate::Config::drift_ignore). They do not count
    /// as drift.
    pub ignored: Vec<IgnoredDifference>,
    /// The rows of the registry that are not valid tenants. They do not count as drift.
    pub strange: Vec<StrangeRow>,
    /// Rules without a match. Only filled with [`Scope::Everything`](crate::migrate::Scope::Everything).
    pub unused_rules: Vec<IgnoreRule>,
}

/// A known and intended difference.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IgnoredDifference {
    /// The difference.
    pub difference: Difference,
    /// The reason in the rule.
    pub reason: String,
}

impl DriftReport {
    /// Returns whether anything differs.
    pub fn has_drift(&self) -> bool {
        !self.strays.is_empty()
            || !self.rights.is_empty()
            || self.schemas().any(|schema| !schema.differences.is_empty())
    }

    /// Returns whether a schema was not compared because another run was migrating it.
    pub fn has_busy(&self) -> bool {
        self.schemas().any(|schema| schema.not_compared == Some(NotCompared::Busy))
    }

    /// Returns whether a schema was not compared because its expected objects are not recorded.
    pub fn lacks_reference(&self) -> bool {
        self.schemas().any(|schema| schema.not_compared == Some(NotCompared::NoReference))
    }

    /// Returns the shared schema and the tenants.
    pub fn schemas(&self) -> impl Iterator<Item = &SchemaDrift> {
        self.public.iter().chain(&self.tenants)
    }
}

/// The comparison of one schema with the objects of its migrations.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchemaDrift {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// The newest migration in its ledger. The schema is compared with the objects up to this migration.
    pub head: Option<MigrationId>,
    /// All differences; empty if there are none.
    pub differences: Vec<Difference>,
    /// Known and intended differences, which match a rule of [`Config::drift_ignore`](crate::Config::drift_ignore).
    pub ignored: Vec<IgnoredDifference>,
    /// Why its objects were not compared; `None` if they were.
    pub not_compared: Option<NotCompared>,
    /// The migration without a transaction that is partially applied. What its statements did is a difference until
    /// it is finished. Only read for a schema with differences.
    pub started: Option<StartedMigration>,
}

/// Why the objects of a schema were not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCompared {
    /// The tenant is registered, and its schema does not exist yet. This is not drift.
    SettingUp,
    /// This version does not know the tenant's status, and the tenant has no schema. This is not drift.
    UnknownStatus,
    /// Its drop has started, and its tables may be gone. This is not drift.
    BeingDropped,
    /// A run was migrating it for longer than `session.lock_timeout`. It can have drift.
    Busy,
    /// It has no readable ledger. The differences contain this.
    NoLedger,
    /// Some of its migrations have no file here. The differences contain them.
    UnknownMigrations,
    /// Its expected objects are not recorded, or were recorded by another server or database. It can have drift.
    /// [`rehearse`](crate::migrate::rehearse()) or the next run creates the record.
    NoReference,
}

impl fmt::Display for NotCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SettingUp => "it is being set up and has no schema yet",
            Self::UnknownStatus => "its status is not known to this version, and it has no schema",
            Self::BeingDropped => "it is being dropped",
            Self::Busy => "another run is migrating it",
            Self::NoLedger => "it has no ledger, so its migrations are unknown",
            Self::UnknownMigrations => "migrations were applied to it whose files are not here",
            Self::NoReference => "what its migrations make is not on record in this database",
        })
    }
}

impl SchemaDrift {
    /// Returns whether it was compared and has no differences.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.not_compared.is_none()
    }

    /// Whether it needs no complete schema: its status requires none, or it is being dropped.
    pub(crate) fn needs_no_schema(&self) -> bool {
        use NotCompared::{BeingDropped, SettingUp, UnknownStatus};
        matches!(self.not_compared, Some(SettingUp | UnknownStatus | BeingDropped))
    }
}

/// One object that differs from the migrations. `Display` writes it as one line:
/// `column orders.total: type is bigint, migrations give integer`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// Its kind: `table`, `column`, `index`, `constraint`, `trigger`, `policy`, `function`, `ledger`, `role`, …
    pub kind: String,
    /// Its name in the schema. A column or constraint is named with its table.
    pub object: String,
    /// What differs.
    pub change: Change,
    /// The statements that would remove the difference, for review. cgk never runs them. The list is empty if none are
    /// known. Created, changed and dropped objects are named with their schema. Definitions and expressions are texts
    /// of the server for a search path of that schema alone. [`SchemaDrift::fix_script`] sets that path and orders the
    /// statements.
    pub fix: Vec<FixStatement>,
    /// What in the files may have caused the difference without a manual change: the time or a random value. It is a
    /// likely cause, not a proof. For an object from no migration, the rights of others than the tenant's role, if there
    /// are any.
    pub note: Option<String>,
    /// Whether it is known to give rights to others than the tenant's role. For the rights of an object of the migrations,
    /// [`opens`](Difference::opens) looks at the change itself.
    pub(super) gives_rights: bool,
}

/// The order of the statements: objects that others need are created first, and dropped last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Roles,
    /// Renamed tables get their names back.
    Names,
    /// Triggers, rules, policies, views, constraints and indexes that are dropped or recreated.
    DropDependents,
    Types,
    Sequences,
    /// Functions that refer to no missing table.
    Functions,
    Tables,
    Columns,
    /// Functions that refer to a table.
    LateFunctions,
    Keys,
    Checks,
    Indexes,
    /// Before partitions are attached, so that those of a partition become parts of those of its table.
    ForeignKeys,
    Partitions,
    Views,
    Triggers,
    Settings,
    Owners,
    Grants,
    Comments,
    /// Unexpected tables, columns, functions, sequences and types.
    DropObjects,
}

/// One statement of a [`Difference::fix`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FixStatement {
    /// The statement, without a semicolon at its end.
    pub sql: String,
    /// Whether it deletes rows or an object that may be needed.
    pub loses_data: bool,
    /// What a person must know before running it.
    pub note: Option<String>,
    pub(super) phase: Phase,
    pub(super) hold: HoldReason,
    /// The object that exists after the statement.
    pub(super) makes: Option<ObjectKey>,
    /// The object that does not exist after the statement.
    pub(super) drops: Option<ObjectKey>,
    /// Its place in the script of its schema; 0 for statements about roles, which are first.
    pub(super) place: usize,
}

/// Why a script contains a statement as a comment although it loses no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldReason {
    No,
    /// The server refuses it as long as what its note describes is so.
    Refused,
    /// It is needed only together with a statement that loses data.
    OnlyWithLoss,
}

/// How an object differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The migrations create it, and it does not exist.
    Missing,
    /// It exists, and no migration creates it.
    Unexpected,
    /// It exists, and one aspect differs.
    Differs {
        /// The aspect: `type`, `default`, `definition`, `grants`, …
        aspect: String,
        /// The current value; `None` if there is none.
        found: Option<String>,
        /// The value of the migrations; `None` if there is none.
        given: Option<String>,
    },
    /// Any other problem.
    Wrong {
        /// The problem.
        what: String,
    },
}

impl Difference {
    pub(crate) fn new(kind: &str, object: impl Into<String>, change: Change) -> Self {
        Self { kind: kind.into(), object: object.into(), change, fix: Vec::new(), note: None, gives_rights: false }
    }

    /// Whether a role other than the tenant's has a right that no migration grants.
    pub(crate) fn grants_to_others(&self) -> bool {
        let Change::Differs { aspect, found: Some(found), given } = &self.change else { return false };
        let holders = |grants: &str| -> Vec<String> { grants.split("; ").map(ToOwned::to_owned).collect() };
        let given = given.as_deref().map_or_else(Vec::new, holders);
        aspect == "grants"
            && holders(found).iter().any(|held| {
                let who = held.split(": ").next().unwrap_or_default();
                !["the tenant's role", OWNER_LACKS].contains(&who) && !given.contains(held)
            })
    }

    /// Whether it gives rights to others than the tenant's role, or to another owner. A rule accepts it only by its name.
    pub(super) fn opens(&self) -> bool {
        let is_owner = matches!(&self.change, Change::Differs { aspect, found: Some(_), .. } if aspect == "owner");
        self.gives_rights || is_owner || self.grants_to_others()
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

/// How many characters of a value are shown in a line.
const SHOWN_MAX: usize = 100;

/// Shortens both values. Long or multi-line values are cut around the position where they differ.
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

    fn line_of(aspect: &str, found: Option<&str>, given: Option<&str>) -> String {
        let change =
            Change::Differs { aspect: aspect.into(), found: found.map(Into::into), given: given.map(Into::into) };
        Difference::new("column", "t.a", change).to_string()
    }

    #[test]
    fn a_line_says_what_is_and_what_should_be() {
        assert_eq!(
            line_of("type", Some("bigint"), Some("integer")),
            "column t.a: type is bigint, migrations give integer"
        );
        assert_eq!(line_of("default", None, Some("now()")), "column t.a: no default, migrations give now()");
        assert_eq!(
            line_of("grants", Some("bob: select"), None),
            "column t.a: grants are bob: select, migrations give none"
        );
    }

    #[test]
    fn long_values_are_shown_where_they_part() {
        let (a, b) = ("x ".repeat(200) + "end one", "x ".repeat(200) + "end two\nmore");
        let line = line_of("body", Some(&a), Some(&b));
        assert!(line.contains("one") && line.contains("two more") && !line.contains('\n'), "{line}");
        assert!(line.chars().count() < 300, "{line}");
        let exactly = |found: &str, given: &str, expected: (&str, &str)| {
            let (found, given) = shortened(Some(found), Some(given));
            assert_eq!((found.as_deref().unwrap(), given.as_deref().unwrap()), expected);
        };
        let (short, long) = ("a".repeat(SHOWN_MAX), "a".repeat(SHOWN_MAX + 1));
        exactly(&short, "b", (&short, "b"));
        // Different from the start: the start is shown. Of one that is not longer than what is shown, nothing is left out.
        let other = "b".repeat(SHOWN_MAX + 1);
        exactly(&long, &other, (&format!("{short}…"), &format!("{}…", "b".repeat(SHOWN_MAX))));
        exactly(
            &format!("{}\n{}", "a".repeat(50), "a".repeat(49)),
            "b",
            (&format!("{} {}", "a".repeat(50), "a".repeat(49)), "b"),
        );
        // A common start up to a third of it is shown, and a quarter of it of a longer one.
        let (third, more) = ("c".repeat(SHOWN_MAX / 3), "c".repeat(SHOWN_MAX / 3 + 1));
        exactly(
            &format!("{third}{long}"),
            &format!("{third}b"),
            (&format!("{third}{}…", "a".repeat(SHOWN_MAX - SHOWN_MAX / 3)), &format!("{third}b")),
        );
        let quarter = "c".repeat(SHOWN_MAX / 4);
        exactly(
            &format!("{more}{long}"),
            &format!("{more}b"),
            (&format!("…{quarter}{}…", "a".repeat(SHOWN_MAX - SHOWN_MAX / 4)), &format!("…{quarter}b")),
        );
    }
}
