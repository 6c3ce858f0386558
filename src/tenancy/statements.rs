//! The statements of a transaction, for functions that take a tenant's or the platform's.

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
    /// Keeps [`Statements`](super::Statements) to the transactions of this crate: others would lack the guards.
    pub trait Sealed {}
    impl Sealed for crate::tenancy::TenantTx<'_> {}
    impl Sealed for crate::tenancy::PlatformTx<'_> {}
    impl Sealed for crate::tenancy::AnyTx<'_> {}
}

/// What a method of [`Statements`] returns. A boxed future and not an `impl Future`: of one that borrows a transaction the
/// compiler cannot show that it is `Send` for every lifetime, and so it could not stand in a spawned task.
pub type StatementFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What a [`TenantTx`](super::TenantTx) and a [`PlatformTx`](super::PlatformTx) have in common, for functions that take either.
///
/// Both have the same methods of their own, with the documentation; the trait need not be imported to call them.
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

    /// Runs a query whose parameter types are given.
    fn query_typed<'a>(
        &'a self,
        sql: &'a str,
        params: &'a [(&'a (dyn ToSql + Sync), Type)],
    ) -> StatementFuture<'a, Vec<Row>>;

    /// Runs a statement whose parameter types are given and returns the number of rows that it changed.
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

    /// Begins `COPY … FROM STDIN`.
    fn copy_in<'a, 't: 'a, U: Buf + Send + 'static>(&'t mut self, sql: &'a str) -> StatementFuture<'a, CopyIn<'t, U>>
    where
        Self: Sized;

    /// Begins `COPY … TO STDOUT`.
    fn copy_out<'a, 't: 'a>(&'t mut self, sql: &'a str) -> StatementFuture<'a, CopyOut<'t>>;

    /// Begins `COPY … FROM STDIN (FORMAT binary)`.
    fn binary_copy_in<'a, 't: 'a>(
        &'t mut self,
        sql: &'a str,
        types: &'a [Type],
    ) -> StatementFuture<'a, BinaryCopyIn<'t>>;

    /// Begins `COPY … TO STDOUT (FORMAT binary)`.
    fn binary_copy_out<'a, 't: 'a>(
        &'t mut self,
        sql: &'a str,
        types: &'a [Type],
    ) -> StatementFuture<'a, BinaryCopyOut<'t>>;

    /// Sets a savepoint.
    fn savepoint<'t>(&'t mut self) -> StatementFuture<'t, Savepoint<'t, AnyTx<'t>>>;
}
