//! The methods of the transactions that closures receive.

use super::{
    row::FromRow,
    savepoint::Savepoint,
    statements::{StatementFuture, Statements},
    stream::{BinaryCopyIn, BinaryCopyOut, CopyIn, CopyOut, Rows},
    tx::{AnyTx, PlatformTx, ReaderTx, TenantTx},
};
use crate::error::Result;
use bytes::Buf;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Defines the methods of a transaction, and implements [`Statements`] with them.
macro_rules! statements {
    ($Tx:ident) => {
        impl<'c> $Tx<'c> {
            /// Runs a query and returns its rows.
            ///
            /// # Errors
            ///
            /// This applies to every statement here:
            ///
            /// - Kind `Failed`, with the server's error as source: when the server refuses the statement.
            /// - Kind `Invalid`: when the driver refuses the statement and sends nothing. The reason is a parameter of
            ///   another type, another number of parameters, more than 65,535 of them, or a zero byte in the text.
            /// - Kind `Unavailable`: when the connection is lost.
            ///
            /// After `Failed` or `Invalid`, the transaction can only be rolled back, or rolled back to a
            /// [`savepoint`](Self::savepoint). If a closure ignores the error and returns `Ok`, a tenant's transaction
            /// returns [`TransactionError::Aborted`](crate::TransactionError::Aborted).
            ///
            /// After a refusal by the driver, the server still executes further statements, but the transaction commits
            /// none of them. A `ROLLBACK TO SAVEPOINT` in your own SQL text does not change that.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped after the statement was sent, the server continues to execute it. If the
            /// closure then returns `Ok`, the commit waits for the statement and includes it. If the transaction ends
            /// in another way, the statement is cancelled.
            ///
            /// The statement is sent when its future is first polled, with three exceptions:
            ///
            /// - The first time that a statement with parameters runs in the tenant, cgk first asks the server for
            ///   their types.
            /// - A COPY is prepared first.
            /// - Behind a pooler, the first statement waits for the response to the entry.
            ///
            /// If the future is dropped during that time, the statement never runs, and the transaction does not
            /// commit. The error then has kind `Refused`. For a tenant, it is
            /// [`TransactionError::StatementDropped`](crate::TransactionError::StatementDropped). This applies to every
            /// statement here.
            pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
                self.shared.query(sql, params).await
            }

            /// Runs a query that returns exactly one row.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). Kind `Failed`: when there is any other number of rows. The statement was
            /// then executed, and the transaction can continue.
            pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
                self.shared.query_one(sql, params).await
            }

            /// Runs a query that returns one row or none.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). Kind `Failed`: when there is more than one row. The statement was then
            /// executed, and the transaction can continue.
            pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
                self.shared.query_opt(sql, params).await
            }

            /// Runs a query and reads each row as a value: a tuple, or a type that implements
            /// [`FromRow`](crate::FromRow).
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). Kind `Failed`: when a row does not match the type. The transaction can
            /// then continue.
            pub async fn query_as<T: FromRow<How>, How>(
                &self,
                sql: &str,
                params: &[&(dyn ToSql + Sync)],
            ) -> Result<Vec<T>> {
                self.shared.query_as(sql, params).await
            }

            /// Runs a statement and returns the number of rows that it changed.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
                self.shared.execute(sql, params).await
            }

            /// Runs several statements without parameters, in this order and in one round trip. Each text is one
            /// statement. The server refuses a text with several statements.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query), for the first failure. If the form of one statement is refused, none of
            /// them is sent.
            pub async fn execute_all(&self, statements: &[&str]) -> Result<()> {
                self.shared.execute_all(statements).await
            }

            /// Runs a query with explicit parameter types. It prepares nothing. It takes one round trip even the first
            /// time, and works through every pooler.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
                self.shared.query_typed(sql, params).await
            }

            /// Runs a statement with explicit parameter types and returns the number of rows that it changed.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
                self.shared.execute_typed(sql, params).await
            }

            /// Returns the driver's client inside of this transaction, for generated code and for libraries that need
            /// one. The client has `prepare`, accepts [`ToStatement`](tokio_postgres::ToStatement), and returns the
            /// driver's error. Waits until the transaction is open.
            ///
            /// ```no_run
            /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> Result<(), cgk::Error> {
            /// let open: Vec<i64> = db
            ///     .with_tenant(&slug, async |tx| {
            ///         let client = tx.client().await?;
            ///         let statement = client.prepare("select id from orders where not paid").await?;
            ///         let rows = client.query(&statement, &[]).await?;
            ///         Ok(rows.iter().map(|row| row.get(0)).collect())
            ///     })
            ///     .await?;
            /// # Ok(()) }
            /// ```
            ///
            /// # What is guarded
            ///
            /// The end of the transaction. It commits only if the session is still in the same transaction, tenant,
            /// role, search path and organization. The session is reset afterwards. If SQL prepared a statement that
            /// still exists on the connection, the connection is not used again.
            ///
            /// # What is not guarded
            ///
            /// The form of a statement is not checked before it is sent. Text such as `commit` or `set local role none`
            /// reaches the server. What such a text commits is not undone, although the call then fails. Statements
            /// after it run with the rights of the login. So never build a text for this client from input.
            ///
            /// Behind a transaction pooler, a named prepared statement can collide with one of another client. A
            /// [`cancel_token`](tokio_postgres::Client::cancel_token) that is used after the transaction cancels a
            /// statement of the next one.
            ///
            /// # Errors
            ///
            /// Fails if the transaction could not be opened. The client's own errors are the driver's errors. After
            /// one, the transaction can only roll back.
            ///
            /// # Cancel safety
            ///
            /// Sends nothing. A statement of the client whose future is dropped is treated like a statement of this
            /// transaction.
            pub async fn client(&self) -> Result<&tokio_postgres::Client> {
                self.shared.entered().await?;
                Ok(self.shared.client())
            }

            /// Runs a query and streams its rows, for results that do not fit into memory.
            ///
            /// While the rows are read, no other statement can be sent. The server responds in order, so a statement
            /// inside the loop would wait for rows that are not consumed. Instead, use one of these ways:
            ///
            /// - Collect the rows first.
            /// - Read a cursor in batches: `declare c cursor for …`, then `fetch 1000 from c` until there are no more
            ///   rows.
            /// - Write from another `with_tenant`.
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
            /// Same as [`query`](Self::query). This call or the stream returns the error.
            pub async fn query_raw(&mut self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Rows<'_>> {
                self.shared.query_raw(sql, params).await
            }

            /// Starts `COPY … FROM STDIN`. Write the data into the sink, and end it with [`CopyIn::finish`]. No other
            /// statement can be sent during this time.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). This call or the sink returns the error.
            pub async fn copy_in<U: Buf + Send + 'static>(&mut self, sql: &str) -> Result<CopyIn<'_, U>> {
                self.shared.copy_in(sql).await
            }

            /// Starts `COPY … TO STDOUT` and streams its data. No other statement can be sent during this time.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). This call or the stream returns the error.
            pub async fn copy_out(&mut self, sql: &str) -> Result<CopyOut<'_>> {
                self.shared.copy_out(sql).await
            }

            /// Starts `COPY … FROM STDIN (FORMAT binary)` with columns of these types. Write each row as values, and
            /// end it with [`BinaryCopyIn::finish`]. No other statement can be sent during this time.
            ///
            /// ```no_run
            /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> cgk::Result<()> {
            /// use cgk::tokio_postgres::types::Type;
            /// let rows = db
            ///     .with_tenant(&slug, async |tx| {
            ///         let copy = "copy customers (email) from stdin (format binary)";
            ///         let mut copy = tx.binary_copy_in(copy, &[Type::TEXT]).await?;
            ///         copy.write(&[&"ada@example.com"]).await?;
            ///         copy.finish().await
            ///     })
            ///     .await?;
            /// # Ok(()) }
            /// ```
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). This call or the writer returns the error.
            pub async fn binary_copy_in(&mut self, sql: &str, types: &[Type]) -> Result<BinaryCopyIn<'_>> {
                self.shared.binary_copy_in(sql, types).await
            }

            /// Starts `COPY … TO STDOUT (FORMAT binary)` with columns of these types and streams its rows. No other
            /// statement can be sent during this time.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query). This call or the stream returns the error.
            pub async fn binary_copy_out(&mut self, sql: &str, types: &[Type]) -> Result<BinaryCopyOut<'_>> {
                self.shared.binary_copy_out(sql, types).await
            }

            /// Sets a savepoint. Changes made through the returned value are kept only after [`Savepoint::release`]. If
            /// the value is dropped before that, its changes are rolled back, and the transaction continues.
            ///
            /// # Errors
            ///
            /// Same as [`query`](Self::query).
            pub async fn savepoint(&mut self) -> Result<Savepoint<'_, $Tx<'_>>> {
                // The borrow of `self` allows only the innermost savepoint to be used, so the depth identifies it.
                let depth = self.depth + 1;
                Savepoint::set(self.shared, depth, $Tx { shared: self.shared, depth }).await
            }
        }

        impl Statements for $Tx<'_> {
            fn query<'a>(
                &'a self,
                sql: &'a str,
                params: &'a [&'a (dyn ToSql + Sync)],
            ) -> StatementFuture<'a, Vec<Row>> {
                Box::pin(self.shared.query(sql, params))
            }

            fn query_one<'a>(&'a self, sql: &'a str, params: &'a [&'a (dyn ToSql + Sync)]) -> StatementFuture<'a, Row> {
                Box::pin(self.shared.query_one(sql, params))
            }

            fn query_opt<'a>(
                &'a self,
                sql: &'a str,
                params: &'a [&'a (dyn ToSql + Sync)],
            ) -> StatementFuture<'a, Option<Row>> {
                Box::pin(self.shared.query_opt(sql, params))
            }

            fn query_as<'a, T: FromRow<How> + Send + 'a, How: 'a>(
                &'a self,
                sql: &'a str,
                params: &'a [&'a (dyn ToSql + Sync)],
            ) -> StatementFuture<'a, Vec<T>>
            where
                Self: Sized,
            {
                Box::pin(self.shared.query_as(sql, params))
            }

            fn execute<'a>(&'a self, sql: &'a str, params: &'a [&'a (dyn ToSql + Sync)]) -> StatementFuture<'a, u64> {
                Box::pin(self.shared.execute(sql, params))
            }

            fn execute_all<'a>(&'a self, statements: &'a [&'a str]) -> StatementFuture<'a, ()> {
                Box::pin(self.shared.execute_all(statements))
            }

            fn query_typed<'a>(
                &'a self,
                sql: &'a str,
                params: &'a [(&'a (dyn ToSql + Sync), Type)],
            ) -> StatementFuture<'a, Vec<Row>> {
                Box::pin(self.shared.query_typed(sql, params))
            }

            fn execute_typed<'a>(
                &'a self,
                sql: &'a str,
                params: &'a [(&'a (dyn ToSql + Sync), Type)],
            ) -> StatementFuture<'a, u64> {
                Box::pin(self.shared.execute_typed(sql, params))
            }

            fn query_raw<'a, 't: 'a>(
                &'t mut self,
                sql: &'a str,
                params: &'a [&'a (dyn ToSql + Sync)],
            ) -> StatementFuture<'a, Rows<'t>> {
                Box::pin(self.shared.query_raw(sql, params))
            }

            fn copy_in<'a, 't: 'a, U: Buf + Send + 'static>(
                &'t mut self,
                sql: &'a str,
            ) -> StatementFuture<'a, CopyIn<'t, U>>
            where
                Self: Sized,
            {
                Box::pin(self.shared.copy_in(sql))
            }

            fn copy_out<'a, 't: 'a>(&'t mut self, sql: &'a str) -> StatementFuture<'a, CopyOut<'t>> {
                Box::pin(self.shared.copy_out(sql))
            }

            fn binary_copy_in<'a, 't: 'a>(
                &'t mut self,
                sql: &'a str,
                types: &'a [Type],
            ) -> StatementFuture<'a, BinaryCopyIn<'t>> {
                Box::pin(self.shared.binary_copy_in(sql, types))
            }

            fn binary_copy_out<'a, 't: 'a>(
                &'t mut self,
                sql: &'a str,
                types: &'a [Type],
            ) -> StatementFuture<'a, BinaryCopyOut<'t>> {
                Box::pin(self.shared.binary_copy_out(sql, types))
            }

            fn savepoint<'t>(&'t mut self) -> StatementFuture<'t, Savepoint<'t, AnyTx<'t>>> {
                let (shared, depth) = (self.shared, self.depth + 1);
                Box::pin(Savepoint::set(shared, depth, AnyTx::new(shared, depth)))
            }
        }
    };
}

statements!(TenantTx);
statements!(PlatformTx);
statements!(ReaderTx);
statements!(AnyTx);
