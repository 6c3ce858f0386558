//! Runs statements of a user's files, and resets the session afterwards (`session_reset.rs`).

use super::{
    Operator,
    message::{self, Answer, Kept},
    session_reset::{BETWEEN_FILES, UNLOCK, new_seed},
};
use crate::sql::TransactionWords;
use std::sync::atomic::Ordering;
use tokio_postgres::Error;

/// When a message is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// At the end of the message, which is one implicit transaction.
    WithMessage,
    /// Later. The message is part of a transaction that continues.
    Later,
}

/// Returns the end of a message, which resets the session. If the transaction ends here, deferred triggers run before
/// the reset, so that their state is reset too. If the transaction continues, its constraints keep their modes, and the
/// session stays marked.
fn within_transaction(commits: Commits, words: TransactionWords) -> String {
    let deferred = match commits {
        Commits::WithMessage => "set constraints all immediate; ",
        Commits::Later => "",
    };
    // If a file has a BEGIN that cgk did not detect, its transaction is still open after the message. COMMIT ends it.
    // If there is no such BEGIN, the BEGIN here makes the implicit transaction an explicit one, so that COMMIT causes
    // no warning.
    let committed = match commits {
        Commits::WithMessage if words.begins => " begin; commit;",
        Commits::WithMessage | Commits::Later => "",
    };
    let seed = new_seed();
    // RESET SESSION AUTHORIZATION also resets the role.
    format!("{deferred}{BETWEEN_FILES} reset session authorization; select {UNLOCK}, {seed};{committed}")
}

impl Operator {
    /// Sends a message with statements of a user's files on a reset session, and resets the session again. `words` are
    /// the transaction keywords of the files.
    ///
    /// With [`Commits::Later`], the caller resets the session before the transaction starts and after it has ended. A
    /// reset between these would roll the transaction back. The session is marked until then.
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
            // Other writers on this connection, such as the history of a run, must not get a read-only session. An
            // error of the reset is ignored, because the error of the message has precedence. The reset is repeated
            // before the next message.
            let _ = self.discard_all().await;
        }
        Ok(answer)
    }
}
