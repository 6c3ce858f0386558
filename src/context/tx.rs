//! The transaction that a tenant's closure is given.

use super::{
    entry::Entry,
    lease::{Flight, Lease},
    protocol::{self, Gate, Reach},
};
use crate::{
    config::Pooling,
    db::message::{self, Message},
    error::{Error, Result},
    slug::TenantSlug,
    sqlstate::{self, StatementVerdict},
};
use futures_util::{FutureExt, Sink, Stream};
use std::{
    future::Future,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    /// The number of savepoints around it.
    depth: usize,
}

/// What a transaction and its savepoints share.
pub(super) struct Shared {
    pub(super) lease: Lease,
    pub(super) gate: Gate,
    pub(super) pooling: Pooling,
    entry: Answer,
    /// Whether the closure asked for the end of its transaction; that statement was not sent.
    tampered: AtomicBool,
    /// The first statement that failed, for the case that the closure ignores it.
    first_failure: Mutex<Option<SqlState>>,
}

/// The answer to the first message, for everybody who waits for it.
type Answer = futures_util::future::Shared<Pin<Box<dyn Future<Output = Verdict> + Send>>>;

/// Whether the tenant was entered.
#[derive(Clone)]
enum Verdict {
    Entered,
    /// Why not; taken out by whoever explains it.
    Refused(Arc<Mutex<Option<tokio_postgres::Error>>>),
}

impl Shared {
    pub(super) fn new(lease: Lease, gate: Gate, pooling: Pooling, mut entry: Entry) -> Self {
        let flight = lease.take_off();
        let verdict = async move {
            let refusal = entry.answer().await.take();
            flight.land();
            match refusal {
                None => Verdict::Entered,
                refusal => Verdict::Refused(Arc::new(Mutex::new(refusal))),
            }
        };
        Self {
            lease,
            gate,
            pooling,
            entry: FutureExt::shared(Box::pin(verdict)),
            tampered: AtomicBool::new(false),
            first_failure: Mutex::new(None),
        }
    }

    /// Waits for the answer to the first message.
    pub(super) async fn entered(&self) -> Result<()> {
        self.judge(&self.entry.clone().await)
    }

    fn judge(&self, verdict: &Verdict) -> Result<()> {
        match verdict {
            Verdict::Entered => Ok(()),
            Verdict::Refused(_) => Err(Error::EntryRefused { tenant: self.gate.slug.clone() }),
        }
    }

    /// Why the first message failed, once it has.
    pub(super) fn entry_error(&self) -> Option<tokio_postgres::Error> {
        match self.entry.peek()? {
            Verdict::Entered => None,
            Verdict::Refused(why) => why.lock().unwrap_or_else(PoisonError::into_inner).take(),
        }
    }

    pub(super) fn first_failure(&self) -> Option<SqlState> {
        self.failure().clone()
    }

    pub(super) fn is_tampered(&self) -> bool {
        self.tampered.load(Ordering::Relaxed)
    }

    fn failure(&self) -> MutexGuard<'_, Option<SqlState>> {
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> &Client {
        self.lease.connection().client()
    }

    /// Refuses a statement that would end the transaction: afterwards it would be too late.
    pub(super) fn admit(&self, sql: &str) -> Result<()> {
        match protocol::reach(sql) {
            Reach::Inside => Ok(()),
            Reach::SessionStatements => {
                self.lease.never_again();
                Ok(())
            }
            Reach::EndsTransaction => {
                self.tampered.store(true, Ordering::Relaxed);
                Err(Error::TransactionTampered { tenant: self.gate.slug.clone() })
            }
        }
    }

    /// Runs one piece of work, unless the tenant is known to be closed; its outcome counts only when the tenant was entered.
    async fn run<T>(&self, work: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        if let Some(verdict) = self.entry.peek() {
            self.judge(verdict)?;
            let flight = self.lease.take_off();
            let outcome = work.await;
            flight.land();
            return outcome.map_err(|source| self.failed(source));
        }
        let flight = self.lease.take_off();
        // Both are read at once: the driver stops reading from the wire when what it has read is not taken from it, and the
        // answer to the first message comes in any number of pieces.
        let (verdict, outcome) = futures_util::future::join(self.entry.clone(), work).await;
        flight.land();
        self.judge(&verdict)?;
        outcome.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: tokio_postgres::Error) -> Error {
        if let Some(state) = source.code() {
            self.failure().get_or_insert_with(|| state.clone());
        }
        let tenant = self.gate.slug.clone();
        if sqlstate::is_lost(&source) {
            return Error::ConnectionLost { doing: format!("running a statement of tenant {tenant}"), source };
        }
        if sqlstate::is_out_of_step(&source) {
            self.lease.fell_silent();
        }
        Error::Statement { tenant, source }
    }

