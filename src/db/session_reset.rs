//! Resets a session, so that it contains no state of the previous schema.
//!
//! A session has more state than settings: temporary objects, prepared statements, cursors WITH HOLD, LISTEN, the
//! results of `currval` and `lastval`, session advisory locks, the seed of `random()`, and the session's role. A rollback
//! undoes only a part of that. There are two kinds of reset for a message that contains statements of a user's file:
//!
//! - A message that succeeds ends with a reset (`run_files.rs`). The reset is committed with the message and costs no
//!   round trip.
//! - After a message that failed, was cancelled or got no response, the next user of the session sends `discard all`
//!   first.
//!
//! Only a new connection can reset the state of libraries in the server process (`%_SHARED` of PL/Perl, the connections
//! of `dblink`). cgk does not open one for this.

use super::{Operator, message};
use rand::RngExt as _;
use std::sync::atomic::Ordering;
use tokio_postgres::{Error, error::SqlState};

/// Everything of `discard all` that is allowed inside a transaction, except the roles. No statement fails if there is
/// nothing to reset. Between two files of one schema, it is used together with [`UNLOCK`] and [`new_seed`].
pub(crate) const BETWEEN_FILES: &str =
    "close all; deallocate all; unlisten *; discard temp; discard sequences; reset all;";

/// An expression that releases the session advisory locks. It does not release transaction locks, such as those of a
/// migration.
pub(crate) const UNLOCK: &str = "pg_catalog.pg_advisory_unlock_all()";

/// Returns an expression that gives `random()` a new seed. `discard all` and `reset all` keep the seed.
pub(crate) fn new_seed() -> String {
    format!("pg_catalog.setseed({})", seed())
}

/// Returns a random seed of `random()`.
pub(crate) fn seed() -> f64 {
    rand::rng().random_range(-1.0..1.0)
}

impl Operator {
    /// Resets the session if a user's statements may have left state in it. Call it only outside of a transaction.
    pub(crate) async fn reset_session(&self) -> Result<(), Error> {
        if self.session_is_marked().load(Ordering::Acquire) { self.discard_all().await } else { Ok(()) }
    }

    /// Resets the session, including the session locks. Call it only outside of a transaction.
    pub(crate) async fn discard_all(&self) -> Result<(), Error> {
        let discarded = message::run(self.client(), "discard all").await?.complete();
        // If `discard all` fails because of an open transaction, a BEGIN that cgk did not detect has opened it.
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
        message::run(self.client(), &format!("select {}", new_seed())).await?.complete()?;
        self.session_is_marked().store(false, Ordering::Release);
        Ok(())
    }

    /// Records that statements of a user's files follow.
    pub(crate) fn mark_session(&self) {
        self.session_is_marked().store(true, Ordering::Release);
    }
}
