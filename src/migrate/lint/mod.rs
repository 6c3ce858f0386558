//! Checks migration files without a server: errors, which prevent a run, and warnings.
//!
//! There are two severities. An error would break a guarantee although the run seems to succeed, so no run starts while
//! there is one. A warning is a statement that locks, loses data or has surprising effects. It does not stop a run.
//! There are three ways to accept an intended warning:
//!
//! - a comment `-- cgk:accept <lint> <reason>` in the lines before the statement
//! - the same comment at the top of the file, followed by an empty line, for the complete file
//! - for files that were applied and must not be edited, a line of `accepted.txt` beside the folders of the two sets
//!
//! An error can be accepted only in `accepted.txt`, and only if the file can still be executed and recorded completely
//! ([`Lint::is_acceptable`]). The exception is `rollback-section`, a guess about a comment, which can be accepted in
//! the file as well.

mod accept;
mod body;
mod client;
mod created;
mod danger;
mod known;
mod namespace;
mod protected;
mod session;
mod shared;
mod temporary;
mod unit;
mod wide;

use super::files::{directory::read_directory, file::MigrationFile, source::Source};
use crate::{
    error::Result,
    migration::{FileProblem, Set, line_of},
};
use created::CreatedObjects;
use known::Known;
use std::{
    fmt,
    path::{Path, PathBuf},
};

pub(crate) use accept::{ACCEPTED_FILE, AcceptedLints};
pub(crate) use created::relations;

/// A problem in a statement: its position, its rule and the reason.
type LintFault = (usize, Lint, String);

/// Whether a finding prevents a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// No run starts while there is one.
    Error,
    /// For information. It does not stop a run.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

macro_rules! lints {
    ($($variant:ident $name:literal $severity:ident $advice:literal)*) => {
        /// A rule for migration files. Its name is stable, because acceptances refer to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Lint {
            $(#[doc = concat!("`", $name, "`: ", $advice)] $variant,)*
        }

        impl Lint {
            /// All rules.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the rule's name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Returns whether it prevents a run.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }

            /// Returns what to do instead, as a sentence.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }
        }
    };
}

lints! {
    File "file" Error "Correct the file as the reason says."
    TransactionControl "transaction-control" Error "Remove BEGIN and COMMIT: cgk opens and ends the transaction."
    OutsideTransaction "outside-transaction" Error "Move it to a file of its own that begins with `-- cgk:no-transaction`."
    BeyondTheSchema "beyond-the-schema" Error "Run it by hand: it does not concern one schema."
    SearchPath "search-path" Error "Remove it: cgk sets the role and the search path for each schema."
    OtherTenant "other-tenant" Error "Remove the name of the schema."
    ClientCommand "client-command" Error "Write SQL that the server executes itself."
    RelationInBothSets "relation-in-both-sets" Error "Rename one of the two."
    Marker "marker" Error "Move `-- cgk:no-transaction` to the first line of the file."
    UnnamedIndex "unnamed-index" Error "Name the index, so that cgk finds it again if it becomes invalid."
    Directive "directive" Error "Reword the line or remove it."
    ExtensionInTenant "extension-in-tenant" Error "Move it to a file of the shared set: an extension exists once in a database."
    RollbackSection "rollback-section" Error "Move the rollback to a file 001_x.down.sql; reword or accept a comment that is no heading."
    ProtectedName "protected-name" Error "Do not change cgk's own tables; rename yours."
    ProtectedMention "protected-mention" Error "Do not use cgk's own tables; rename yours."
    SessionStrings "session-strings" Error "Write E'…' for strings with backslashes."
    UnseenCharacter "unseen-character" Error "Delete the invisible character."
    SetLocal "set-local" Error "Write SET without LOCAL: it lasts until the end of the file."

    Accept "accept" Warning "Write `-- cgk:accept <lint> <reason>` before the statement that it accepts."
    RewritesTable "rewrites-table" Warning "Add a new column, fill it in batches, then use it instead."
    ConstraintNotValid "constraint-not-valid" Warning "Add it NOT VALID, and VALIDATE CONSTRAINT in a later file."
    SetNotNull "set-not-null" Warning "First add and validate a check (column is not null); then it needs no scan."
    RequiredColumn "required-column" Warning "Give it a default, or add it without NOT NULL first."
    IndexNotConcurrent "index-not-concurrent" Warning "Use CONCURRENTLY, in a file with `-- cgk:no-transaction` on its first line."
    ConstraintBuildsIndex "constraint-builds-index" Warning "Build a unique index CONCURRENTLY first, then ADD CONSTRAINT … USING INDEX."
    ForeignKeyToPublic "foreign-key-to-public" Warning "Store the id without a foreign key."
    TypePerTenant "type-per-tenant" Warning "Use text with a check, or create the type in the shared schema."
    DropsData "drops-data" Warning "Stop using it in one release, and drop it in a later one."
    Renames "renames" Warning "Add the new name beside the old one, and drop the old one in a later release."
    SessionSetting "session-setting" Warning "Use SET LOCAL; either ends with the file."
    IfNotExists "if-not-exists" Warning "Remove IF NOT EXISTS: an object with this name can be a different one."
    LocksTable "locks-table" Warning "Remove it: each statement takes the lock that it needs."
    SchemaQualified "schema-qualified" Warning "Remove the name of the schema: the file runs in each schema of its set."
    DatabaseWide "database-wide" Warning "Run it once, by hand or in the shared set: it does not concern one schema."
    PredefinedRole "predefined-role" Warning "Grant rights on single objects: such a role can read every tenant."
    GrantToPublic "grant-to-public" Warning "Name the roles that need it: PUBLIC is every tenant's role and every login."
    TemporaryName "temporary-name" Warning "Give the temporary relation another name: it does not hide the other one."
    ChangesShared "changes-shared" Warning "Move it to a file of the shared set, or limit it to the tenant's rows: it applies to all tenants."
    SharedParent "shared-parent" Warning "Give each tenant its own table: everybody who reads the parent reads the rows of its children."
    UnsetSearchPath "unset-search-path" Warning "Add `set search_path from current` to the function: a restore calls it with another path."
    LooksInEverySchema "looks-in-every-schema" Warning "Compare the schema with current_schema() as well."
    LostWithTheSession "lost-with-the-session" Warning "Use an object of the schema: a run that continues the file has a new session."
    WritesEveryRow "writes-every-row" Warning "Write in batches, in a file with `-- cgk:no-transaction` on its first line."
}

