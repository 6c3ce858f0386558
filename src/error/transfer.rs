//! What is wrong with the data of a tenant on its way into a file, out of one, or into another tenant.

use super::ErrorKind;
use crate::{ident::SchemaName, slug::TenantSlug};

/// A tenant was not exported, imported or copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The schema contains what cannot be copied.
    #[error("schema {:?} contains what cannot be copied: {}", schema.as_str(), objects.join(", "))]
    NotCopyable {
        /// The schema.
        schema: SchemaName,
        /// The objects, in words.
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
    /// The file is not what the export wrote.
    #[error("the file is damaged: {problem}")]
    Damaged {
        /// What does not match.
        problem: String,
    },
    /// The migration set does not create what the file contains data of.
    #[error("the migrations do not create what the file contains: {}", objects.join(", "))]
    NotInSet {
        /// The tables, columns and sequences.
        objects: Vec<String>,
    },
    /// The tenant, its schema, its role or its organization exists.
    #[error("could not import tenant {tenant}: {}", by.join(", "))]
    Exists {
        /// The tenant.
        tenant: TenantSlug,
        /// What exists.
        by: Vec<String>,
    },
    /// The schema cannot be created in one transaction.
    #[error("could not import tenant {tenant}: its migrations cannot run in one transaction ({file})")]
    NotInOneTransaction {
        /// The tenant.
        tenant: TenantSlug,
        /// The first file that needs more.
        file: String,
    },
    /// What was loaded is not what was exported. Nothing is committed.
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
}

impl TransferError {
    /// Code and kind of each variant.
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
        }
    }
}
