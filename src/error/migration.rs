//! Migration files, what they do to schemas, and the ledgers that record it.

use super::{DriverError, Error, ErrorKind, MigrationFailure};
use crate::{
    ident::SchemaName,
    migration::{Divergence, FileMismatch, FileProblem, MigrationId, Set, count},
    slug::TenantSlug,
};
use std::{path::PathBuf, time::Duration};

/// Why migrations were not read, planned or applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// The migrations directory cannot be read.
    #[error("could not read the migrations in {path:?}: {problem}")]
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What the operating system said.
        source: Option<std::io::Error>,
    },
    /// Migration files that cannot be used; the database was not touched.
    #[error("{} in the migrations, the first: {}", count(.problems.len(), "problem"), .problems.first().map(ToString::to_string).unwrap_or_default())]
    Invalid {
        /// Each of them.
        problems: Vec<FileProblem>,
    },
    /// The server refused a migration; the schema is as it was, but for what the failure says of files without a transaction.
    #[error(transparent)]
    Failed(Box<MigrationFailure>),
    /// What a schema's ledger says and what the files say do not agree.
    #[error(transparent)]
    Diverged(Box<Divergence>),
    /// The set of files is not the one that the fleet has: older, another one, or edited since. No schema was touched.
    #[error("the {set} migrations are not those of this database: {}", .mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    WrongFiles {
        /// Which of the two sets.
        set: Set,
        /// Each file in which it differs.
        mismatches: Vec<FileMismatch>,
    },
    /// A version was named of which there is no file.
    #[error("the {set} set has no file with version {version}")]
    NoSuchVersion {
        /// Which of the two sets.
        set: Set,
        /// The version.
        version: crate::version::Version,
    },
    /// A canary is not one of the tenants that are to be migrated: without it all others would go first.
    #[error("canary {tenant} is not one of the tenants of this run")]
    CanaryLeftOut {
        /// The tenant.
        tenant: TenantSlug,
    },
    /// Another run holds the lock of this schema.
    #[error("schema {schema:?} is locked by another run: waited {waited:?}", schema = schema.as_str())]
    Locked {
        /// The schema.
        schema: SchemaName,
        /// How long was waited.
        waited: Duration,
    },
    /// Another run changed the schema again and again between this run's look and its turn.
    #[error("schema {schema:?} was changed by others during {tries} attempts", schema = schema.as_str())]
    Contended {
        /// The schema.
        schema: SchemaName,
        /// How often it was tried.
        tries: u32,
    },
    /// All or nothing was asked for, and one transaction cannot hold that many locks. Nothing was changed.
    #[error("the transaction would need about {needed} locks, and the server's lock table has room for {size}")]
    TooManyLocks {
        /// How many entries of the lock table it would need, by what the first tenant took.
        needed: u64,
        /// How many the server has for all its sessions together.
        size: u64,
    },
    /// A plan was to be carried out as it is, and a schema is no longer as the plan took it to be. It was not changed.
    #[error("schema {schema:?} has changed since the plan was made", schema = schema.as_str())]
    PlanStale {
        /// The schema.
        schema: SchemaName,
    },
    /// A migration without a transaction is half done, and its file is not the one that was begun.
    #[error("migration {migration} is partially applied in schema {schema:?}: {problem}", schema = schema.as_str())]
    PartiallyApplied {
        /// The schema.
        schema: SchemaName,
        /// The migration that was begun.
        migration: MigrationId,
        /// How its file differs from what was begun.
        problem: String,
    },
    /// A migration cannot run in the empty schema in which what the migrations give is looked at; nothing was changed.
    #[error("could not compute the expected schema: {file:?} fails in an empty schema")]
    NoReference {
        /// The file.
        file: PathBuf,
        /// What the server said.
        source: DriverError,
    },
    /// The rehearsal failed: a new tenant could not be made from these files. No tenant was touched.
    #[error("the migrations cannot create a new tenant")]
    Rehearsal {
        /// Which file failed in the schema of the rehearsal, and why.
        source: Box<Error>,
    },
    /// A set applies file by file only, and a file does something outside its schema that a rehearsal could not take back.
    #[error("{file:?} cannot be rehearsed: it writes outside its schema or creates an extension in it")]
    NotRehearsable {
        /// The file.
        file: PathBuf,
    },
    /// A ledger was not written, because what was asked for would have made it say something untrue.
    #[error("the ledger of schema {schema:?} was not changed: {why}", schema = schema.as_str())]
    LedgerRefused {
        /// The schema.
        schema: SchemaName,
        /// Why.
        why: String,
    },
    /// A row that cgk wrote is not in its table as it was written, or the table refused it. The transaction was rolled back.
    #[error(
        "{table} does not hold what cgk wrote to it: a trigger, a rule or a constraint on that table is the likely cause"
    )]
    RowNotWritten {
        /// The table with its schema, quoted as in SQL.
        table: String,
        /// What the server said, where it refused the row.
        source: Option<DriverError>,
    },
    /// A schema was not adopted, because it is not what the migrations give; nothing was written.
    #[error("schema {schema:?} differs from the migrations up to {upto}: {}", count(.differences.len(), "difference"), schema = schema.as_str())]
    BaselineDiffers {
        /// The schema.
        schema: SchemaName,
        /// The newest migration that it was to be taken for.
        upto: String,
        /// Each difference in a line.
        differences: Vec<String>,
    },
}

impl MigrationError {
    /// Code and kind of every variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::Unreadable { .. } => ("CGK0601", Invalid),
            Self::Invalid { .. } => ("CGK0602", Invalid),
            Self::Failed(_) => ("CGK0603", Failed),
            Self::Diverged(_) => ("CGK0604", Drift),
            Self::WrongFiles { .. } => ("CGK0610", Drift),
            Self::NoSuchVersion { .. } => ("CGK0611", Invalid),
            Self::CanaryLeftOut { .. } => ("CGK0612", Invalid),
            Self::Locked { .. } => ("CGK0605", Locked),
            Self::Contended { .. } => ("CGK0606", Locked),
            Self::TooManyLocks { .. } => ("CGK0607", Refused),
            Self::PlanStale { .. } => ("CGK0608", Refused),
            Self::PartiallyApplied { .. } => ("CGK0609", Drift),
            Self::NoReference { .. } => ("CGK0621", Failed),
            Self::Rehearsal { .. } => ("CGK0624", Failed),
            Self::NotRehearsable { .. } => ("CGK0625", Refused),
            Self::LedgerRefused { .. } => ("CGK0622", Conflict),
            Self::RowNotWritten { .. } => ("CGK0626", Conflict),
            Self::BaselineDiffers { .. } => ("CGK0623", Drift),
        }
    }

    /// What the driver said.
    pub(super) fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::NoReference { source, .. } => Some(source),
            Self::RowNotWritten { source, .. } => source.as_ref(),
            Self::Failed(failure) => Some(&failure.source),
            Self::Rehearsal { source } => source.driver(),
            _ => None,
        }
    }
}
