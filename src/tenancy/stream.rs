//! Streams into and out of a transaction. They cannot be used after the transaction.

use super::shared::{AwaitedStatement, Shared};
use crate::error::{Error, Result};
use futures_util::{Sink, Stream};
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};
use tokio_postgres::{
    CopyInSink, CopyOutStream, Row, RowStream,
    binary_copy::{BinaryCopyInWriter, BinaryCopyOutRow, BinaryCopyOutStream},
    types::{ToSql, Type},
};

/// The rows of [`TenantTx::query_raw`](super::TenantTx::query_raw). The stream cannot be used after the transaction. If
/// it is dropped before its end, the rest is read and discarded. If it is leaked with [`std::mem::forget`], the rest is
/// never read, and no later statement of the transaction gets a response.
pub struct Rows<'t> {
    rows: Pin<Box<RowStream>>,
    shared: &'t Shared,
    awaited: Option<AwaitedStatement<'t>>,
}

impl<'t> Rows<'t> {
    pub(super) fn new(shared: &'t Shared, rows: RowStream) -> Self {
        Self { rows: Box::pin(rows), shared, awaited: Some(shared.begin_statement()) }
    }
}

impl Stream for Rows<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        let this = &mut *self;
        stream_next(this.rows.as_mut(), this.shared, &mut this.awaited, cx)
    }
}

/// The data of [`TenantTx::copy_out`](super::TenantTx::copy_out). The stream cannot be used after the transaction.
pub struct CopyOut<'t> {
    data: Pin<Box<CopyOutStream>>,
    shared: &'t Shared,
    awaited: Option<AwaitedStatement<'t>>,
}

impl<'t> CopyOut<'t> {
    pub(super) fn new(shared: &'t Shared, data: CopyOutStream) -> Self {
        Self { data: Box::pin(data), shared, awaited: Some(shared.begin_statement()) }
    }
}

impl Stream for CopyOut<'_> {
    type Item = Result<bytes::Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<bytes::Bytes>>> {
        let this = &mut *self;
        stream_next(this.data.as_mut(), this.shared, &mut this.awaited, cx)
    }
}

/// Forwards a stream of the driver. After the stream's end, its statement no longer counts as running.
pub(super) fn stream_next<T>(
    stream: Pin<&mut impl Stream<Item = Result<T, tokio_postgres::Error>>>,
    shared: &Shared,
    awaited: &mut Option<AwaitedStatement<'_>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<T>>> {
    let item = std::task::ready!(stream.poll_next(cx));
    if !matches!(item, Some(Ok(_)))
        && let Some(awaited) = awaited.take()
    {
        awaited.finish();
    }
    Poll::Ready(item.map(|item| item.map_err(|source| shared.failed(shared.failures.next(), source))))
}

/// The sink of [`TenantTx::copy_in`](super::TenantTx::copy_in). It cannot be used after the transaction.
///
/// The COPY is complete when [`CopyIn::finish`] or [`SinkExt::close`](futures_util::SinkExt::close) has returned.
/// [`StreamExt::forward`](futures_util::StreamExt::forward) calls `close`.
///
/// - If the sink is dropped before that, the COPY is cancelled, and the transaction can only be rolled back.
/// - If it is dropped while `finish` or `close` waits for the response, the COPY is either complete or cancelled. The
///   transaction then commits with the complete COPY or not at all.
/// - If it is leaked with [`std::mem::forget`], the COPY does not end, and no later statement of the transaction gets a
///   response.
#[must_use = "a COPY that is neither finished nor closed is abandoned"]
pub struct CopyIn<'t, U: bytes::Buf + Send + 'static> {
    sink: Pin<Box<CopyInSink<U>>>,
    shared: &'t Shared,
    state: CopyState<'t>,
}

/// The progress of a COPY.
enum CopyState<'t> {
    Open(AwaitedStatement<'t>),
    /// Complete, with this number of rows.
    Done(u64),
    Failed,
}

