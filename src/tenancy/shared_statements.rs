//! Sends each kind of statement of a transaction.

use super::{
    row::{self, FromRow},
    shared::Shared,
    stream::{BinaryCopyIn, BinaryCopyOut, CopyIn, CopyOut, Rows},
};
use crate::error::Result;
use bytes::{Buf, Bytes};
use futures_util::future::{Either, join_all};
use std::{
    future::{Future, poll_fn, ready},
    task::Poll,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

impl Shared {
    pub(super) async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let client = self.client();
        self.described(sql, params, |typed| async move { client.query_typed(sql, &typed).await }).await
    }

    pub(super) async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let client = self.client();
        self.described(sql, params, |typed| async move { client.query_typed_one(sql, &typed).await }).await
    }

    pub(super) async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>> {
        let client = self.client();
        self.described(sql, params, |typed| async move { client.query_typed_opt(sql, &typed).await }).await
    }

    pub(super) async fn query_as<T: FromRow<How>, How>(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<T>> {
        let rows = self.query(sql, params).await?;
        // The statement succeeded, so the transaction can continue.
        row::read(&rows).map_err(|source| self.scope.failed(source))
    }

    pub(super) async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let client = self.client();
        self.described(sql, params, |typed| async move { client.execute_typed(sql, &typed).await }).await
    }

    pub(super) async fn execute_all(&self, statements: &[&str]) -> Result<()> {
        for sql in statements {
            self.admit(sql)?;
        }
        let mut sent = Vec::with_capacity(statements.len());
        for sql in statements {
            let mut work = Box::pin(self.run(self.client().execute_typed(sql, &[])));
            // The first poll writes the statement to the connection, so the statements are sent in this order.
            sent.push(match poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await {
                Poll::Ready(outcome) => Either::Left(ready(outcome)),
                Poll::Pending => Either::Right(work),
            });
        }
        // All responses are awaited even after a failure. An unread response would block the session.
        join_all(sent).await.into_iter().try_for_each(|outcome| outcome.map(drop))
    }

    pub(super) async fn query_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        self.admit(sql)?;
        self.run(self.client().query_typed(sql, params)).await
    }

    pub(super) async fn execute_typed(&self, sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        self.admit(sql)?;
        self.run(self.client().execute_typed(sql, params)).await
    }

    pub(super) async fn query_raw(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Rows<'_>> {
        let client = self.client();
        let rows = self.described(sql, params, |typed| async move { client.query_typed_raw(sql, typed).await }).await?;
        Ok(Rows::new(self, rows))
    }

    pub(super) async fn copy_in<U: Buf + Send + 'static>(&self, sql: &str) -> Result<CopyIn<'_, U>> {
        let statement = self.prepare(sql).await?;
        let sink = self.run(self.client().copy_in(&statement)).await?;
        Ok(CopyIn::new(self, sink))
    }

    pub(super) async fn copy_out(&self, sql: &str) -> Result<CopyOut<'_>> {
        let statement = self.prepare(sql).await?;
        let data = self.run(self.client().copy_out(&statement)).await?;
        Ok(CopyOut::new(self, data))
    }

    pub(super) async fn binary_copy_in(&self, sql: &str, types: &[Type]) -> Result<BinaryCopyIn<'_>> {
        let statement = self.prepare(sql).await?;
        let sink = self.run(self.client().copy_in::<_, Bytes>(&statement)).await?;
        Ok(BinaryCopyIn::new(self, sink, types))
    }

    pub(super) async fn binary_copy_out(&self, sql: &str, types: &[Type]) -> Result<BinaryCopyOut<'_>> {
        let statement = self.prepare(sql).await?;
        let data = self.run(self.client().copy_out(&statement)).await?;
        Ok(BinaryCopyOut::new(self, data, types))
    }
}
