//! The platform's own way to the shared tables: outside of every tenant, across all organizations.

use super::{
    Db, PlatformFn, PlatformTx, TxOptions,
    row::FromRow,
    session::{Behind, Of, recorded, span},
    single::{Single, single_statements},
};
use crate::error::{Error, Result};
use std::future::Future;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// The platform's own way to the shared tables, across all organizations; from [`Db::platform`].
///
/// Each call is a transaction of its own, with the guards of a tenant's: search path, timeouts and the mark that says "no
/// tenant" are local to it, a statement that failed cannot commit, and the next user of the connection finds nothing of it.
/// Single statements take one round trip, as those of [`Db::tenant`]: entry, statement and commit go out together.
pub struct Platform<'a, E = Error> {
    single: Single<'a, E>,
}

impl<E: From<Error> + Send> Db<E> {
    /// The shared tables as the platform's own code sees them: every organization's rows, as the login itself, in no tenant.
    /// For signing in, before the tenant is known, for webhooks, and for whatever runs over all organizations.
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
    /// A tenant's transaction has no way here, and a task that is inside a tenant is refused: what is about one tenant and
    /// what is about all of them are told apart by where they stand in the code. The login needs rights on the shared tables:
    /// `cgk setup:database --app-role NAME --app-tables all` gives them.
    pub fn platform(&self) -> Platform<'_, E> {
        Platform { single: Single { db: self, of: Of::Platform } }
    }
}

impl<E: From<Error> + Send> Platform<'_, E> {
    /// Runs `body` in one transaction: commits when it returns `Ok`, rolls back when it returns `Err`, panics or is dropped.
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
    /// None of its own.
    ///
    /// # Errors
    ///
    /// Whatever the body returns. `Refused`: the task is inside a tenant, or inside so many of the platform's transactions that the
    /// pool can never serve it; or a statement failed and the body returned `Ok`, a statement's future was dropped before the
    /// statement was sent, or the body changed role or path or ended the transaction, and nothing is committed. `Conflict`:
    /// everybody may create in `public`. `Denied`: the login may not use the schema `public`, or a statement needs `row_security`,
    /// which is off. `CommitUnknown`: the connection broke off around COMMIT. `Unavailable`: no connection in time, or it
    /// was lost before COMMIT was sent.
    ///
    /// # Cancel safety
    ///
    /// As [`Db::with_tenant`]: dropped before COMMIT is sent, nothing is committed, and the next user of the connection finds
    /// nothing of it and does not wait for it.
    #[expect(clippy::manual_async_fn, reason = "the signature promises Send instead of leaking it")]
    pub fn transaction<T: Send, F: PlatformFn<T, E>>(&self, body: F) -> impl Future<Output = Result<T, E>> + Send {
        async move { self.transaction_in(&TxOptions::default(), body).await }
    }

    /// [`transaction`](Self::transaction) with an isolation level or read-only.
    ///
    /// # Errors
    ///
    /// As [`transaction`](Self::transaction).
    ///
    /// # Cancel safety
    ///
    /// As [`transaction`](Self::transaction).
    pub fn transaction_in<T: Send, F: PlatformFn<T, E>>(
        &self,
        options: &TxOptions,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        let work = async move {
            let db = self.db();
            let session = db.open(Of::Platform, options).await?;
            if options.waits_for_entry() && session.shared.entered().await.is_err() {
                return Err(Box::pin(db.why_refused(session.shared, Behind::Nothing)).await.into());
            }
            let mut tx = PlatformTx::new(&session.shared);
            let outcome = session.context.clone().scope(body(&mut tx)).await;
            db.close_session(session, outcome).await.map_err(|failed| failed.error)
        };
        recorded(span(Of::Platform, "platform"), work)
    }

    pub(super) fn db(&self) -> &Db<E> {
        self.single.db
    }
}

single_statements!(Platform);
