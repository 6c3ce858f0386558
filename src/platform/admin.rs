//! The way in for support staff: all organizations, by a role that is granted by hand, and never without a line in the audit log.

use super::{Actor, Change, PlatformError, Result};
use crate::tenancy::{Db, ReaderFn};
use serde_json::json;

/// The most characters of a reason.
const REASON_CHARS_MAX: usize = 500;

impl<E> Db<E> {
    /// Runs `body` in a read-only transaction that sees the rows of all organizations, for support staff. It reads the columns that
    /// tenants read of their own rows, so no hash and no token.
    ///
    /// Who does it, and why, is written to the audit log as `cgk.admin.entered` and committed before the transaction begins: an
    /// access that fails, or whose body returns an error, is recorded too. Without that line nothing is read.
    ///
    /// An ordinary service cannot call it: its login may not act as the role `cgk__admin_<tag>`. Give the support tool a login of its
    /// own with `cgk setup:database --app-role NAME --app-tables all`, and grant it the role; the error says how.
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
    /// None, except those of the statements.
    ///
    /// # Errors
    ///
    /// The error of the body. `Invalid`: the reason is empty, or longer than 500 characters. `TablesMissing`, and `Database` with the
    /// kinds of [`Db::as_user`]: above all `Denied`, when the login may not act as the role or may not write the audit log.
    ///
    /// # Cancel safety
    ///
    /// The line may be written or not. If it is not, nothing was read.
    pub async fn dangerously_as_admin<T: Send, F: ReaderFn<T, PlatformError>>(
        &self,
        actor: &Actor,
        reason: &str,
        body: F,
    ) -> Result<T> {
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
        let change = Change {
            actor,
            organization: None,
            name: "cgk.admin.entered",
            resource: ("database", db.config().target().database().to_owned()),
            before: None,
            after: Some(json!({ "reason": reason })),
        };
        change.record(tx).await
    });
    written.await
}
