//! The statements of a transaction, for functions that accept transactions of any kind.

use super::{
    row::FromRow,
    savepoint::Savepoint,
    stream::{BinaryCopyIn, BinaryCopyOut, CopyIn, CopyOut, Rows},
    tx::AnyTx,
};
use crate::error::Result;
use bytes::Buf;
use std::{future::Future, pin::Pin};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

mod sealed {
    /// Restricts [`Statements`](super::Statements) to the transactions of this crate. Other types would lack the
    /// protections.
    pub trait Sealed {}
    impl Sealed for crate::tenancy::TenantTx<'_> {}
    impl Sealed for crate::tenancy::PlatformTx<'_> {}
    impl Sealed for crate::tenancy::ReaderTx<'_> {}
    impl Sealed for crate::tenancy::AnyTx<'_> {}
}

/// The return type of the methods of [`Statements`]. It is a boxed future instead of `impl Future`. The compiler cannot
/// prove that a future that borrows a transaction is `Send` for every lifetime, so `impl Future` could not be used in a
/// spawned task.
pub type StatementFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The common methods of all transactions, such as [`TenantTx`](super::TenantTx) and [`PlatformTx`](super::PlatformTx),
/// for functions that accept any of them.
///
/// Each type has the same methods directly, with their documentation. To call those, you do not need to import this
/// trait.
///
/// ```no_run
/// use cgk::{Result, Statements};
///
/// async fn note(tx: &impl Statements, text: &str) -> Result<u64> {
///     tx.execute("insert into notes (text) values ($1)", &[&text]).await
/// }
///
/// # async fn example(db: cgk::Db, acme: cgk::TenantSlug) -> Result<()> {
/// db.with_tenant(&acme, async |tx| note(tx, "for one").await).await?;
/// db.platform().transaction(async |tx| note(tx, "for all").await).await?;
/// # Ok(()) }
/// ```
pub trait Statements: sealed::Sealed + Send + Sync {
    /// Runs a query and returns its rows.
    fn query<'a>(&'a self, sql: &'a str, params: &'a [&'a (dyn ToSql + Sync)]) -> StatementFuture<'a, Vec<Row>>;

    /// Runs a query that returns exactly one row.
    fn query_one<'a>(&'a self, sql: &'a str, params: &'a [&'a (dyn ToSql + Sync)]) -> StatementFuture<'a, Row>;

    /// Runs a query that returns one row or none.
    fn query_opt<'a>(&'a self, sql: &'a str, params: &'a [&'a (dyn ToSql + Sync)]) -> StatementFuture<'a, Option<Row>>;

    /// Runs a query and reads each row as a value.
    fn query_as<'a, T: FromRow<How> + Send + 'a, How: 'a>(
        &'a self,
        sql: &'a str,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> StatementFuture<'a, Vec<T>>
    where
        Self: Sized;

    /// Runs a statement and returns the number of rows that it changed.
    fn execute<'a>(&'a self, sql: &'a str, params: &'a [&'a (dyn ToSql + Sync)]) -> StatementFuture<'a, u64>;

    /// Runs several statements without parameters in one round trip.
    fn execute_all<'a>(&'a self, statements: &'a [&'a str]) -> StatementFuture<'a, ()>;

    /// Runs a query with explicit parameter types.
    fn query_typed<'a>(
        &'a self,
        sql: &'a str,
        params: &'a [(&'a (dyn ToSql + Sync), Type)],
    ) -> StatementFuture<'a, Vec<Row>>;

    /// Runs a statement with explicit parameter types and returns the number of rows that it changed.
    fn execute_typed<'a>(
        &'a self,
        sql: &'a str,
        params: &'a [(&'a (dyn ToSql + Sync), Type)],
    ) -> StatementFuture<'a, u64>;

    /// Runs a query and streams its rows.
    fn query_raw<'a, 't: 'a>(
        &'t mut self,
        sql: &'a str,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> StatementFuture<'a, Rows<'t>>;

    /// Starts `COPY … FROM STDIN`.
    fn copy_in<'a, 't: 'a, U: Buf + Send + 'static>(&'t mut self, sql: &'a str) -> StatementFuture<'a, CopyIn<'t, U>>
    where
        Self: Sized;

    /// Starts `COPY … TO STDOUT`.
    fn copy_out<'a, 't: 'a>(&'t mut self, sql: &'a str) -> StatementFuture<'a, CopyOut<'t>>;

    /// Starts `COPY … FROM STDIN (FORMAT binary)`.
    fn binary_copy_in<'a, 't: 'a>(
        &'t mut self,
        sql: &'a str,
        types: &'a [Type],
    ) -> StatementFuture<'a, BinaryCopyIn<'t>>;

    /// Starts `COPY … TO STDOUT (FORMAT binary)`.
    fn binary_copy_out<'a, 't: 'a>(
        &'t mut self,
        sql: &'a str,
        types: &'a [Type],
    ) -> StatementFuture<'a, BinaryCopyOut<'t>>;

    /// Sets a savepoint.
    fn savepoint<'t>(&'t mut self) -> StatementFuture<'t, Savepoint<'t, AnyTx<'t>>>;
}
