//! Access to the shared tables for the platform itself, outside of every tenant and across all organizations.

use super::{
    Db, PlatformFn, PlatformTx, TxOptions,
    row::FromRow,
    session::{Behind, CallerScope, recorded, span},
    single::{Single, single_statements},
};
use crate::error::{Error, Result};
use std::future::Future;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Access to the shared tables for the platform itself, across all organizations; from [`Db::platform`].
///
/// Each call is one transaction with the same protections as a tenant's. The search path, the timeouts and the mark for
/// "no tenant" are local to it. A transaction with a failed statement cannot commit. The next user of the connection
/// finds no state of it. A single statement takes one round trip, as with [`Db::tenant`]: entry, statement and commit
/// are sent together.
pub struct Platform<'a, E = Error> {
    single: Single<'a, E>,
}

impl<E: From<Error> + Send> Db<E> {
    /// Returns access to the shared tables. It sees the rows of all organizations, runs as the login itself, and is in
    /// no tenant. Use it for sign-in before the tenant is known, for webhooks, and for work across all organizations.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, token_hash: Vec<u8>) -> Result<(), cgk::Error> {
    /// let session = db
    ///     .platform()
    ///     .query_opt("select organization_id, user_id from sessions where token_hash = $1 and expires_at > now()", &[&token_hash])
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A tenant's transaction cannot use it, and a call from a task inside a tenant fails. So the code shows whether it
    /// works on one tenant or on all of them. The login needs rights on the shared tables:
    /// `cgk setup:database --app-role NAME --app-tables all` grants them.
    pub fn platform(&self) -> Platform<'_, E> {
        Platform { single: Single { db: self, of: CallerScope::Platform } }
    }
}

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Runs `body` in one transaction. Commits if it returns `Ok`. Rolls back if it returns `Err`, panics or is
    /// dropped.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, email: String) -> Result<(), cgk::Error> {
    /// db.platform()
    ///     .transaction(async |tx| {
    ///         let row = tx.query_one("insert into organizations (slug, name) values ('acme', 'Acme') returning id", &[]).await?;
    ///         let id: uuid::Uuid = row.get(0);
    ///         tx.execute("insert into users (organization_id, email) values ($1, $2)", &[&id, &email]).await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Locks
    ///
    /// None, except those of the statements.
    ///
    /// # Errors
    ///
    /// The error of the body, and these kinds:
    ///
    /// - `Refused`, before the body starts: the task is inside a tenant, or it holds so many connections of the pool
    ///   that the pool cannot provide another one.
    /// - `Refused`, after the body: a statement failed and the body returned `Ok`, or a statement's future was dropped
    ///   before the statement was sent. Or the body changed the role or the search path, or ended the transaction.
    ///   Nothing is committed.
    /// - `Failed`: the server refused the COMMIT, for instance because of a deferred constraint. Nothing is committed.
    /// - `Conflict`: PUBLIC or the service's login may create in `public` or in a schema of extensions. (The operator's
    ///   login may.)
    /// - `Denied`: the login may not use the schema `public`, or a statement needs `row_security`, which is off.
    /// - `CommitUnknown`: the connection was lost around COMMIT.
    /// - `Unavailable`: no connection became free in time, the pool is closed, or the connection was lost before COMMIT
    ///   was sent.
    ///
    /// # Cancel safety
    ///
    /// Same as [`Db::with_tenant`]. If the future is dropped before COMMIT is sent, nothing is committed. The next user
    /// of the connection finds no state of the transaction and does not wait for it.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn transaction<T: Send, F: PlatformFn<T, E>>(&self, body: F) -> impl Future<Output = Result<T, E>> + Send {
        async move { self.transaction_in(&TxOptions::default(), body).await }
    }

    /// Runs [`transaction`](Self::transaction) with options, such as an isolation level or read-only.
    ///
    /// # Errors
    ///
    /// Same as [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// Same as [`transaction`](Self::transaction).
    pub fn transaction_in<T: Send, F: PlatformFn<T, E>>(
        &self,
        options: &TxOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        let work = async move {
            let db = self.db();
            let session = db.open(CallerScope::Platform, options).await?;
            if options.waits_for_entry() && session.shared.entered().await.is_err() {
                return Err(Box::pin(db.why_refused(session.shared, Behind::Nothing)).await.into());
            }
            let mut tx = PlatformTx::new(&session.shared);
            let outcome = session.context.clone().scope(body(&mut tx)).await;
            db.close_session(session, outcome).await.map_err(|failed| failed.error)
        };
        recorded(span(CallerScope::Platform, "platform"), work)
    }

    pub(super) fn db(&self) -> &Db<E> {
        self.single.db
    }
}

single_statements!(Platform);
