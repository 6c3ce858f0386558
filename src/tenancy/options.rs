//! Options of a transaction.

/// The options of a transaction. Default: the server's settings, which are READ COMMITTED and writable unless they were
/// changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxOptions {
    isolation: Option<IsolationLevel>,
    access: Option<Access>,
    start: Start,
    /// Statements that run as the login, before the tenant is entered.
    before_entry: Option<String>,
}

/// When the body of a transaction starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Start {
    /// Immediately. Its first statement is sent together with the entering message.
    #[default]
    AtOnce,
    /// After the server has responded to that message.
    Entered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IsolationLevel {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    ReadOnly,
    ReadWrite,
}

impl TxOptions {
    /// Sets the isolation level READ COMMITTED: each statement sees what was committed before it.
    pub fn read_committed(mut self) -> Self {
        self.isolation = Some(IsolationLevel::ReadCommitted);
        self
    }

    /// Sets the isolation level REPEATABLE READ: all statements see what was committed before the first one.
    pub fn repeatable_read(mut self) -> Self {
        self.isolation = Some(IsolationLevel::RepeatableRead);
        self
    }

    /// Sets the isolation level SERIALIZABLE: transactions behave as if they ran one after another. The server rolls
    /// back those for which this is not possible ([`Db::with_tenant_retry`](crate::Db::with_tenant_retry)).
    pub fn serializable(mut self) -> Self {
        self.isolation = Some(IsolationLevel::Serializable);
        self
    }

    /// Makes the transaction read-only: the server refuses every write.
    pub fn read_only(mut self) -> Self {
        self.access = Some(Access::ReadOnly);
        self
    }

    /// Makes the transaction writable, even if the server's default is read-only.
    pub fn read_write(mut self) -> Self {
        self.access = Some(Access::ReadWrite);
        self
    }

    /// Starts the body only after the tenant or the platform is entered. For an unknown or suspended tenant, the body
    /// never starts. Use it for bodies that have effects outside the database before their first statement. It takes
    /// one more round trip.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db, slug: cgk::TenantSlug) -> Result<(), cgk::Error> {
    /// # fn charge_card() {}
    /// let entered = cgk::TxOptions::default().wait_for_entry();
    /// db.with_tenant_in(&slug, &entered, async |tx| {
    ///     charge_card();
    ///     tx.execute("update orders set status = 'paid'", &[]).await
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    pub fn wait_for_entry(mut self) -> Self {
        self.start = Start::Entered;
        self
    }

    /// Runs statements as the login, in the same transaction, after it has the tenant's lock and before it enters the
    /// tenant. If one fails, the tenant is not entered. The error is then
    /// [`TenantError::Changed`](crate::TenantError::Changed), unless the tenant itself is the reason.
    pub(crate) fn before_entry(mut self, sql: String) -> Self {
        self.before_entry = Some(sql);
        self
    }

    pub(super) fn sql_before_entry(&self) -> Option<&str> {
        self.before_entry.as_deref()
    }

    pub(super) fn waits_for_entry(&self) -> bool {
        self.start == Start::Entered
    }

    /// Returns the modes of BEGIN. The isolation level is always written, so that it is known. If the options set none,
    /// it is `default`, the server's setting at the start of the session.
    pub(super) fn modes(&self, default: &str) -> String {
        let access = match self.access {
            None => "",
            Some(Access::ReadOnly) => " read only",
            Some(Access::ReadWrite) => " read write",
        };
        format!(" isolation level {}{access}", self.level(default))
    }

    /// Returns whether each statement has its own snapshot, and so sees what was committed before it.
    pub(super) fn sees_each_commit(&self, default: &str) -> bool {
        ["read committed", "read uncommitted"].contains(&self.level(default))
    }

    fn level<'a>(&self, default: &'a str) -> &'a str {
        match self.isolation {
            None => default,
            Some(IsolationLevel::ReadCommitted) => "read committed",
            Some(IsolationLevel::RepeatableRead) => "repeatable read",
            Some(IsolationLevel::Serializable) => "serializable",
        }
    }
}
