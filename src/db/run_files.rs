//! Runs statements of a user's files, and resets the session afterwards (`session_reset.rs`).

use super::{
    Operator,
    message::{self, Answer, Kept},
    session_reset::{BETWEEN_FILES, UNLOCK},
};
use crate::sql::TransactionWords;
use std::sync::atomic::Ordering;
use tokio_postgres::Error;

/// When the work of a message is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// At the end of the message: it is one implicit transaction.
    WithMessage,
    /// Later: the message is part of a transaction that continues.
    Later,
}

/// The end of a message, which resets the session. If the transaction ends here, state left by a deferred trigger comes
/// before the reset; if it continues, its constraints keep their modes and the session stays marked.
fn within_transaction(commits: Commits, words: TransactionWords) -> String {
    let deferred = match commits {
        Commits::WithMessage => "set constraints all immediate; ",
        Commits::Later => "",
    };
    // A BEGIN in a file that cgk did not detect leaves its transaction open after the message. If there is none, the first
    // of the two makes the implicit transaction an explicit one, without a warning.
    let committed = match commits {
        Commits::WithMessage if words.begins => " begin; commit;",
        Commits::WithMessage | Commits::Later => "",
    };
    // RESET SESSION AUTHORIZATION also resets the role.
    format!("{deferred}{BETWEEN_FILES} reset session authorization; select {UNLOCK};{committed}")
}

impl Operator {
    /// Sends a message with statements of a user's files on a reset session, and resets it again. `words` are the
    /// transaction keywords of the files.
    ///
    /// With [`Commits::Later`] the caller resets the session before the transaction begins and after it has ended: a reset in
    /// between would roll it back. The session stays marked until then.
    ///
    /// Cancel safety: if the future is dropped, the session stays marked, and the next message starts with a reset.
    pub(crate) async fn run_files(
        &self,
        mut sql: String,
        words: TransactionWords,
        commits: Commits,
        kept: Kept,
    ) -> Result<Answer, Error> {
        if commits == Commits::WithMessage {
            self.reset_session().await?;
        }
        sql.push_str(&within_transaction(commits, words));
        self.mark_session();
        let answer = message::run_keeping(self.client(), &sql, kept).await?;
        if commits == Commits::WithMessage && answer.error.is_none() {
            self.session_is_marked().store(false, Ordering::Release);
        } else if commits == Commits::WithMessage {
            // Other writers on this connection, such as the history of a run, must not get a read-only session. The error of
            // the message has precedence over an error of the reset, which is repeated before the next message.
            let _ = self.discard_all().await;
        }
        Ok(answer)
    }
}
