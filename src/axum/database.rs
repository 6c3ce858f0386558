//! Database access as the tenant of a request.

use super::{
    extract::{context, resolved},
    problem::Problem,
};
use crate::{
    context::TenantContext,
    error::Error,
    tenancy::{ContextTenant, Db, FromRow, TenantFn, TxOptions},
};
use ::axum::extract::FromRequestParts;
use http::request::Parts;
use std::{fmt, sync::Arc};
use tokio_postgres::{Row, types::ToSql};

/// Database access as the tenant of the request's context, and no other tenant. Without a credential: 401.
///
/// This is [`Db::current`] with the context of the request. It stays bound to that context in other tasks and in a
/// streamed body. `TenantDb<E>` has an application's error type ([`Db::errors`]); [`Problem`] can be used as one:
///
/// ```no_run
/// use axum::http::StatusCode;
/// use cgk::axum::{Problem, TenantDb};
///
/// async fn cancel(db: TenantDb<Problem>) -> Result<(), Problem> {
///     db.transaction(async |tx| {
///         match tx.execute("update orders set status = 'cancelled' where status = 'pending'", &[]).await? {
///             0 => Err(Problem::new(StatusCode::CONFLICT).detail("no order is pending")),
///             _ => Ok(()),
///         }
///     }).await
/// }
/// ```
pub struct TenantDb<E = Error> {
    db: Db<E>,
    context: Arc<TenantContext>,
}

impl<E> Clone for TenantDb<E> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), context: Arc::clone(&self.context) }
    }
}

impl<E> fmt::Debug for TenantDb<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantDb").field("slug", &self.context.slug).finish_non_exhaustive()
    }
}

impl<S: Sync, E: From<Error> + Send> FromRequestParts<S> for TenantDb<E> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let resolved = resolved(parts)?;
        Ok(Self { context: context(resolved)?, db: resolved.db.errors() })
    }
}

/// Each method behaves like the method of [`ContextTenant`] with the same name.
impl<E: From<Error> + Send> TenantDb<E> {
    /// Returns the context of the request.
    pub fn context(&self) -> &TenantContext {
        &self.context
    }

    /// Returns all operations as the tenant, also those that this type does not have.
    pub fn tenant(&self) -> ContextTenant<'_, E> {
        ContextTenant::of(&self.db, Arc::clone(&self.context))
    }

    /// Runs a transaction.
    ///
    /// # Locks
    ///
    /// Same as [`Db::with_tenant`].
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::transaction`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Db::with_tenant`].
    pub async fn transaction<T: Send, F: TenantFn<T, E>>(&self, body: F) -> Result<T, E> {
        self.tenant().transaction(body).await
    }

    /// Runs a transaction with options.
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::transaction`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`Db::with_tenant`].
    pub async fn transaction_in<T: Send, F: TenantFn<T, E>>(&self, options: &TxOptions, body: F) -> Result<T, E> {
        self.tenant().transaction_in(options, body).await
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::query`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`ContextTenant::query`].
    pub async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, E> {
        self.tenant().query(sql, params).await
    }

    /// Runs a query and reads each row as a value.
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::query_as`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`ContextTenant::query_as`].
    pub async fn query_as<T: FromRow<How>, How>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<T>, E> {
        self.tenant().query_as(sql, params).await
    }

    /// Runs a query that returns exactly one row.
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::query_one`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`ContextTenant::query_one`].
    pub async fn query_one(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Row, E> {
        self.tenant().query_one(sql, params).await
    }

    /// Runs a query that returns one row or none.
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::query_opt`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`ContextTenant::query_opt`].
    pub async fn query_opt(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, E> {
        self.tenant().query_opt(sql, params).await
    }

    /// Runs a statement and returns the number of rows that it changed.
    ///
    /// # Errors
    ///
    /// Same as [`ContextTenant::execute`].
    ///
    /// # Cancel safety
    ///
    /// Same as [`ContextTenant::execute`].
    pub async fn execute(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, E> {
        self.tenant().execute(sql, params).await
    }
}
