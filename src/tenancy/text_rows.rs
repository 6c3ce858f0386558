//! The rows of a statement whose columns are not known, as text.

use super::{
    shared::{AwaitedStatement, Shared},
    stream::stream_next,
    tx::TenantTx,
};
use crate::{db::message, error::Result};
use futures_util::Stream;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryStream, Statement};

/// The response to a statement: its rows, then the number of rows. It cannot be used after the transaction.
pub(crate) struct TextRows<'t> {
    parts: Pin<Box<SimpleQueryStream>>,
    shared: &'t Shared,
    awaited: Option<AwaitedStatement<'t>>,
}

impl TenantTx<'_> {
    /// Asks the server for the parameters and columns of a statement. The server refuses a text with several
    /// statements.
    pub(crate) async fn described(&mut self, sql: &str) -> Result<Statement> {
        self.shared.prepare(sql).await
    }

    /// Runs a statement without parameters and streams its rows as text. Call [`described`](Self::described) first,
    /// with the same text, because this protocol would also run several statements. While the rows are read, no other
    /// statement can be sent.
    pub(crate) async fn text_rows(&mut self, sql: &str) -> Result<TextRows<'_>> {
        self.shared.admit(sql)?;
        let parts = self.shared.run(message::stream(self.shared.client(), sql)).await?;
        Ok(TextRows { parts: Box::pin(parts), shared: self.shared, awaited: Some(self.shared.begin_statement()) })
    }
}

impl Stream for TextRows<'_> {
    type Item = Result<SimpleQueryMessage>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<SimpleQueryMessage>>> {
        let this = &mut *self;
        stream_next(this.parts.as_mut(), this.shared, &mut this.awaited, cx)
    }
}
