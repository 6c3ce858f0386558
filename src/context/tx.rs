//! The transaction that a tenant's closure is given.

use super::{
    entry::Entry,
    lease::{Flight, Lease},
    protocol::Gate,
    statement::is_stale,
};
use crate::{
    config::Pooling,
    db::message::Message,
    error::{Error, Result},
    slug::TenantSlug,
    sqlstate,
};
use futures_util::{FutureExt, Sink, Stream};
use std::{
    future::Future,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{Mutex, OnceLock, PoisonError},
    task::{Context, Poll},
};
use tokio_postgres::{
    Client, CopyInSink, CopyOutStream, Row, RowStream, Statement,
    error::SqlState,
    types::{ToSql, Type},
};

/// A transaction that sees one tenant and nothing else.
///
/// It offers statements and savepoints and no way to the connection underneath. Statements go out when their future is
/// first polled, in that order, so several may be on their way at once (`tokio::join!`). The parameters and rows are
/// tokio-postgres's own.
///
/// Through a transaction pooler (`pooled = true`) only [`query_typed`](Self::query_typed) and
/// [`execute_typed`](Self::execute_typed) work: a named prepared statement may meet another client's of the same name there.
pub struct TenantTx<'c> {
    shared: &'c Shared,
}

/// What a transaction and its savepoints share.
pub(super) struct Shared {
    pub(super) lease: Lease,
    pub(super) gate: Gate,
    pub(super) pooling: Pooling,
    entry: tokio::sync::Mutex<Entry>,
    verdict: OnceLock<Verdict>,
    /// The first statement that failed, for the case that the closure ignores it.
    first_failure: Mutex<Option<SqlState>>,
}

/// Whether the tenant was entered.
enum Verdict {
    Entered,
    Refused,
}

impl Shared {
    pub(super) fn new(lease: Lease, gate: Gate, pooling: Pooling, entry: Entry) -> Self {
        Self {
            lease,
            gate,
            pooling,
            entry: tokio::sync::Mutex::new(entry),
            verdict: OnceLock::new(),
            first_failure: Mutex::new(None),
        }
    }

    /// Waits for the answer to the first message.
    pub(super) async fn entered(&self) -> Result<()> {
        if self.verdict.get().is_none() {
            let mut entry = self.entry.lock().await;
            let verdict = if entry.answer().await.is_none() { Verdict::Entered } else { Verdict::Refused };
            let _ = self.verdict.set(verdict);
        }
        match self.verdict.get() {
            Some(Verdict::Entered) => Ok(()),
            _ => Err(Error::EntryRefused { tenant: self.gate.slug.clone() }),
        }
    }

    /// Why the first message failed, once it has.
    pub(super) async fn entry_error(&self) -> Option<tokio_postgres::Error> {
        self.entry.lock().await.answer().await.take()
    }

    pub(super) fn first_failure(&self) -> Option<SqlState> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn client(&self) -> &Client {
        self.lease.connection().client()
    }

    /// Runs one piece of work; its outcome counts only when the tenant was entered.
    async fn run<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        let flight = self.lease.take_off();
        // Both at once: the driver holds back what comes later while an earlier answer is not taken, so waiting for the work
        // alone would wait for ever when the answer to the first message comes in pieces.
        let (outcome, entered) = tokio::join!(work, self.entered());
        flight.land();
        entered?;
        outcome.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: tokio_postgres::Error) -> Error {
        if let Some(state) = source.code() {
            self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| state.clone());
        }
        let tenant = self.gate.slug.clone();
        if sqlstate::is_lost(&source) {
            Error::ConnectionLost { doing: format!("running a statement of tenant {tenant}"), source }
        } else {
            Error::Statement { tenant, source }
        }
    }

    pub(super) async fn prepare(&self, operation: &'static str, sql: &str) -> Result<Statement> {
        match self.pooling {
            Pooling::Direct => self.run(self.lease.connection().prepare(self.gate.slug.as_str(), sql)).await,
            Pooling::Transaction => Err(Error::PoolerRefused { operation }),
        }
    }

    /// Prepares and runs. A statement whose result columns changed under it is forgotten, so that the next try works.
    async fn prepared<T, W>(&self, operation: &'static str, sql: &str, work: impl FnOnce(Statement) -> W) -> Result<T>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let statement = self.prepare(operation, sql).await?;
        let outcome = self.run(work(statement)).await;
        if let Err(Error::Statement { source, .. }) = &outcome
            && is_stale(source)
        {
            self.lease.connection().forget(self.gate.slug.as_str(), sql);
        }
        outcome
    }

    /// Sends a statement of our own without parameters and waits for it.
    async fn command(&self, sql: &str) -> Result<()> {
        let message = Message::send(self.client(), sql).await.map_err(|source| self.failed(source))?;
        let mut message = message;
        self.run(async { std::mem::take(message.answer().await).complete().map(drop) }).await
    }
}

