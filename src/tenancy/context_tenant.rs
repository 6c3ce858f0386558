//! The tenant of the current context.

use super::{Db, TenantFn, TxOptions, row::FromRow};
use crate::{
    context::TenantContext,
    error::{Error, Result},
};
use std::{future::Future, sync::Arc};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// The tenant of a [`TenantContext`]; from [`Db::current`] and `Db::tenant_of`.
///
/// It is bound to its context wherever it is used. Every call enters the tenant by the context's slug. The call fails
/// with [`TenantError::ContextStale`](crate::TenantError::ContextStale) if that slug now belongs to another
/// organization.
pub struct ContextTenant<'a, E = Error> {
    db: &'a Db<E>,
    context: Arc<TenantContext>,
}

impl<E: From<Error> + Send> Db<E> {
    /// Returns the tenant of the current context.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> cgk::Result<()> {
    /// async fn orders(db: &cgk::Db) -> cgk::Result<i64> {
    ///     let row = db.current()?.query_one("select count(*) from orders", &[]).await?;
    ///     Ok(row.try_get(0)?)
    /// }
    /// let context = cgk::TenantContext::new(cgk::OrganizationId(Default::default()), "acme".parse()?);
    /// context.scope(orders(&db)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TenantError::NoContext`](crate::TenantError::NoContext): when there is no current context.
    pub fn current(&self) -> Result<ContextTenant<'_, E>, E> {
        Ok(ContextTenant { db: self, context: TenantContext::current()? })
    }
}

impl<'a, E> ContextTenant<'a, E> {
    /// Returns the tenant of the given context.
    #[cfg(feature = "platform")]
    pub(crate) fn of(db: &'a Db<E>, context: Arc<TenantContext>) -> Self {
        Self { db, context }
    }
}

impl<E: From<Error> + Send> ContextTenant<'_, E> {
    /// Returns the context.
    pub fn context(&self) -> &TenantContext {
        &self.context
    }

    /// Runs [`Db::with_tenant`] for the context's tenant.
    ///
    /// # Locks
    ///
    /// Same as [`Db::with_tenant`].
    ///
    /// # Errors
    ///
    /// Same as [`Db::with_tenant`], and [`TenantError::ContextStale`](crate::TenantError::ContextStale), kind
    /// `Conflict`. After the latter, no statement of the body was executed.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Db::with_tenant`].
    pub fn transaction<T: Send, F: TenantFn<T, E>>(&self, body: F) -> impl Future<Output = Result<T, E>> + Send {
        self.context.quietly(self.db.with_tenant(&self.context.slug, body))
    }

    /// Runs [`Db::with_tenant_in`] for the context's tenant.
    ///
    /// # Errors
    ///
    /// Same as [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// Same as [`Db::with_tenant`].
    pub fn transaction_in<T: Send, F: TenantFn<T, E>>(
        &self,
        options: &TxOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        self.context.quietly(self.db.with_tenant_in(&self.context.slug, options, body))
    }
}

/// Defines methods for single statements. Each runs like the same method of [`TenantHandle`](crate::TenantHandle), in
/// the tenant of the context.
macro_rules! single_statement {
    ($($(#[$doc:meta])* $name:ident($($param:ident: $Param:ty),*) -> $Answer:ty;)*) => {
        impl<E: From<Error> + Send> ContextTenant<'_, E> {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                ///
                /// Same as the method of [`TenantHandle`](crate::TenantHandle), and
                /// [`TenantError::ContextStale`](crate::TenantError::ContextStale).
                ///
                /// # Cancel safety
                ///
                /// Same as the method of [`TenantHandle`](crate::TenantHandle).
                pub async fn $name(&self, $($param: $Param),*) -> Result<$Answer, E> {
                    self.context.quietly(self.db.tenant(&self.context.slug).$name($($param),*)).await
                }
            )*
        }
    };
}

single_statement! {
    /// Runs a query and returns its rows.
    query(sql: &str, params: &[&(dyn ToSql + Sync)]) -> Vec<Row>;
    /// Runs a query that returns exactly one row.
    query_one(sql: &str, params: &[&(dyn ToSql + Sync)]) -> Row;
    /// Runs a query that returns one row or none.
    query_opt(sql: &str, params: &[&(dyn ToSql + Sync)]) -> Option<Row>;
    /// Runs a statement and returns the number of rows that it changed.
    execute(sql: &str, params: &[&(dyn ToSql + Sync)]) -> u64;
    /// Runs a query with explicit parameter types.
    query_typed(sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> Vec<Row>;
    /// Runs a statement with explicit parameter types and returns the number of rows that it changed.
    execute_typed(sql: &str, params: &[(&(dyn ToSql + Sync), Type)]) -> u64;
}

impl<E: From<Error> + Send> ContextTenant<'_, E> {
    /// Runs a query and reads each row as a value.
    ///
    /// # Errors
    ///
    /// Same as [`TenantHandle::query_as`](crate::TenantHandle::query_as), and
    /// [`TenantError::ContextStale`](crate::TenantError::ContextStale).
    ///
    /// # Cancel safety
    ///
    /// Same as [`TenantHandle::query_as`](crate::TenantHandle::query_as).
    pub async fn query_as<T: FromRow<How>, How>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<T>, E> {
        self.context.quietly(self.db.tenant(&self.context.slug).query_as(sql, params)).await
    }
}
