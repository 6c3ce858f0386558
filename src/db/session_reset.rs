//! Gives one schema's statements a session that holds nothing of the schema before.
//!
//! A session keeps more than settings: temporary objects, prepared statements, cursors WITH HOLD, LISTEN, what `currval`
//! and `lastval` return, session advisory locks, the session's role. A rollback undoes only a part of that. Two forms of
//! reset cover both ends of a message that holds statements of a user's file:
//!
//! - A message that succeeds ends with a reset ([`within_transaction`]), so the reset is committed with it and costs no round trip.
//! - After a message that failed, was cancelled or never answered, the next user of the session sends `discard all` first.
//!
//! What a library loaded into the server process keeps (`%_SHARED` of PL/Perl, the connections of `dblink`) has no reset in
//! PostgreSQL but a new connection; cgk does not open one for that.

use super::{
    Operator,
    message::{self, Answer, Kept},
};
use crate::sql::TransactionWords;
use std::sync::atomic::Ordering;
use tokio_postgres::{Error, error::SqlState};

/// Everything of `discard all` that is allowed inside a transaction, but for the roles. No statement of it fails for what
/// is not there. Between two files of one schema, [`UNLOCK`] belongs to it.
pub(crate) const BETWEEN_FILES: &str =
    "close all; deallocate all; unlisten *; discard temp; discard sequences; reset all;";

/// An expression: gives up the session advisory locks. Transaction locks, as those of a migration, stay.
pub(crate) const UNLOCK: &str = "pg_catalog.pg_advisory_unlock_all()";

/// When a message's work is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// At the end of the message: it is one implicit transaction.
    WithMessage,
    /// Later: the message is part of a transaction that goes on.
    Later,
}

/// The end of a message: the session as it was when it was opened. What a deferred trigger leaves comes before the reset
/// where the transaction ends here; where it goes on, its constraints keep their modes and the session stays marked.
fn within_transaction(commits: Commits, words: TransactionWords) -> String {
    let deferred = match commits {
        Commits::WithMessage => "set constraints all immediate; ",
        Commits::Later => "",
    };
    // A BEGIN that a file hides from us leaves its transaction open behind the message. Where there is none, the first of the two
    // makes the implicit transaction an explicit one, without a warning.
    let committed = match commits {
        Commits::WithMessage if words.begins => " begin; commit;",
        Commits::WithMessage | Commits::Later => "",
    };
    // RESET SESSION AUTHORIZATION gives up the role as well.
    format!("{deferred}{BETWEEN_FILES} reset session authorization; select {UNLOCK};{committed}")
}

impl Operator {
    /// Sends a message that holds statements of a user's files, on a session that is as new, and leaves it as new. `words` are
    /// those of the files.
    ///
    /// With [`Commits::Later`] the caller marks the session when the transaction has ended.
    ///
    /// Cancel safety: dropped, the session stays marked, and the next message begins with a reset.
    pub(crate) async fn run_files(
        &self,
        mut sql: String,
        words: TransactionWords,
        commits: Commits,
        kept: Kept,
    ) -> Result<Answer, Error> {
        self.reset_session().await?;
        sql.push_str(&within_transaction(commits, words));
        self.mark_session();
        let answer = message::run_keeping(self.client(), &sql, kept).await?;
        if answer.error.is_none() {
            self.session_is_marked().store(false, Ordering::Release);
        } else if commits == Commits::WithMessage {
            // What others write on this connection, the history of a run for instance, must not meet a read-only session. The
            // error of the message counts more than one of the reset, which is tried again before the next.
            let _ = self.discard_all().await;
        }
        Ok(answer)
    }

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
