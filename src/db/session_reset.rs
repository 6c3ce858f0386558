//! Gives one schema's statements a session that holds nothing of the schema before.
//!
//! A session keeps more than settings: temporary objects, prepared statements, cursors WITH HOLD, LISTEN, what `currval`
//! and `lastval` return, session advisory locks, the session's role. A rollback undoes only a part of that. Two forms of
//! reset cover both ends of a message that holds statements of a user's file:
//!
//! - A message that succeeds ends with a reset (`run_files.rs`), so the reset is committed with it and costs no round trip.
//! - After a message that failed, was cancelled or never answered, the next user of the session sends `discard all` first.
//!
//! What a library loaded into the server process keeps (`%_SHARED` of PL/Perl, the connections of `dblink`) has no reset in
//! PostgreSQL but a new connection; cgk does not open one for that.

use super::{Operator, message};
use std::sync::atomic::Ordering;
use tokio_postgres::{Error, error::SqlState};

/// Everything of `discard all` that is allowed inside a transaction, but for the roles. No statement of it fails for what
/// is not there. Between two files of one schema, [`UNLOCK`] belongs to it.
pub(crate) const BETWEEN_FILES: &str =
    "close all; deallocate all; unlisten *; discard temp; discard sequences; reset all;";

/// An expression: gives up the session advisory locks. Transaction locks, as those of a migration, stay.
pub(crate) const UNLOCK: &str = "pg_catalog.pg_advisory_unlock_all()";

impl Operator {
    /// Resets the session if a user's statements may have left something in it. Outside of a transaction only.
    pub(crate) async fn reset_session(&self) -> Result<(), Error> {
        if self.session_is_marked().load(Ordering::Acquire) { self.discard_all().await } else { Ok(()) }
    }

    /// Resets the session, session locks included. Outside of a transaction only.
    pub(crate) async fn discard_all(&self) -> Result<(), Error> {
        let discarded = message::run(self.client(), "discard all").await?.complete();
        // A BEGIN that a file hides leaves a transaction open where the message fails.
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

    /// Notes that what follows runs statements of a user's files.
    pub(crate) fn mark_session(&self) {
        self.session_is_marked().store(true, Ordering::Release);
    }
}
