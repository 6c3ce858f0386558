//! Errors of migration files, of their execution in schemas, and of the ledgers.

use super::{DriverError, Error, ErrorKind, LedgerProblem, MigrationFailure};
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
        /// The problem.
        problem: String,
        /// The operating system's error.
        source: Option<std::io::Error>,
    },
    /// Migration files are not valid. Nothing was sent to the database.
    #[error("{} in the migrations, the first: {}", count(.problems.len(), "problem"), .problems.first().map(ToString::to_string).unwrap_or_default())]
    Invalid {
        /// All problems.
        problems: Vec<FileProblem>,
    },
    /// The server refused a migration. The schema is unchanged, except for what [`MigrationFailure`] reports about
    /// files without a transaction.
    #[error(transparent)]
    Failed(Box<MigrationFailure>),
    /// A schema's ledger and the files differ.
    #[error(transparent)]
    Diverged(Box<Divergence>),
    /// The files differ from those of this database: they are older, different, or were edited. No schema was changed.
    #[error("the {set} migrations are not those of this database: {}", .mismatches.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    WrongFiles {
        /// The set, one of the two.
        set: Set,
        /// Each file that differs.
        mismatches: Vec<FileMismatch>,
    },
    /// A version was named, but no file has it.
    #[error("the {set} set has no file with version {version}")]
    NoSuchVersion {
        /// The set, one of the two.
        set: Set,
        /// The version.
        version: crate::version::Version,
    },
    /// A canary is not one of the tenants of the run. Without the canary, all other tenants would be migrated first.
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
        /// How long the run waited.
        waited: Duration,
    },
    /// Other runs changed the schema repeatedly between this run's check and its migration.
    #[error("schema {schema:?} was changed by others during {tries} attempts", schema = schema.as_str())]
    Contended {
        /// The schema.
        schema: SchemaName,
        /// The number of attempts of this run.
        tries: u32,
    },
    /// All-or-nothing was requested, and one transaction cannot hold that many locks. Nothing was changed.
    #[error("the transaction would need about {needed} locks, and the server's lock table has room for {size}")]
    TooManyLocks {
        /// How many entries of the lock table the transaction would need, estimated from the first tenant.
        needed: u64,
        /// How many entries the server has for all its sessions together.
        size: u64,
    },
    /// A saved plan no longer matches a schema. The schema was not changed.
    #[error("schema {schema:?} has changed since the plan was made", schema = schema.as_str())]
    PlanStale {
        /// The schema.
        schema: SchemaName,
    },
    /// A migration without a transaction is partially applied, and its file was changed after its start.
    #[error("migration {migration} is partially applied in schema {schema:?}: {problem}", schema = schema.as_str())]
    PartiallyApplied {
        /// The schema.
        schema: SchemaName,
        /// The migration that was started.
        migration: MigrationId,
        /// How its file differs from the one that was started.
        problem: String,
    },
    /// A migration does not run in the empty schema that is used to compute the expected objects. Nothing was changed.
    #[error("could not compute the expected schema: {file:?} fails in an empty schema")]
    NoReference {
        /// The file.
        file: PathBuf,
        /// The server's error.
        source: DriverError,
    },
    /// The rehearsal failed: these files cannot create a new tenant. No tenant was changed.
    #[error("the migrations cannot create a new tenant")]
    Rehearsal {
        /// The error of the file that failed in the rehearsal schema.
        source: Box<Error>,
    },
    /// The set can only be applied file by file, and a file has effects outside of its schema that a rehearsal cannot
    /// undo.
    #[error("{file:?} cannot be rehearsed: it writes outside its schema or creates an extension in it")]
    NotRehearsable {
        /// The file.
        file: PathBuf,
    },
    /// A ledger was not written, because the requested change would make it incorrect.
    #[error("the ledger of schema {schema:?} was not changed: {why}", schema = schema.as_str())]
    LedgerRefused {
        /// The schema.
        schema: SchemaName,
        /// The reason.
        why: LedgerProblem,
    },
    /// The table does not contain the content that cgk wrote to a row, or it refused the row. The transaction was
    /// rolled back.
    #[error(
        "{table} does not hold what cgk wrote to it: a trigger, a rule or a constraint on that table is the likely cause"
    )]
    RowNotWritten {
        /// The table with its schema, quoted as in SQL.
        table: String,
        /// The server's error, if it refused the row.
        source: Option<DriverError>,
    },
    /// A statement of a tenant's file would change a relation of the shared schema, or of another schema that is not the
    /// tenant's. The statement was not executed. Only statements with CONCURRENTLY are checked.
    #[error(
        "migration {}{} would change {relation:?}, which all tenants share: it is not in schema {:?}",
        crate::migration::printable(.file), .line.map_or_else(String::new, |line| format!(":{line}")), .schema.as_str()
    )]
    ChangesShared {
        /// The tenant's schema.
        schema: SchemaName,
        /// The file.
        file: PathBuf,
        /// The line of the statement, counted from 1.
        line: Option<usize>,
        /// The relation.
        relation: String,
    },
    /// A schema was not adopted, because it differs from the migrations. Nothing was written.
    #[error("schema {schema:?} differs from the migrations up to {upto}: {}", count(.differences.len(), "difference"), schema = schema.as_str())]
    BaselineDiffers {
        /// The schema.
        schema: SchemaName,
        /// The newest migration that the schema was compared with.
        upto: String,
        /// The differences, one per line.
        differences: Vec<String>,
    },
}

impl MigrationError {
    /// Returns code and kind of each variant.
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
            Self::ChangesShared { .. } => ("CGK0627", Refused),
        }
    }

    /// Returns the driver's error.
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
