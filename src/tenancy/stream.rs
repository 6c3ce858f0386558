//! What streams in and out of a transaction; none of it can leave the transaction.

use super::{lease::InFlightGuard, shared::Shared};
use crate::error::{Error, Result};
use futures_util::{Sink, Stream};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio_postgres::{
    CopyInSink, CopyOutStream, Row, RowStream,
    binary_copy::{BinaryCopyInWriter, BinaryCopyOutRow, BinaryCopyOutStream},
    types::{ToSql, Type},
};

/// The rows of [`TenantTx::query_raw`](super::TenantTx::query_raw); it cannot leave the transaction.
pub struct Rows<'t> {
    rows: Pin<Box<RowStream>>,
    shared: &'t Shared,
    flight: Option<InFlightGuard>,
}

impl<'t> Rows<'t> {
    pub(super) fn new(shared: &'t Shared, rows: RowStream) -> Self {
        Self { rows: Box::pin(rows), shared, flight: Some(shared.lease.begin_statement()) }
    }
}

impl Stream for Rows<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        let this = &mut *self;
        stream_next(this.rows.as_mut(), this.shared, &mut this.flight, cx)
    }
}

/// The data of [`TenantTx::copy_out`](super::TenantTx::copy_out); it cannot leave the transaction.
pub struct CopyOut<'t> {
    data: Pin<Box<CopyOutStream>>,
    shared: &'t Shared,
    flight: Option<InFlightGuard>,
}

impl<'t> CopyOut<'t> {
    pub(super) fn new(shared: &'t Shared, data: CopyOutStream) -> Self {
        Self { data: Box::pin(data), shared, flight: Some(shared.lease.begin_statement()) }
    }
}

impl Stream for CopyOut<'_> {
    type Item = Result<bytes::Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<bytes::Bytes>>> {
        let this = &mut *self;
        stream_next(this.data.as_mut(), this.shared, &mut this.flight, cx)
    }
}

/// Passes a stream of the driver's on; once it has ended nothing of it is running any more.
fn stream_next<T>(
    stream: Pin<&mut impl Stream<Item = Result<T, tokio_postgres::Error>>>,
    shared: &Shared,
    flight: &mut Option<InFlightGuard>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<T>>> {
    let item = std::task::ready!(stream.poll_next(cx));
    if !matches!(item, Some(Ok(_)))
        && let Some(flight) = flight.take()
    {
        flight.finish_statement();
    }
    Poll::Ready(item.map(|item| item.map_err(|source| shared.failed(shared.failures.next(), source))))
}

/// The sink of [`TenantTx::copy_in`](super::TenantTx::copy_in); it cannot leave the transaction. Dropped before [`CopyIn::finish`], the COPY is
/// abandoned, and the transaction can only be rolled back.
#[must_use = "a COPY that is not finished is abandoned"]
pub struct CopyIn<'t, U: bytes::Buf + Send + 'static> {
    sink: Pin<Box<CopyInSink<U>>>,
    shared: &'t Shared,
    flight: Option<InFlightGuard>,
}

impl<'t, U: bytes::Buf + Send + 'static> CopyIn<'t, U> {
    pub(super) fn new(shared: &'t Shared, sink: CopyInSink<U>) -> Self {
        Self { sink: Box::pin(sink), shared, flight: Some(shared.lease.begin_statement()) }
    }

    /// Ends the COPY and returns the number of rows it wrote.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`](super::TenantTx::query).
    pub async fn finish(mut self) -> Result<u64> {
        let rows = self.sink.as_mut().finish().await;
        if let Some(flight) = self.flight.take() {
            flight.finish_statement();
        }
        rows.map_err(|source| self.shared.failed(self.shared.failures.next(), source))
    }
}

impl<U: bytes::Buf + Send + 'static> Sink<U> for CopyIn<'_, U> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shared = self.shared;
        self.sink.as_mut().poll_ready(cx).map_err(|source| shared.failed(shared.failures.next(), source))
    }

    fn start_send(mut self: Pin<&mut Self>, item: U) -> Result<()> {
        let shared = self.shared;
        self.sink.as_mut().start_send(item).map_err(|source| shared.failed(shared.failures.next(), source))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shared = self.shared;
        self.sink.as_mut().poll_flush(cx).map_err(|source| shared.failed(shared.failures.next(), source))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let closed = std::task::ready!(self.sink.as_mut().poll_close(cx));
        if let Some(flight) = self.flight.take() {
            flight.finish_statement();
        }
        Poll::Ready(closed.map_err(|source| self.shared.failed(self.shared.failures.next(), source)))
    }
}

/// The writer of [`TenantTx::binary_copy_in`](super::TenantTx::binary_copy_in); it cannot leave the transaction. Dropped before
/// [`BinaryCopyIn::finish`], the COPY is abandoned, and the transaction can only be rolled back.
#[must_use = "a COPY that is not finished is abandoned"]
pub struct BinaryCopyIn<'t> {
    writer: Pin<Box<BinaryCopyInWriter>>,
    shared: &'t Shared,
    flight: Option<InFlightGuard>,
}

impl<'t> BinaryCopyIn<'t> {
    pub(super) fn new(shared: &'t Shared, sink: CopyInSink<bytes::Bytes>, types: &[Type]) -> Self {
        let writer = Box::pin(BinaryCopyInWriter::new(sink, types));
        Self { writer, shared, flight: Some(shared.lease.begin_statement()) }
    }

    /// Writes a row.
    ///
    /// # Panics
    ///
    /// If there are more or fewer values than columns, as in tokio-postgres.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`](super::TenantTx::query).
    pub async fn write(&mut self, values: &[&(dyn ToSql + Sync)]) -> Result<()> {
        let written = self.writer.as_mut().write(values).await;
        written.map_err(|source| self.shared.failed(self.shared.failures.next(), source))
    }

    /// Ends the COPY and returns the number of rows it wrote.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`](super::TenantTx::query).
    pub async fn finish(mut self) -> Result<u64> {
        let rows = self.writer.as_mut().finish().await;
        if let Some(flight) = self.flight.take() {
            flight.finish_statement();
        }
        rows.map_err(|source| self.shared.failed(self.shared.failures.next(), source))
    }
}

/// The rows of [`TenantTx::binary_copy_out`](super::TenantTx::binary_copy_out); it cannot leave the transaction.
pub struct BinaryCopyOut<'t> {
    rows: Pin<Box<BinaryCopyOutStream>>,
    shared: &'t Shared,
    flight: Option<InFlightGuard>,
}

impl<'t> BinaryCopyOut<'t> {
    pub(super) fn new(shared: &'t Shared, data: CopyOutStream, types: &[Type]) -> Self {
        let rows = Box::pin(BinaryCopyOutStream::new(data, types));
        Self { rows, shared, flight: Some(shared.lease.begin_statement()) }
    }
}

impl Stream for BinaryCopyOut<'_> {
    type Item = Result<BinaryCopyOutRow>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<BinaryCopyOutRow>>> {
        let this = &mut *self;
        stream_next(this.rows.as_mut(), this.shared, &mut this.flight, cx)
    }
}