impl Lint {
    /// Returns whether a line of `accepted.txt` can accept it. That is possible for every warning, and for errors after
    /// which a file can still be executed in its schema, in its transaction, and be recorded.
    pub fn is_acceptable(self) -> bool {
        match self {
            Self::Accept
            | Self::File
            | Self::TransactionControl
            | Self::SearchPath
            | Self::ClientCommand
            | Self::UnnamedIndex
            | Self::ProtectedName => false,
            Self::OutsideTransaction
            | Self::BeyondTheSchema
            | Self::OtherTenant
            | Self::RelationInBothSets
            | Self::Marker
            | Self::Directive
            | Self::ExtensionInTenant
            | Self::RollbackSection
            | Self::ProtectedMention
            | Self::SessionStrings
            | Self::UnseenCharacter
            | Self::SetLocal => true,
            _ => self.severity() == Severity::Warning,
        }
    }

    /// Whether a comment in the file can accept it: every warning, and the one error that is a guess about a comment.
    pub(super) fn is_acceptable_in_file(self) -> bool {
        self == Self::RollbackSection || self.severity() == Severity::Warning
    }

    /// Returns the rule with this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|lint| lint.name() == name)
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A problem of a migration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// The file, or the folder if the finding concerns the whole set.
    pub file: PathBuf,
    /// The line, counted from 1; `None` if it is not known.
    pub line: Option<usize>,
    /// The rule.
    pub lint: Lint,
    /// The problem, as one lower-case line. The advice is [`Lint::advice`].
    pub reason: String,
}

impl Finding {
    fn at(file: &MigrationFile, offset: usize, lint: Lint, reason: impl Into<String>) -> Self {
        Self { file: file.path().to_owned(), line: Some(line_of(file.sql(), offset)), lint, reason: reason.into() }
    }

    /// Returns whether it prevents a run.
    pub fn severity(&self) -> Severity {
        self.lint.severity()
    }

    /// Returns what to do about it; `None` if the reason says this, as the reasons of [`Lint::File`] do.
    pub fn advice(&self) -> Option<&'static str> {
        match self.lint {
            Lint::File => None,
            Lint::Accept if self.file.ends_with(ACCEPTED_FILE) => Some(
                "Remove the line if nothing needs it, or correct it: a file, a warning and a reason, as in \
                 `tenant/008_vip.sql drops-data the column was empty`.",
            ),
            lint => Some(lint.advice()),
        }
    }
}

