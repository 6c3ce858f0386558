//! Errors of exports, imports and copies of a tenant's data.

use super::{DriverError, ErrorKind};
use crate::{ident::SchemaName, slug::TenantSlug};

/// Why a tenant was not exported, imported or copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The schema contains objects that cannot be copied.
    #[error("schema {:?} contains what cannot be copied: {}", schema.as_str(), objects.join(", "))]
    NotCopyable {
        /// The schema.
        schema: SchemaName,
        /// Descriptions of the objects.
        objects: Vec<String>,
    },
    /// A file could not be read or written.
    #[error("could not {doing}")]
    File {
        /// The operation and the file.
        doing: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not an export of cgk.
    #[error("it is not a file of cgk tenant:export")]
    NotAnExport,
    /// The file has a format that this version of cgk does not know.
    #[error("the file has format {found}, and this cgk reads format {known}")]
    NewerFormat {
        /// The format of the file.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The file differs from what the export wrote.
    #[error("the file is damaged: {problem}")]
    Damaged {
        /// What does not match.
        problem: String,
    },
    /// The source, a file or a tenant, contains data of objects that the migration set does not create.
    #[error("the migrations do not create what the tenant contains: {}", objects.join(", "))]
    NotInSet {
        /// The tables, columns and sequences.
        objects: Vec<String>,
    },
    /// The tenant, its schema, its role or its organization exists.
    #[error("could not create tenant {tenant}: {}", by.join(", "))]
    Exists {
        /// The tenant.
        tenant: TenantSlug,
        /// What exists.
        by: Vec<String>,
    },
    /// The schema cannot be created in one transaction, and the set has newer migrations than the source.
    #[error("could not create tenant {tenant}: its migrations cannot run in one transaction ({file})")]
    NotInOneTransaction {
        /// The tenant.
        tenant: TenantSlug,
        /// The first file that needs more than one transaction.
        file: String,
    },
    /// The loaded or copied data differs from the source. Nothing is committed.
    #[error("table {table} differs after the load: {problem}")]
    NotEqual {
        /// The table.
        table: String,
        /// The difference.
        problem: String,
    },
    /// The target file exists.
    #[error("file {path:?} exists")]
    FileExists {
        /// The file.
        path: std::path::PathBuf,
    },
    /// Another session has a lock on a table that prevents reading.
    #[error("could not read tenant {tenant}: {tables} locked for more than {waited:?}")]
    TableLocked {
        /// The tenant.
        tenant: TenantSlug,
        /// Descriptions of the tables, with the processes that lock them.
        tables: String,
        /// How long the export waited.
        waited: std::time::Duration,
    },
    /// A path is not a regular file: it is a pipe, a device, a folder or a symbolic link.
    #[error("{path:?} is not a regular file")]
    NotAFile {
        /// The path.
        path: std::path::PathBuf,
    },
    /// The tenant and its rows are committed, but a step after the commit failed.
    #[error("tenant {tenant} is created with all its rows, and a step after that failed")]
    Unfinished {
        /// The tenant.
        tenant: TenantSlug,
        /// The error of this step.
        source: Box<super::Error>,
    },
    /// The text is not a mask.
    #[error("the mask is not valid: {problem}")]
    MaskInvalid {
        /// The problem, with the line.
        problem: String,
    },
    /// The mask has expressions for columns that the source does not have, or that cannot be set: generated columns,
    /// partitions.
    #[error("the mask names what cannot be masked: {}", names.join(", "))]
    MaskUnknown {
        /// The tables and columns.
        names: Vec<String>,
    },
    /// An expression of the mask failed, or its values do not fit the table. Nothing is committed.
    #[error("could not mask table {table}")]
    MaskRefused {
        /// The table.
        table: String,
        /// The error of the server.
        source: DriverError,
    },
}

impl TransferError {
    /// Returns code and kind of each variant.
    pub(super) fn entry(&self) -> (&'static str, ErrorKind) {
        use ErrorKind::*;
        match self {
            Self::NotCopyable { .. } => ("CGK0880", Refused),
            Self::File { .. } => ("CGK0881", Refused),
            Self::NotAnExport => ("CGK0882", Invalid),
            Self::NewerFormat { .. } => ("CGK0883", Invalid),
            Self::Damaged { .. } => ("CGK0884", Invalid),
            Self::NotInSet { .. } => ("CGK0885", Conflict),
            Self::Exists { .. } => ("CGK0886", Conflict),
            Self::NotInOneTransaction { .. } => ("CGK0887", Refused),
            Self::NotEqual { .. } => ("CGK0888", Refused),
            Self::FileExists { .. } => ("CGK0889", Conflict),
            Self::TableLocked { .. } => ("CGK0890", Locked),
            Self::NotAFile { .. } => ("CGK0891", Refused),
            Self::Unfinished { source, .. } => ("CGK0892", source.kind()),
            Self::MaskInvalid { .. } => ("CGK0950", Invalid),
            Self::MaskUnknown { .. } => ("CGK0951", Invalid),
            Self::MaskRefused { .. } => ("CGK0952", Refused),
        }
    }

    pub(super) fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::MaskRefused { source, .. } => Some(source),
            Self::Unfinished { source, .. } => source.driver(),
            _ => None,
        }
    }
}
