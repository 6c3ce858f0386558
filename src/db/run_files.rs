//! Sends statements of a user's files, and leaves the session as it was when it was opened (`session_reset.rs`).

use super::{
    Operator,
    message::{self, Answer, Kept},
    session_reset::{BETWEEN_FILES, UNLOCK},
};
use crate::sql::TransactionWords;
use std::sync::atomic::Ordering;
use tokio_postgres::Error;

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
}
