//! Decides how many transactions the pending files of one schema use.
//!
//! By default, one transaction contains all of them: all or nothing, in one round trip. But files that were released
//! separately may need the commits between them. A value added to an enum cannot be used before its commit (always on
//! PostgreSQL 14 to 16), `alter table` is refused while deferred constraints are pending, and `now()` is the same in
//! all of them. With one transaction per file, each file and its ledger row are committed together, as they were when
//! they were released.

use crate::{
    error::{Error, MigrationError},
    migrate::plan::SchemaPlan,
};
use tokio_postgres::error::SqlState;

/// How many transactions are used for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// One for all of them, except files without a transaction.
    Batch,
    /// One per file.
    FileByFile,
}

impl Grouping {
    /// Returns the grouping for another attempt at a schema that failed; `None` if another grouping cannot help.
    ///
    /// The first file of a transaction runs under the same conditions as in its own transaction, so its failure does
    /// not depend on the grouping, unless the failure is detected at the end of the transaction.
    pub(crate) fn after(self, error: &Error, plan: &SchemaPlan<'_>) -> Option<Self> {
        let [first, _, ..] = &*plan.pending else { return None };
        if self == Self::FileByFile {
            return None;
        }
        let (is_first, state) = match error {
            Error::Migration(MigrationError::Failed(failure)) => (failure.file == first.path(), &failure.sqlstate),
            Error::Database { source, .. } => (false, source.sqlstate()?),
            _ => return None,
        };
        (!is_first && is_of_one_transaction(state)).then_some(Self::FileByFile)
    }
}

/// Whether an error may be caused by sharing a transaction with an earlier file.
pub(crate) fn is_of_one_transaction(state: &SqlState) -> bool {
    // unsafe_new_enum_value_usage
    state.code() == "55P04"
        // Integrity constraints: `now()` or `txid_current()` as a key, and deferred constraints at the end.
        || state.code().starts_with("23")
        || [
            // Pending trigger events.
            SqlState::OBJECT_IN_USE,
            // A temporary table that ends with its transaction, and its type.
            SqlState::DUPLICATE_TABLE,
            SqlState::DUPLICATE_OBJECT,
            SqlState::DUPLICATE_CURSOR,
            // The lock table is full: each file alone needs fewer locks.
            SqlState::OUT_OF_MEMORY,
        ]
        .contains(state)
}
