//! One simple-query message and its response: several statements, one round trip. Also a single statement, whose text the
//! server refuses if it contains several.
//!
//! Without BEGIN the statements of one message are one implicit transaction. After an error the connection is still usable,
//! and the responses before it show how far the message was executed.

use futures_util::StreamExt;
use std::pin::Pin;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

/// A message in flight; it was written to the connection when this value was created.
pub(crate) struct Message {
    parts: Pin<Box<SimpleQueryStream>>,
    answer: Answer,
    kept: Kept,
}

/// Which rows of a response are kept. The others are dropped as they arrive, so that a file may select more data than fits
/// into the client's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    /// Rows whose first column starts with this text.
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

/// The response.
#[derive(Default)]
pub(crate) struct Answer {
    /// The rows of all statements in order, each with the number of statements that were completed before it.
    pub(crate) rows: Vec<(usize, SimpleQueryRow)>,
    /// How many statements were completed.
    pub(crate) completed: usize,
    /// The error that stopped the rest.
    pub(crate) error: Option<Error>,
}

impl Message {
    /// Writes a message without waiting for its response. The response to later messages comes after it.
    pub(crate) async fn send(client: &Client, sql: &str) -> Result<Self, Error> {
        Self::send_keeping(client, sql, Kept::All).await
    }

    /// The same; only some rows are kept.
    #[expect(clippy::disallowed_methods, reason = "the one place that speaks the simple-query protocol")]
    async fn send_keeping(client: &Client, sql: &str, kept: Kept) -> Result<Self, Error> {
        // The driver queues the message before it returns the stream; this does not wait for the network.
        Ok(Self { parts: Box::pin(client.simple_query_raw(sql).await?), answer: Answer::default(), kept })
    }

    /// Waits for the complete response; returns the same again if it has already arrived.
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

/// Sends one statement and streams its response: rows as text, and at the end the number of rows. The driver reads from the
/// socket only as fast as the stream is read. The caller has verified that the text is one statement.
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

/// The same; only some rows are kept.
pub(crate) async fn run_keeping(client: &Client, sql: &str, kept: Kept) -> Result<Answer, Error> {
    let mut message = Message::send_keeping(client, sql, kept).await?;
    Ok(std::mem::take(message.answer().await))
}

/// Sends one statement with the extended protocol: if the text contains several, the server refuses it before it executes
/// anything. One round trip; the rows are not read.
pub(crate) async fn run_single(client: &Client, sql: &str) -> Result<(), Error> {
    client.execute_typed(sql, &[]).await.map(drop)
}

impl Answer {
    /// The response, or the error that stopped it.
    pub(crate) fn complete(self) -> Result<Self, Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }
}
