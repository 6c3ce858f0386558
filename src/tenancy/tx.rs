//! The transaction that a tenant's closure is given.

use super::{
    failure::Failure,
    shared::Shared,
    stream::{TenantCopyIn, TenantCopyOut, TenantRows},
};
use crate::{db::message::Message, error::Result, slug::TenantSlug};
use futures_util::FutureExt;
use std::ops::{Deref, DerefMut};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// A transaction that sees one tenant and nothing else.
///
/// It offers statements and savepoints and no way to the connection underneath. Statements go out when their future is
/// first polled, in that order, so several may be on their way at once (`tokio::join!`); all of them must be polled on, because
/// the server answers in order. The parameters and rows are tokio-postgres's own.
///
/// Through a transaction pooler (`pooled = true`) only [`query_typed`](Self::query_typed) and
/// [`execute_typed`](Self::execute_typed) work: a named prepared statement may meet another client's of the same name there.
pub struct TenantTx<'c> {
    shared: &'c Shared,
    /// The number of savepoints around it.
    depth: usize,
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
        self.shared.described(sql, params, |typed| async move { client.query_typed(sql, &typed).await }).await
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for any other number of rows.
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let client = self.shared.client();
        self.shared.described(sql, params, |typed| async move { client.query_typed_one(sql, &typed).await }).await
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), and kind `Failed` for more than one row.
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        let client = self.shared.client();
        self.shared.described(sql, params, |typed| async move { client.query_typed_opt(sql, &typed).await }).await
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query).
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let client = self.shared.client();
        self.shared.described(sql, params, |typed| async move { client.execute_typed(sql, &typed).await }).await
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
    /// While the rows are read, no other statement can be sent: the server answers in order, so one inside the loop would wait
    /// for rows that nobody takes. Collect the rows first, read a cursor in batches (`declare c cursor for …`, then
    /// `fetch 1000 from c` as often as there are rows), or write from another `with_tenant`.
    ///
    /// ```compile_fail,E0502
    /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// use futures_util::TryStreamExt;
    /// db.with_tenant(&slug, async |tx| {
    ///     let mut rows = tx.query_raw("select id from orders", &[]).await?;
    ///     while let Some(row) = rows.try_next().await? {
    ///         tx.execute("update orders set seen = true where id = $1", &[&row.get::<_, i64>(0)]).await?;
    ///     }
    ///     Ok::<_, cgk::Error>(())
    /// })
    /// .await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), from here or from the stream.
    pub async fn query_raw(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<TenantRows<'_>> {
        let client = self.shared.client();
        let rows =
            self.shared.described(sql, params, |typed| async move { client.query_typed_raw(sql, typed).await }).await?;
        Ok(TenantRows::new(self.shared, rows))
    }

    /// Begins `COPY … FROM STDIN`; the data goes into the sink, and [`TenantCopyIn::finish`] ends it. No other statement can be
    /// sent meanwhile.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), from here or from the sink.
    pub async fn copy_in<U>(&mut self, sql: &str) -> Result<TenantCopyIn<'_, U>>
    where
        U: bytes::Buf + Send + 'static,
    {
        self.shared.admit(sql)?;
        let sink = self.shared.run(self.shared.client().copy_in(sql)).await?;
        Ok(TenantCopyIn::new(self.shared, sink))
    }

    /// Begins `COPY … TO STDOUT` and streams its data. No other statement can be sent meanwhile.
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query), from here or from the stream.
    pub async fn copy_out(&mut self, sql: &str) -> Result<TenantCopyOut<'_>> {
        self.shared.admit(sql)?;
        let data = self.shared.run(self.shared.client().copy_out(sql)).await?;
        Ok(TenantCopyOut::new(self.shared, data))
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
            failed_before: self.shared.failures.save(),
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
    failed_before: Option<Failure>,
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
            shared.failures.restore(self.failed_before.take());
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
