//! Why a ledger was not read or written.

use crate::{tenant::OrganizationId, version::Version};

/// Why the ledger of a schema was not read or not changed
/// ([`MigrationError::LedgerRefused`](super::MigrationError::LedgerRefused)).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerProblem {
    /// The schema does not exist.
    #[error("there is no such schema")]
    NoSchema,
    /// The schema has no ledger.
    #[error("there is none")]
    NoLedger,
    /// According to its columns, the table belongs to another tool.
    #[error("its schema_migrations belongs to another tool{}, with the columns {}", .tool.map(|tool| format!(" ({tool})")).unwrap_or_default(), .columns.join(", "))]
    OfAnotherTool {
        /// The tool that uses such columns, if it is known.
        tool: Option<&'static str>,
        /// The columns of the table.
        columns: Vec<String>,
    },
    /// The table of another tool was expected, but this is a ledger of cgk.
    #[error("its schema_migrations is cgk's own ledger, not the table of another tool")]
    OfCgk,
    /// An object that is not a table has the ledger's name.
    #[error("its schema_migrations is a {kind}, and a ledger is a table")]
    NotATable {
        /// The kind of the object, such as `view`.
        kind: String,
    },
    /// The table has a column that no row of cgk can fill.
    #[error("column {column:?} of its schema_migrations is not null without a default, and cgk writes no value to it")]
    UnfilledColumn {
        /// The column.
        column: String,
    },
    /// The ledger is at another version than the requested one.
    #[error("it says {recorded} already, and not version {wanted}")]
    OtherVersion {
        /// The newest migration of the ledger, as text.
        recorded: String,
        /// The requested version.
        wanted: Version,
    },
    /// The comment on the schema contains an organization that is not a UUID.
    #[error("the comment on it names organization {id}, which is not a valid id")]
    InvalidOrganization {
        /// The text in the comment.
        id: String,
    },
    /// The comment on the schema contains the organization of another tenant.
    #[error("it belongs to organization {id}, which is tenant {} in the registry", .slug.escape_debug())]
    OfAnotherTenant {
        /// The organization.
        id: OrganizationId,
        /// The slug in the registry.
        slug: String,
    },
    /// The reason for a repair is empty.
    #[error("--reason is empty")]
    NoReason,
    /// The file of a row that is to be removed exists.
    #[error("{file} exists: without its ledger row it would be applied again")]
    FileExists {
        /// The file, as text.
        file: String,
    },
    /// A text is not the name of a table.
    #[error("{problem}")]
    InvalidTableName {
        /// The problem.
        problem: String,
    },
    /// The schema has no table with the given name of another tool's table.
    #[error("it has no table {table}")]
    NoTable {
        /// The name.
        table: String,
    },
    /// The other tool's table has no column with versions.
    #[error("its table {table} has no column version, but {}; say --version instead", .columns.join(", "))]
    NoVersionColumn {
        /// The table.
        table: String,
        /// Its columns.
        columns: Vec<String>,
    },
    /// The other tool's table contains a version that is not a number of a file.
    #[error("its table {table} has a version {version:?}, which no file can have")]
    InvalidVersion {
        /// The table.
        table: String,
        /// The version.
        version: String,
    },
    /// The other tool has recorded that versions failed.
    #[error("its table {table} says that version {} did not succeed", .versions.join(", "))]
    FailedVersions {
        /// The table.
        table: String,
        /// The versions.
        versions: Vec<String>,
    },
    /// The other tool's table is at another version than the requested one.
    #[error("its table {table} says {}, and not version {wanted}", .recorded.map_or_else(|| "nothing".into(), |recorded| recorded.to_string()))]
    OtherVersionInTable {
        /// The table.
        table: String,
        /// The newest version of the table.
        recorded: Option<Version>,
        /// The requested version.
        wanted: Version,
    },
    /// Versions of the other tool's table have no file, or files up to its newest version have no row.
    #[error("its table {table} and the files of the set do not have the same versions: {}", .versions.join(", "))]
    DifferentVersions {
        /// The table.
        table: String,
        /// The versions that only one of the two contains.
        versions: Vec<String>,
    },
}
