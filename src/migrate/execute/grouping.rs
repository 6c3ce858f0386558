//! In how many transactions the pending files of one schema are applied.
//!
//! One transaction for all of them is what every schema gets first: all or nothing, and one round trip. But files that were
//! released one by one may need the commits between them: a value added to an enum cannot be used before its commit
//! (PostgreSQL 14 to 16 without exception), `alter table` is refused while deferred constraints wait to be checked, `now()`
//! is the same in all of them. File by file, each file and its ledger row
//! are one transaction, as they were when they were released.

use crate::{
    error::{Error, MigrationError},
    migrate::plan::Plan,
};
use tokio_postgres::error::SqlState;

/// In how many transactions files are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// All of them in one, but for files without a transaction.
    Together,
    /// Each in one of its own.
    FileByFile,
}

impl Grouping {
    /// How a schema that failed is tried once more, in place of `self`; `None` where that cannot help.
    ///
    /// The first file of a transaction finds the same as in one of its own, so its failure is its own, unless it is found at
    /// the end of the transaction.
    pub(crate) fn after(self, error: &Error, plan: &Plan<'_>) -> Option<Self> {
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

/// Whether an error may come from sharing a transaction with an earlier file.
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
