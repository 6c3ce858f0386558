//! Resets a session, so that it contains no state of the previous schema.
//!
//! A session has more state than settings: temporary objects, prepared statements, cursors WITH HOLD, LISTEN, the results of
//! `currval` and `lastval`, session advisory locks, the session's role. A rollback undoes only a part of that. Two kinds of
//! reset cover a message that contains statements of a user's file:
//!
//! - A message that succeeds ends with a reset (`run_files.rs`), so the reset is committed with it and costs no round trip.
//! - After a message that failed, was cancelled or got no response, the next user of the session sends `discard all` first.
//!
//! The state of libraries in the server process (`%_SHARED` of PL/Perl, the connections of `dblink`) can only be reset by a
//! new connection; cgk does not open one for this.

use super::{Operator, message};
use std::sync::atomic::Ordering;
use tokio_postgres::{Error, error::SqlState};

/// Everything of `discard all` that is allowed inside a transaction, except the roles. No statement fails if there is
/// nothing to reset. Between two files of one schema, it is used together with [`UNLOCK`].
pub(crate) const BETWEEN_FILES: &str =
    "close all; deallocate all; unlisten *; discard temp; discard sequences; reset all;";

/// An expression that releases the session advisory locks. Transaction locks, such as those of a migration, stay.
pub(crate) const UNLOCK: &str = "pg_catalog.pg_advisory_unlock_all()";

impl Operator {
    /// Resets the session if a user's statements may have left state in it. Outside of a transaction only.
    pub(crate) async fn reset_session(&self) -> Result<(), Error> {
        if self.session_is_marked().load(Ordering::Acquire) { self.discard_all().await } else { Ok(()) }
    }

    /// Resets the session, session locks included. Outside of a transaction only.
    pub(crate) async fn discard_all(&self) -> Result<(), Error> {
        let discarded = message::run(self.client(), "discard all").await?.complete();
        // If the message fails, a BEGIN that cgk did not detect leaves a transaction open.
        let is_open = |error: &Error| {
            [Some(&SqlState::IN_FAILED_SQL_TRANSACTION), Some(&SqlState::ACTIVE_SQL_TRANSACTION)]
                .contains(&error.code())
        };
        match discarded {
            Err(error) if is_open(&error) => {
                message::run(self.client(), "rollback").await?.complete()?;
                message::run(self.client(), "discard all").await?.complete()?;
            }
            discarded => drop(discarded?),
        }
        self.session_is_marked().store(false, Ordering::Release);
        Ok(())
    }

    /// Records that statements of a user's files follow.
    pub(crate) fn mark_session(&self) {
        self.session_is_marked().store(true, Ordering::Release);
    }
}