impl<'t, U: bytes::Buf + Send + 'static> CopyIn<'t, U> {
    pub(super) fn new(shared: &'t Shared, sink: CopyInSink<U>) -> Self {
        Self { sink: Box::pin(sink), shared, state: CopyState::Open(shared.begin_statement()) }
    }

    /// Ends the COPY and returns the number of rows that it wrote. If the sink is already closed, returns the same
    /// number again.
    ///
    /// # Errors
    ///
    /// Same as [`TenantTx::query`](super::TenantTx::query).
    pub async fn finish(mut self) -> Result<u64> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<u64>> {
        if let CopyState::Done(rows) = self.state {
            return Poll::Ready(Ok(rows));
        }
        // The driver's future has no state of its own. The state is in the sink.
        let finished = std::task::ready!(pin!(self.sink.as_mut().finish()).poll(cx));
        let state = finished.as_ref().map_or(CopyState::Failed, |rows| CopyState::Done(*rows));
        if let CopyState::Open(awaited) = std::mem::replace(&mut self.state, state) {
            awaited.finish();
        }
        Poll::Ready(finished.map_err(|source| self.failed(source)))
    }

    fn failed(&self, source: tokio_postgres::Error) -> Error {
        self.shared.failed(self.shared.failures.next(), source)
    }
}

impl<U: bytes::Buf + Send + 'static> Sink<U> for CopyIn<'_, U> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.sink.as_mut().poll_ready(cx).map_err(|source| self.failed(source))
    }

    fn start_send(mut self: Pin<&mut Self>, item: U) -> Result<()> {
        self.sink.as_mut().start_send(item).map_err(|source| self.failed(source))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.sink.as_mut().poll_flush(cx).map_err(|source| self.failed(source))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_finish(cx).map_ok(drop)
    }
}

/// The writer of [`TenantTx::binary_copy_in`](super::TenantTx::binary_copy_in). It cannot be used after the
/// transaction. If it is dropped before [`BinaryCopyIn::finish`], the COPY is cancelled, and the transaction can only
/// be rolled back.
#[must_use = "a COPY that is not finished is abandoned"]
pub struct BinaryCopyIn<'t> {
    writer: Pin<Box<BinaryCopyInWriter>>,
    shared: &'t Shared,
    awaited: Option<AwaitedStatement<'t>>,
}

impl<'t> BinaryCopyIn<'t> {
    pub(super) fn new(shared: &'t Shared, sink: CopyInSink<bytes::Bytes>, types: &[Type]) -> Self {
        let writer = Box::pin(BinaryCopyInWriter::new(sink, types));
        Self { writer, shared, awaited: Some(shared.begin_statement()) }
    }

    /// Writes a row. If the type of a value differs from that of its column, the driver refuses the row. The row is
    /// then not sent, and the transaction can only be rolled back.
    ///
    /// # Panics
    ///
    /// Panics if the number of values differs from the number of columns, as in tokio-postgres.
    ///
    /// # Errors
    ///
    /// Same as [`TenantTx::query`](super::TenantTx::query).
    pub async fn write(&mut self, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let written = self.writer.as_mut().write(values).await;
        written.map_err(|source| self.shared.failed(self.shared.failures.next(), source))
    }

    /// Ends the COPY and returns the number of rows that it wrote.
    ///
    /// # Errors
    ///
    /// Same as [`TenantTx::query`](super::TenantTx::query).
    pub async fn finish(mut self) -> Result<u64> {
        let rows = self.writer.as_mut().finish().await;
        if let Some(awaited) = self.awaited.take() {
            awaited.finish();
        }
        rows.map_err(|source| self.shared.failed(self.shared.failures.next(), source))
    }
}

/// The rows of [`TenantTx::binary_copy_out`](super::TenantTx::binary_copy_out). The stream cannot be used after the
/// transaction.
pub struct BinaryCopyOut<'t> {
    rows: Pin<Box<BinaryCopyOutStream>>,
    shared: &'t Shared,
    awaited: Option<AwaitedStatement<'t>>,
}

impl<'t> BinaryCopyOut<'t> {
    pub(super) fn new(shared: &'t Shared, data: CopyOutStream, types: &[Type]) -> Self {
        let rows = Box::pin(BinaryCopyOutStream::new(data, types));
        Self { rows, shared, awaited: Some(shared.begin_statement()) }
    }
}

impl Stream for BinaryCopyOut<'_> {
    type Item = Result<BinaryCopyOutRow>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<BinaryCopyOutRow>>> {
        let this = &mut *self;
        stream_next(this.rows.as_mut(), this.shared, &mut this.awaited, cx)
    }
}
