//! The meaning of a SQLSTATE for the caller.

use tokio_postgres::error::{Severity, SqlState};

/// Whether the same work may succeed when it is run again: serialization failures, deadlocks, lock timeouts, and a
/// server that is starting, stopping or out of connections.
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

/// Whether two sessions changed the same row of the catalogue at the same time, and this one failed: `grant` on a
/// shared table, `create or replace function`, `create extension if not exists`, `alter role`. PostgreSQL has no
/// separate SQLSTATE for this. The messages below are internal ones, which it does not translate. A unique violation
/// counts only on a table of the catalogue. On a user's table, it concerns the user's rows.
pub(crate) fn is_catalogue_race(error: &tokio_postgres::error::DbError) -> bool {
    if *error.code() == SqlState::UNIQUE_VIOLATION {
        return error.schema() == Some("pg_catalog");
    }
    const RACES: [&str; 4] = [
        "tuple concurrently updated",
        "tuple concurrently deleted",
        "cache lookup failed for ",
        "could not open relation with OID ",
    ];
    *error.code() == SqlState::INTERNAL_ERROR && RACES.iter().any(|text| error.message().starts_with(text))
}

/// Whether a plan that the session stored is out of date, because a table or type that it uses was changed. The server
/// makes a new plan the next time. PostgreSQL has no separate SQLSTATE for this. The routine's name is the same in
/// every version and language.
pub(crate) fn is_stale_plan(error: &tokio_postgres::error::DbError) -> bool {
    *error.code() == SqlState::FEATURE_NOT_SUPPORTED && error.routine() == Some("RevalidateCachedQuery")
}

/// Whether the server itself cannot continue, with any statement: out of disk, read-only, or not accepting connections
/// yet. A limit that one schema exceeds, for example of locks (53200), is not included. Neither is a shutdown: it ends
/// the connection ([`is_lost`]). A statement that only raises its code does not end it.
pub(crate) fn is_the_servers(state: &SqlState) -> bool {
    [SqlState::CANNOT_CONNECT_NOW, SqlState::DISK_FULL, SqlState::READ_ONLY_SQL_TRANSACTION].contains(state)
}

/// Whether the connection is lost, so that it can no longer be used.
///
/// For a response of the server, the severity decides and not the SQLSTATE. Any ERROR can have 57P01 or a code of class
/// 08, for example from `dblink` or a RAISE, and does not affect the connection. FATAL and PANIC end it, with any code:
/// a shutdown (57P01), a timeout of the idle session (57P05), of the idle transaction (25P03) or of the complete one
/// (25P04).
pub(crate) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(answer) => matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        // Without a response from the server, either the connection is lost, or the driver refused a parameter or a
        // row.
        None => {
            error.is_closed()
                || (std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
                    && !is_unsent(error))
        }
    }
}

/// Whether the driver refused a statement and sent nothing: a value with another type than the parameter, a wrong
/// number of parameters, more than the protocol allows, a zero byte in a text.
pub(crate) fn is_unsent(error: &tokio_postgres::Error) -> bool {
    if error.as_db_error().is_some() {
        return false;
    }
    // The driver does not expose the kind of its errors, and some encoding errors look like decoding errors. The texts
    // below are only used for encoding.
    const UNWRITABLE: [&str; 3] =
        ["string contains embedded null", "value too large to transmit", "message length overflow"];
    let unwritable = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<std::io::Error>() && UNWRITABLE.contains(&cause.to_string().as_str())
    };
    let text = error.to_string();
    text == "error encoding message to server"
        || std::error::Error::source(error).is_some_and(unwritable)
        || text.starts_with("error serializing parameter ")
        || (text.starts_with("expected ") && text.contains(" parameters but got "))
}

/// Whether driver and server are out of sync, for example after a COPY FROM STDIN that was sent as a query. The server
/// then waits for data that is never sent, and sends no other response.
pub(crate) fn is_out_of_step(error: &tokio_postgres::Error) -> bool {
    // The driver does not expose the kind of its errors.
    error.code().is_none() && error.to_string() == "unexpected message from server"
}

/// The effect of a failure on the cached facts about the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementVerdict {
    /// They are still valid.
    Good,
    /// The types of its parameters may have changed since they were requested.
    Stale,
    /// The session has lost its prepared statements.
    AllGone,
}

/// Determines from a failure whether the cached facts about a statement are valid.
pub(crate) fn verdict_on_statement(error: &tokio_postgres::Error) -> StatementVerdict {
    match error.code() {
        Some(&SqlState::INVALID_SQL_STATEMENT_NAME) => StatementVerdict::AllGone,
        // A type was dropped, for example an enum that is created again. PostgreSQL has no separate SQLSTATE for this.
        Some(&SqlState::INTERNAL_ERROR)
            if error
                .as_db_error()
                .is_some_and(|answer| answer.message().starts_with("cache lookup failed for type")) =>
        {
            StatementVerdict::Stale
        }
        // Names and types that no longer match.
        Some(state) if state.code().starts_with("42") && *state != SqlState::INSUFFICIENT_PRIVILEGE => {
            StatementVerdict::Stale
        }
        Some(_) => StatementVerdict::Good,
        // The driver could not encode a parameter with the cached type.
        None if std::error::Error::source(error).is_some() => StatementVerdict::Stale,
        None => StatementVerdict::Good,
    }
}