impl<'c> TenantTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared }
    }

    /// The tenant.
    pub fn slug(&self) -> &TenantSlug {
        &self.shared.gate.slug
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// Kind `Failed` with the server's answer as source; the transaction can then only be rolled back, or back to a
    /// [`savepoint`](Self::savepoint). Kind `Unavailable` when the connection is lost. This is so for every statement here.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the statement may go on at the server; when the transaction ends before it has been answered, it is
    /// cancelled. This is so for every statement here.
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.shared.client();
        self.shared.prepared("query", sql, |statement| async move { client.query(&statement, params).await }).await
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for any other number of rows.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let client = self.shared.client();
        self.shared
            .prepared("query_one", sql, |statement| async move { client.query_one(&statement, params).await })
            .await
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for more than one row.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        let client = self.shared.client();
        self.shared
            .prepared("query_opt", sql, |statement| async move { client.query_opt(&statement, params).await })
            .await
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let client = self.shared.client();
        self.shared.prepared("execute", sql, |statement| async move { client.execute(&statement, params).await }).await
    }

    /// Runs a query whose parameter types are given. Prepares nothing: one round trip even the first time, and the way that
    /// works through every pooler.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        self.shared.run(self.shared.client().query_typed(sql, params)).await
    }

    /// Runs a statement whose parameter types are given and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        self.shared.run(self.shared.client().execute_typed(sql, params)).await
    }

    /// Runs a query and streams its rows, for results that do not fit into memory.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), from here or from the stream.
    pub async fn query_raw(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<TenantRows<'_>> {
        let client = self.shared.client();
        let params = params.iter().copied();
        let rows = self
            .shared
            .prepared("query_raw", sql, |statement| async move { client.query_raw(&statement, params).await })
            .await?;
        Ok(TenantRows {
            rows: Box::pin(rows),
            shared: self.shared,
            flight: Some(self.shared.lease.take_off()),
            tx: PhantomData,
        })
    }

    /// Begins `COPY … FROM STDIN`; the data goes into the sink, and [`TenantCopyIn::finish`] ends it.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), from here or from the sink.
    pub async fn copy_in<U>(&self, sql: &str) -> Result<TenantCopyIn<'_, U>>
    where
        U: bytes::Buf + Send + 'static,
    {
        let client = self.shared.client();
        let sink =
            self.shared.prepared("copy_in", sql, |statement| async move { client.copy_in(&statement).await }).await?;
        Ok(TenantCopyIn {
            sink: Box::pin(sink),
            shared: self.shared,
            flight: self.shared.lease.take_off(),
            tx: PhantomData,
        })
    }

    /// Begins `COPY … TO STDOUT` and streams its data.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), from here or from the stream.
    pub async fn copy_out(&self, sql: &str) -> Result<TenantCopyOut<'_>> {
        let client = self.shared.client();
        let data =
            self.shared.prepared("copy_out", sql, |statement| async move { client.copy_out(&statement).await }).await?;
        Ok(TenantCopyOut {
            data: Box::pin(data),
            shared: self.shared,
            flight: Some(self.shared.lease.take_off()),
            tx: PhantomData,
        })
    }

    /// Sets a savepoint. What is done through the value that is returned counts only once
    /// [`TenantSavepoint::release`] was called; dropped before that, it is rolled back, and the transaction goes on.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn savepoint(&mut self) -> Result<TenantSavepoint<'_>> {
        // PostgreSQL stacks savepoints of one name, and the borrow on `self` lets only the innermost be used.
        let savepoint = TenantSavepoint { tx: TenantTx { shared: self.shared }, state: SavepointState::Open };
        self.shared.command("savepoint cgk").await?;
        Ok(savepoint)
    }
}

