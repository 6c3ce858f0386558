//! Access to all organizations for support staff. An operator grants it, and every access is recorded in the audit log.

use super::{Actor, PlatformError, RecordedChange, Result};
use crate::tenancy::{Db, ReaderFn};
use serde_json::json;

/// The maximum length of a reason, in characters.
const REASON_CHARS_MAX: usize = 500;

impl<E> Db<E> {
    /// Runs `body` in a read-only transaction that sees the rows of all organizations, for support staff. It can read
    /// the columns that tenants can read of their own rows. Hashes and tokens are not among them.
    ///
    /// The actor and the reason are written to the audit log as `cgk.admin.entered`. That line is committed before the
    /// transaction starts, so an access that fails, or whose body returns an error, is recorded too. If the line cannot
    /// be written, nothing is read.
    ///
    /// An ordinary service cannot call this function, because its login cannot act as the role `cgk__admin_<tag>`.
    /// Create a separate login for the support tool with `cgk setup:database --app-role NAME --app-tables all`, and
    /// grant the role to it. The error shows the statement to run.
    ///
    /// ```no_run
    /// use cgk::{UserId, platform::{Actor, PlatformError}};
    ///
    /// async fn organizations(db: &cgk::Db, staff: UserId) -> Result<i64, PlatformError> {
    ///     db.dangerously_as_admin(&Actor::User(staff), "ticket 4711", async |tx| {
    ///         Ok(tx.query_one("select count(*) from organizations", &[]).await?.get(0))
    ///     })
    ///     .await
    /// }
    /// ```
    ///
    /// # Locks
    ///
    /// None, except those of the statements in the body.
    ///
    /// # Errors
    ///
    /// The error of the body. `Invalid`: the reason is empty, is longer than 500 characters or contains a zero byte.
    /// `Forbidden`: the actor is [`Actor::Anonymous`]. `TablesMissing`. `Database`, with the kinds of [`Db::as_user`]. The usual kind is `Denied`: the login cannot act
    /// as the role, or cannot write to the audit log.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the line in the audit log may or may not be written. If it is not written, nothing was
    /// read.
    pub async fn dangerously_as_admin<T: Send, F: ReaderFn<T, PlatformError>>(
        &self,
        actor: &Actor,
        reason: &str,
        body: F,
    ) -> Result<T> {
        if *actor == Actor::Anonymous {
            return Err(PlatformError::forbidden(actor, "admin:enter"));
        }
        let db = self.errors::<PlatformError>();
        record(&db, actor, reason).await?;
        db.read_as(None, body).await
    }
}

async fn record(db: &Db<PlatformError>, actor: &Actor, reason: &str) -> Result<()> {
    let chars = reason.chars().count();
    if reason.trim().is_empty() || chars > REASON_CHARS_MAX || reason.contains('\0') {
        let why = format!("it is empty, longer than {REASON_CHARS_MAX} characters or has a zero byte");
        return Err(PlatformError::Invalid { what: "the reason", why });
    }
    let platform = db.platform();
    let written = platform.transaction(async |tx| {
        let change = RecordedChange {
            actor,
            organization: None,
            name: "cgk.admin.entered",
            resource: ("database", db.config().target().database().to_owned()),
            before: None,
            after: Some(json!({ "reason": reason })),
        };
        Ok(change.record(tx).await?)
    });
    written.await
}
