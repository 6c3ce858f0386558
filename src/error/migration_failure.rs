//! A migration that the server refused.

use super::DriverError;
use crate::{
    ident::SchemaName,
    migration::{MigrationId, Place},
};
use std::{fmt, path::PathBuf};
use tokio_postgres::error::SqlState;

/// A migration that the server refused. The schema is the same as before the run, except for
/// [`committed`](Self::committed) and [`unfinished`](Self::unfinished).
#[derive(Debug)]
#[non_exhaustive]
pub struct MigrationFailure {
    /// The schema.
    pub schema: SchemaName,
    /// The file.
    pub file: PathBuf,
    /// The position in the file, if the server reported it.
    pub place: Option<Place>,
    /// The server's SQLSTATE.
    pub sqlstate: SqlState,
    /// The server's message.
    pub message: String,
    /// The server's hint, if there is one. The server's detail is left out, because it contains row values.
    pub hint: Option<String>,
    /// Migrations of this run that are committed and recorded, because a file without a transaction is between them and
    /// the failed one.
    pub committed: Vec<MigrationId>,
    /// Where the next run continues in a file without a transaction. The statements before it are executed and
    /// recorded.
    pub unfinished: Option<Unfinished>,
    /// How many schemas already have the file, if that was counted. A file that other schemas have must not be edited.
    pub schemas_with_file: Option<usize>,
    /// The driver's error.
    pub source: DriverError,
}

/// The progress in a file without a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The number of the failed statement, counted from 1. The next run starts with it.
    pub statement: usize,
    /// The number of statements in the file.
    pub of: usize,
}

impl std::error::Error for MigrationFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl fmt::Display for MigrationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "migration {}", crate::migration::printable(&self.file))?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, " failed in schema {:?}", self.schema.as_str())?;
        match self.unfinished {
            Some(Unfinished { statement, of }) => write!(f, " at statement {statement} of {of}"),
            None => Ok(()),
        }
    }
}
