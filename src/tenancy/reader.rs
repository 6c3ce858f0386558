//! Reads the shared tables as a role: for one person, or for support staff.

use super::{
    Db, ReaderFn, ReaderTx, TxOptions,
    session::{Behind, CallerScope, recorded, span},
};
use crate::{
    error::{Error, Result},
    user::UserId,
};
use std::future::Future;

impl<E: From<Error> + Send> Db<E> {
    /// Runs `body` in a read-only transaction that sees the shared tables as one person does. It sees the organizations
    /// of the person's confirmed memberships, suspended ones too, the memberships in them, and the person's own row of
    /// `users`. The function `cgk_user_members()` returns the members of these organizations with their addresses. All
    /// other tables have no rows or are refused, and so are the hashes of passwords. A user who does not exist or is
    /// not active sees nothing.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, ada: cgk::UserId) -> Result<(), cgk::Error> {
    /// let workspaces = db
    ///     .as_user(ada, async |tx| {
    ///         tx.query_as::<(String, String), _>(
    ///             "select o.name, m.role::text from organizations o join memberships m on m.organization_id = o.id
    ///               where m.user_id = $1 order by o.name",
    ///             &[&ada],
    ///         )
    ///         .await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The transaction runs as a role of its own, in both isolation modes, and the policies of that role decide what it
    /// sees. The caller chooses `user`: the database does not know who signed in.
    ///
    /// `body` is code of the service, and its SQL is trusted. The transaction is read-only: the server refuses changes
    /// of tables, sequences and temporary tables. Large objects, which versions before 16 do not refuse, are refused at
    /// the end. Advisory locks end with the call. NOTIFY is sent. On a server that is not hardened
    /// ([`setup::harden`](crate::setup)), SQL can name another person in `app.current_user_id` and read as that person;
    /// the call is refused at the end, unless the SQL has set the first one again.
    ///
    /// # Locks
    ///
    /// None, except those of the statements.
    ///
    /// # Errors
    ///
    /// The error of the body, the errors of [`Platform::transaction`](super::Platform::transaction), and these kinds:
    ///
    /// - `Denied`: the login may not act as that role, because `cgk setup:database --app-role NAME --app-tables all`
    ///   has not been run since the migration `023_readers`.
    /// - `Refused`: the task is inside a tenant
    ///   ([`TransactionError::ReaderInsideTenant`](crate::TransactionError::ReaderInsideTenant)), or the body changed
    ///   the role, the path or the user, wrote a large object, or ended the transaction.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is changed. The next user of the connection finds no state of the transaction.
    pub fn as_user<T: Send, F: ReaderFn<T, E>>(
        &self,
        user: UserId,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        self.read_as(Some(user), body)
    }

    /// Runs `body` in a read-only transaction as the role of a person, or of support staff if `user` is `None`.
    pub(crate) fn read_as<T: Send, F: ReaderFn<T, E>>(
        &self,
        user: Option<UserId>,
        body: F,
    ) -> impl Future<Output = Result<T, E>> + Send {
        let of = CallerScope::Reader(user);
        let work = async move {
            // The body must not start before the session has that role.
            let options = TxOptions::default().read_only().wait_for_entry();
            let session = self.open(of, &options).await?;
            if session.shared.entered().await.is_err() {
                return Err(Box::pin(self.why_refused(session.shared, Behind::Nothing)).await.into());
            }
            let mut tx = ReaderTx::new(&session.shared);
            let outcome = session.context.clone().scope(body(&mut tx)).await;
            self.close_session(session, outcome).await.map_err(|failed| failed.error)
        };
        recorded(span(of, "reader"), work)
    }
}
