//! Whether a conflict with another transaction undid one.

use crate::error::{Error, TenantError, TransactionError};
use tokio_postgres::error::SqlState;

/// Whether a conflict with another transaction is the reason: what a new try may not meet.
pub(super) fn is_conflict(state: &SqlState) -> bool {
    [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(state)
}

/// Whether an error of the entry or of the COMMIT says that the server undid the whole transaction because of a conflict.
pub(super) fn undone_by_server(error: &Error) -> bool {
    match error {
        // It was refused by what was there a moment ago.
        Error::Tenant(TenantError::Changed { .. }) => true,
        // Answered by the server, on the entry or on the COMMIT itself.
        Error::Transaction(
            TransactionError::Statement { cause, .. } | TransactionError::PlatformStatement { cause },
        ) => cause.sqlstate().is_some_and(is_conflict),
        _ => false,
    }
}