    pub(super) async fn prepare(&self, operation: &'static str, sql: &str) -> Result<Statement> {
        self.admit(sql)?;
        if self.pooling == Pooling::Transaction {
            return Err(Error::PoolerRefused { operation });
        }
        let (connection, tenant) = (self.lease.connection(), self.gate.slug.as_str());
        // A statement that is known already needs no answer from the server and must not wait for one.
        match connection.prepared(tenant, sql) {
            Some(statement) => Ok(statement),
            None => self.run(connection.prepare(tenant, sql)).await,
        }
    }

    /// Prepares and runs. A statement that may have been made for tables as they were is forgotten, so that the next try
    /// works.
    async fn prepared<T, W>(&self, operation: &'static str, sql: &str, work: impl FnOnce(Statement) -> W) -> Result<T>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let statement = self.prepare(operation, sql).await?;
        let outcome = self.run(work(statement)).await;
        if let Err(Error::Statement { source, .. }) = &outcome {
            match sqlstate::verdict_on_statement(source) {
                StatementVerdict::Good => {}
                StatementVerdict::Stale => self.lease.connection().forget(self.gate.slug.as_str(), sql),
                StatementVerdict::AllGone => self.lease.connection().forget_all(),
            }
        }
        outcome
    }

    /// Sends a statement of our own without parameters and waits for it.
    async fn command(&self, sql: &str) -> Result<()> {
        self.run(async { message::run(self.client(), sql).await?.complete().map(drop) }).await
    }
}

impl<'c> TenantTx<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self { shared, depth: 0 }
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
    /// Dropped once it was polled, the statement goes on at the server. When the closure then returns `Ok`, the commit waits
    /// for it and contains it; when the transaction ends in another way, it is cancelled. This is so for every statement
    /// here.
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
        self.shared.admit(sql)?;
        self.shared.run(self.shared.client().query_typed(sql, params)).await
    }

    /// Runs a statement whose parameter types are given and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        self.shared.admit(sql)?;
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
            flight: Some(self.shared.lease.take_off()),
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
        // The borrow on `self` lets only the innermost be used, so the depth is a name of its own.
        let mut savepoint = TenantSavepoint {
            tx: TenantTx { shared: self.shared, depth: self.depth + 1 },
            // Open before it is sent: dropped while the answer is on its way, it is rolled back.
            state: SavepointState::Open,
            failed_before: self.shared.first_failure(),
        };
        let outcome = self.shared.command(&format!("savepoint {}", savepoint.name())).await;
        if outcome.is_err() {
            savepoint.state = SavepointState::Closed;
        }
        outcome.map(|()| savepoint)
    }
}

/// A part of a tenant's transaction that can be undone on its own.
#[must_use = "a savepoint that is not released is rolled back"]
pub struct TenantSavepoint<'t> {
    tx: TenantTx<'t>,
    state: SavepointState,
    /// What had failed in the transaction before: a failure inside is forgotten when it is undone.
    failed_before: Option<SqlState>,
}

#[derive(PartialEq, Eq)]
enum SavepointState {
    Open,
    /// Released, or never made.
    Closed,
}

impl TenantSavepoint<'_> {
    /// Keeps what was done since the savepoint; it is committed with the transaction.
    ///
    /// # Errors
    ///
    /// As [`TenantTx::query`]; the part is then rolled back.
    ///
    /// # Cancel safety
    ///
    /// Dropped once it was polled, the part is kept, or, where something in it had failed, the transaction cannot commit.
    pub async fn release(mut self) -> Result<()> {
        let sql = format!("release savepoint {}", self.name());
        // On its way from here on: a ROLLBACK TO sent behind it would not find the savepoint.
        self.state = SavepointState::Closed;
        let outcome = self.tx.shared.command(&sql).await;
        if outcome.is_err() {
            self.state = SavepointState::Open;
        }
        outcome
    }

    fn name(&self) -> String {
        format!("cgk_{}", self.tx.depth)
    }
}

impl Drop for TenantSavepoint<'_> {
    fn drop(&mut self) {
        if self.state == SavepointState::Open {
            // Queued on the connection behind what is on its way, before whatever the caller sends next. Nobody waits for
            // the answer: should it fail, so does everything behind it.
            let (shared, name) = (self.tx.shared, self.name());
            let sql = format!("rollback to savepoint {name}; release savepoint {name}");
            let _ = Message::send(shared.client(), &sql).now_or_never();
            *shared.failure() = self.failed_before.take();
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
    flight: Option<Flight>,
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
    flight: Option<Flight>,
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
    flight: &mut Option<Flight>,
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
    flight: Option<Flight>,
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
        if let Some(flight) = self.flight.take() {
            flight.land();
        }
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
        let closed = std::task::ready!(self.sink.as_mut().poll_close(cx));
        if let Some(flight) = self.flight.take() {
            flight.land();
        }
        Poll::Ready(closed.map_err(|source| self.shared.failed(source)))
    }
}
