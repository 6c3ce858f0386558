//! One simple-query message and its answer: several statements, one round trip. And one statement by itself, which the server
//! refuses to take for several.
//!
//! Without BEGIN the statements of one message are one implicit transaction. An error leaves the connection usable, and the
//! answers that came before it tell how far the message got.

use futures_util::StreamExt;
use std::pin::Pin;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

/// A message on its way; it was written to the connection when this value was made.
pub(crate) struct Message {
    parts: Pin<Box<SimpleQueryStream>>,
    answer: Answer,
    kept: Kept,
}

/// Which rows of an answer are kept. The others are dropped as they arrive, so that a file may select more than fits into
/// the client's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// Those whose first column begins with this.
    Marked(String),
}

impl Kept {
    fn keeps(&self, row: &SimpleQueryRow) -> bool {
        match self {
            Self::All => true,
            Self::Marked(mark) => row.try_get(0).ok().flatten().is_some_and(|text| text.starts_with(mark)),
        }
    }
}

/// What came back.
#[derive(Default)]
pub(crate) struct Answer {
    /// The rows of all statements in order, each with the number of statements completed before it.
    pub(crate) rows: Vec<(usize, SimpleQueryRow)>,
    /// How many statements were completed.
    pub(crate) completed: usize,
    /// What stopped the rest.
    pub(crate) error: Option<Error>,
}

impl Message {
    /// Writes a message without waiting for its answer. What is sent next on the connection is answered after it.
    pub(crate) async fn send(client: &Client, sql: &str) -> Result<Self, Error> {
        Self::send_keeping(client, sql, Kept::All).await
    }

    /// The same; only some rows are kept.
    #[expect(clippy::disallowed_methods, reason = "the one place that speaks the simple-query protocol")]
    async fn send_keeping(client: &Client, sql: &str, kept: Kept) -> Result<Self, Error> {
        // The driver queues the message before it returns the stream; nothing is awaited on the wire here.
        Ok(Self { parts: Box::pin(client.simple_query_raw(sql).await?), answer: Answer::default(), kept })
    }

    /// Waits for everything that the message answers; the same again when it was all there before.
    ///
    /// Cancel safety: may be dropped and called again.
    pub(crate) async fn answer(&mut self) -> &mut Answer {
        while self.answer.error.is_none()
            && let Some(part) = self.parts.next().await
        {
            match part {
                Ok(SimpleQueryMessage::Row(row)) if self.kept.keeps(&row) => {
                    self.answer.rows.push((self.answer.completed, row));
                }
                Ok(SimpleQueryMessage::CommandComplete(_)) => self.answer.completed += 1,
                Ok(_) => {}
                Err(error) => self.answer.error = Some(error),
            }
        }
        &mut self.answer
    }
}

/// Sends a message and waits for its answer.
pub(crate) async fn run(client: &Client, sql: &str) -> Result<Answer, Error> {
    run_keeping(client, sql, Kept::All).await
}

/// The same; only some rows are kept.
pub(crate) async fn run_keeping(client: &Client, sql: &str, kept: Kept) -> Result<Answer, Error> {
    let mut message = Message::send_keeping(client, sql, kept).await?;
    Ok(std::mem::take(message.answer().await))
}

/// Sends one statement by the extended protocol: a text that the server reads as several, it refuses before anything of it is
/// done. One round trip; the rows are left unread.
pub(crate) async fn run_single(client: &Client, sql: &str) -> Result<(), Error> {
    client.execute_typed(sql, &[]).await.map(drop)
}

impl Answer {
    /// The answer, or what stopped it.
    pub(crate) fn complete(self) -> Result<Self, Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}
