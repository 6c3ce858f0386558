//! Sends one simple-query message with several statements, and reads its response, in one round trip. This module can
//! also send a single statement. The server then refuses a text with several statements.
//!
//! Without BEGIN, the statements of one message are one implicit transaction. After an error, the connection can still
//! be used. The responses before the error show how far the message was executed.

use futures_util::StreamExt;
use std::pin::Pin;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

/// A message in flight. It was written to the connection when this value was created.
pub(crate) struct Message {
    parts: Pin<Box<SimpleQueryStream>>,
    answer: Answer,
    kept: Kept,
}

/// The rows of a response that are stored. The others are dropped as they arrive, so that a file may select more data
/// than fits into the client's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// The rows whose first column starts with this text.
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

/// The response to a message.
#[derive(Default)]
pub(crate) struct Answer {
    /// The rows of all statements in order, each with the number of statements that were completed before it.
    pub(crate) rows: Vec<(usize, SimpleQueryRow)>,
    /// The number of statements that were completed.
    pub(crate) completed: usize,
    /// The error that stopped the rest.
    pub(crate) error: Option<Error>,
}

impl Message {
    /// Writes a message without waiting for its response. The responses to later messages arrive after it.
    pub(crate) async fn send(client: &Client, sql: &str) -> Result<Self, Error> {
        Self::send_keeping(client, sql, Kept::All).await
    }

    /// Does the same, and stores only some rows.
    #[expect(clippy::disallowed_methods, reason = "the one place that speaks the simple-query protocol")]
    async fn send_keeping(client: &Client, sql: &str, kept: Kept) -> Result<Self, Error> {
        // The driver queues the message before it returns the stream. This does not wait for the network.
        Ok(Self { parts: Box::pin(client.simple_query_raw(sql).await?), answer: Answer::default(), kept })
    }

    /// Waits for the complete response. If it has already arrived, returns the same response again.
    ///
    /// Cancel safety: the future may be dropped, and the function may be called again.
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

/// Sends one statement and streams its response: the rows as text, and at the end the number of rows. The driver reads
/// from the socket only as fast as the stream is read. The caller has verified that the text is one statement.
#[expect(
    clippy::disallowed_methods,
    reason = "the other place that speaks the simple-query protocol, for rows as text"
)]
pub(crate) async fn stream(client: &Client, sql: &str) -> Result<SimpleQueryStream, Error> {
    client.simple_query_raw(sql).await
}

/// Sends a message and waits for its response.
pub(crate) async fn run(client: &Client, sql: &str) -> Result<Answer, Error> {
    run_keeping(client, sql, Kept::All).await
}

/// Does the same, and stores only some rows.
pub(crate) async fn run_keeping(client: &Client, sql: &str, kept: Kept) -> Result<Answer, Error> {
    let mut message = Message::send_keeping(client, sql, kept).await?;
    Ok(std::mem::take(message.answer().await))
}

/// Sends one statement with the extended protocol. If the text contains several statements, the server refuses it
/// before it executes anything. Takes one round trip. The rows are not read.
pub(crate) async fn run_single(client: &Client, sql: &str) -> Result<(), Error> {
    client.execute_typed(sql, &[]).await.map(drop)
}

impl Answer {
    /// Returns the response, or the error that stopped it.
    pub(crate) fn complete(self) -> Result<Self, Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}
