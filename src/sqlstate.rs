//! What a SQLSTATE means for the one who got it.

use tokio_postgres::error::SqlState;

/// Whether the same work may succeed when it is run again: serialization failures, deadlocks, lock timeouts, and a server
/// that is starting, stopping or out of connections.
pub(crate) fn is_passing(state: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(state)
}

/// Whether the connection is gone: nothing more can be asked of it.
pub(crate) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(state) => {
            [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT]
                .contains(state)
                || state.code().starts_with("08")
        }
        // Without an answer from the server it is either the connection, or the driver refusing a parameter or a row.
        None => error.is_closed() || std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>()),
    }
}