impl From<Finding> for FileProblem {
    fn from(finding: Finding) -> Self {
        Self { file: finding.file, line: finding.line, problem: finding.reason }
    }
}

/// Returns the errors of both sets that `accepted.txt` does not accept.
pub(super) fn errors(public: &Source, tenant: &Source, accepted: &mut AcceptedLints) -> Vec<Finding> {
    let of_file = |file: &MigrationFile| {
        unit::file(file).into_iter().chain(accept::not_accepted(file, unit::rollback_sections(file)))
    };
    let of_files = |source: &Source| source.files().iter().flat_map(of_file).collect::<Vec<_>>();
    let mut found = of_files(public);
    found.extend(of_files(tenant));
    found.extend(unit::across(public, tenant));
    let files = || {
        public
            .files()
            .iter()
            .map(|file| (Set::Public, file))
            .chain(tenant.files().iter().map(|file| (Set::Tenant, file)))
    };
    found.retain(|finding| {
        let file = files().find(|(_, file)| file.path() == finding.file);
        !file.is_some_and(|(set, file)| accepted.takes(set, file, finding.lint))
    });
    found
}

/// Returns all findings for a directory of migrations, sorted by file, with errors first in each file. Needs no
/// database.
///
/// # Errors
///
/// [`MigrationError::Unreadable`](crate::MigrationError::Unreadable) if a folder or file cannot be read. A problem in
/// the files is not an error here but a finding.
pub fn lint_directory(directory: impl AsRef<Path>) -> Result<Vec<Finding>> {
    let directory = directory.as_ref();
    let read = read_directory(directory)?;
    let mut findings: Vec<Finding> = read
        .unreadable
        .into_iter()
        .map(|problem| Finding { file: problem.file, line: problem.line, lint: Lint::File, reason: problem.problem })
        .collect();
    let mut accepted = AcceptedLints::read(directory)?;
    findings.extend(errors(&read.public, &read.tenant, &mut accepted));
    findings.extend(warnings(&read.public, &read.tenant, accepted));
    findings.sort_by(|a, b| (&a.file, a.line, a.severity(), a.lint).cmp(&(&b.file, b.line, b.severity(), b.lint)));
    findings.dedup();
    Ok(findings)
}

/// Returns the warnings about files that contain no errors except accepted ones.
pub(super) fn warnings_alone(public: &Source, tenant: &Source, mut accepted: AcceptedLints) -> Vec<Finding> {
    errors(public, tenant, &mut accepted);
    warnings(public, tenant, accepted)
}

/// Returns the warnings that are not accepted, and the problems of acceptances that no error has used.
fn warnings(public: &Source, tenant: &Source, mut unused: AcceptedLints) -> Vec<Finding> {
    let shared = CreatedObjects::of(public);
    let mut findings = Vec::new();
    for source in [public, tenant] {
        let mut known = Known::of(source.set(), &shared);
        for file in source.files() {
            let mut found = danger::file(file, &mut known);
            // It is an error, so it is already reported. Here only its comment is needed.
            found.extend(unit::rollback_sections(file));
            let left = accept::sort_out(file, source.set(), found, &mut unused);
            findings.extend(left.into_iter().filter(|finding| finding.severity() == Severity::Warning));
        }
    }
    findings.extend(unused.left_over());
    findings
}

#[cfg(test)]
mod tests {
    use super::super::files::file::FileText;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_found_again() {
        let names: BTreeSet<&str> = Lint::ALL.iter().map(|lint| lint.name()).collect();
        assert_eq!(names.len(), Lint::ALL.len());
        for lint in Lint::ALL {
            assert_eq!(Lint::of_name(lint.name()), Some(*lint));
            assert!(lint.advice().ends_with('.'), "{lint}");
        }
    }

    #[test]
    fn every_problem_of_a_text_is_found() {
        let files = [("001_a.sql", "create table a ()"), ("005_z.sql", "create table z ();\ncommit;")];
        let texts = files.map(|(name, text)| FileText::of(name.into(), text));
        let (source, problems) = Source::parse(Set::Tenant, texts.into());
        assert_eq!(problems, []);
        let (none, _) = Source::parse(Set::Public, Vec::new());
        let problems = errors(&none, &source, &mut AcceptedLints::default());
        let problems: Vec<_> = problems.into_iter().map(|finding| FileProblem::from(finding).to_string()).collect();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with("005_z.sql:2: "), "{}", problems[0]);
    }

    #[test]
    fn the_bundled_files_need_no_excuse() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        assert_eq!(lint_directory(root).unwrap(), []);
    }
}
