//! What a SQLSTATE means for the one who got it.

use tokio_postgres::error::{Severity, SqlState};

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

/// Whether two sessions changed the same row of the catalogue at the same time, and this one lost: `grant` on a shared table,
/// `create or replace function`, `create extension if not exists`, `alter role`. PostgreSQL has no state of its own for it;
/// the messages below are internal ones, which it does not translate. A unique violation counts only on a table of the
/// catalogue: on a user's table it says something about the user's rows.
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

/// Whether a plan that the session kept is out of date: a table or type it uses was changed. The server plans anew the next
/// time. PostgreSQL has no state of its own for it; the routine's name is the same in every version and language.
pub(crate) fn is_stale_plan(error: &tokio_postgres::error::DbError) -> bool {
    *error.code() == SqlState::FEATURE_NOT_SUPPORTED && error.routine() == Some("RevalidateCachedQuery")
}

/// Whether it is the server that cannot go on, whatever it is asked to do: out of disk, read-only, or not taking connections
/// yet. What one schema needs too much of, locks for instance (53200), is not among it. Neither is a shutdown: it ends the
/// connection ([`is_lost`]), and a statement that merely raises its code does not.
pub(crate) fn is_the_servers(state: &SqlState) -> bool {
    [SqlState::CANNOT_CONNECT_NOW, SqlState::DISK_FULL, SqlState::READ_ONLY_SQL_TRANSACTION].contains(state)
}

/// Whether the connection is gone: nothing more can be asked of it.
///
/// An answer of the server says so by its severity and never by its SQLSTATE: any ERROR may carry 57P01 or a code of class
/// 08, as one of `dblink` or a RAISE does, and leaves the connection as it was. FATAL and PANIC end it, whatever the code is:
/// a shutdown (57P01), a timeout of the idle session (57P05), of the idle transaction (25P03) or of the whole one (25P04).
pub(crate) fn is_lost(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(answer) => matches!(answer.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        // Without an answer from the server it is either the connection, or the driver refusing a parameter or a row.
        None => {
            error.is_closed()
                || (std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
                    && !is_unsent(error))
        }
    }
}

/// Whether the driver refused a statement and sent nothing of it: a value of another type than the parameter has, another number of
/// parameters than the statement has, more than the protocol can count, a zero byte in a text.
pub(crate) fn is_unsent(error: &tokio_postgres::Error) -> bool {
    if error.as_db_error().is_some() {
        return false;
    }
    // The driver keeps the kind of its errors to itself, and calls some of what it could not write a response that it could not
    // read. The texts below are of what it writes alone.
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

/// Whether driver and server disagree about whose turn it is, as after a COPY FROM STDIN that was sent as a query: the server
/// waits for data that nobody will send, and answers nothing else.
pub(crate) fn is_out_of_step(error: &tokio_postgres::Error) -> bool {
    // The driver keeps the kind of its errors to itself.
    error.code().is_none() && error.to_string() == "unexpected message from server"
}

/// What a failure says about what was known of the statement that it happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatementVerdict {
    /// Nothing.
    Good,
    /// The types of its parameters may have changed since the server was asked for them.
    Stale,
    /// The session has lost its prepared statements.
    AllGone,
}

/// Judges what was known of a statement by how it failed.
pub(crate) fn verdict_on_statement(error: &tokio_postgres::Error) -> StatementVerdict {
    match error.code() {
        Some(&SqlState::INVALID_SQL_STATEMENT_NAME) => StatementVerdict::AllGone,
        // A type that was dropped, as an enum is when it is made anew: PostgreSQL has no state of its own for it.
        Some(&SqlState::INTERNAL_ERROR)
            if error
                .as_db_error()
                .is_some_and(|answer| answer.message().starts_with("cache lookup failed for type")) =>
        {
            StatementVerdict::Stale
        }
        // Names and types that do not fit any more.
        Some(state) if state.code().starts_with("42") && *state != SqlState::INSUFFICIENT_PRIVILEGE => {
            StatementVerdict::Stale
        }
        Some(_) => StatementVerdict::Good,
        // The driver could not write a parameter in the type that it was told earlier.
        None if std::error::Error::source(error).is_some() => StatementVerdict::Stale,
        None => StatementVerdict::Good,
    }
}
