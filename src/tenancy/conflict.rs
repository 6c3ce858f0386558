//! Detects whether a transaction was rolled back because of a conflict with another one.

use crate::error::{Error, TenantError, TransactionError};
use tokio_postgres::error::SqlState;

/// Returns whether the SQLSTATE is a conflict with another transaction, so that a retry can succeed.
pub(super) fn is_conflict(state: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state)
}

/// Returns whether an error of the entry or of the COMMIT means that the server rolled the whole transaction back
/// because of a conflict.
pub(super) fn undone_by_server(error: &Error) -> bool {
    match error {
        // The cause of the refusal no longer exists.
        Error::Tenant(TenantError::Changed { .. } | TenantError::Renamed { .. }) => true,
        // The server's response to the entry or to the COMMIT.
        Error::Transaction(
            TransactionError::Statement { cause, .. } | TransactionError::PlatformStatement { cause },
        ) => cause.sqlstate().is_some_and(is_conflict),
        _ => false,
    }
}