/// A part of a tenant's transaction that can be undone on its own.
#[must_use = "a savepoint that is not released is rolled back"]
pub struct TenantSavepoint<'t> {
    tx: TenantTx<'t>,
    state: SavepointState,
}

#[derive(PartialEq, Eq)]
enum SavepointState {
    Open,
    Released,
}

impl TenantSavepoint<'_> {
    /// Keeps what was done since the savepoint; it is committed with the transaction.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`]; the part is then rolled back.
    pub async fn release(mut self) -> Result<()> {
        self.tx.shared.command("release savepoint cgk").await?;
        self.state = SavepointState::Released;
        Ok(())
    }
}

impl Drop for TenantSavepoint<'_> {
    fn drop(&mut self) {
        if self.state == SavepointState::Open {
            // Queued on the connection behind what is on its way, before whatever the caller sends next. Nobody waits for
            // the answer: should it fail, so does everything behind it.
            let client = self.tx.shared.client();
            let _ = Message::send(client, "rollback to savepoint cgk; release savepoint cgk").now_or_never();
        }
    }
}

impl<'t> Deref for TenantSavepoint<'t> {
    type Target = TenantTx<'t>;

    fn deref(&self) -> &TenantTx<'t> {
        &self.tx
    }
}

impl DerefMut for TenantSavepoint<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.tx
    }
}

/// The rows of [`TenantTx::query_raw`]; it cannot leave the transaction.
pub struct TenantRows<'t> {
    rows: Pin<Box<RowStream>>,
    shared: &'t Shared,
    flight: Option<Flight<'t>>,
    tx: PhantomData<&'t ()>,
}

impl Stream for TenantRows<'_> {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Row>>> {
        let this = &mut *self;
        stream_next(this.rows.as_mut(), this.shared, &mut this.flight, cx)
    }
}

/// The data of [`TenantTx::copy_out`]; it cannot leave the transaction.
pub struct TenantCopyOut<'t> {
    data: Pin<Box<CopyOutStream>>,
    shared: &'t Shared,
    flight: Option<Flight<'t>>,
    tx: PhantomData<&'t ()>,
}

impl Stream for TenantCopyOut<'_> {
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
    flight: &mut Option<Flight<'_>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<T>>> {
    let item = std::task::ready!(stream.poll_next(cx));
    if !matches!(item, Some(Ok(_)))
        && let Some(flight) = flight.take()
    {
        flight.land();
    }
    Poll::Ready(item.map(|item| item.map_err(|source| shared.failed(source))))
}

/// The sink of [`TenantTx::copy_in`]; it cannot leave the transaction. Dropped before [`TenantCopyIn::finish`], the COPY is
/// abandoned, and the transaction can only be rolled back.
#[must_use = "a COPY that is not finished is abandoned"]
pub struct TenantCopyIn<'t, U: bytes::Buf + Send + 'static> {
    sink: Pin<Box<CopyInSink<U>>>,
    shared: &'t Shared,
    flight: Flight<'t>,
    tx: PhantomData<&'t ()>,
}

impl<U: bytes::Buf + Send + 'static> TenantCopyIn<'_, U> {
    /// Ends the COPY and returns the number of rows it wrote.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`].
    pub async fn finish(mut self) -> Result<u64> {
        let rows = self.sink.as_mut().finish().await;
        self.flight.land();
        rows.map_err(|source| self.shared.failed(source))
    }
}

impl<U: bytes::Buf + Send + 'static> Sink<U> for TenantCopyIn<'_, U> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shared = self.shared;
        self.sink.as_mut().poll_ready(cx).map_err(|source| shared.failed(source))
    }

    fn start_send(mut self: Pin<&mut Self>, item: U) -> Result<()> {
        let shared = self.shared;
        self.sink.as_mut().start_send(item).map_err(|source| shared.failed(source))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shared = self.shared;
        self.sink.as_mut().poll_flush(cx).map_err(|source| shared.failed(source))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let shared = self.shared;
        self.sink.as_mut().poll_close(cx).map_err(|source| shared.failed(source))
    }
}
