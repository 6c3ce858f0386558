//! How a tenant's transaction is opened.

/// How a tenant's transaction is opened. Default: as the server is configured, which is READ COMMITTED and writable where
/// nobody changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxOptions {
    isolation: Option<IsolationLevel>,
    access: Option<Access>,
    start: Start,
}

/// When the body of a transaction starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Start {
    /// At once; its first statement rides behind the message that enters.
    #[default]
    AtOnce,
    /// Once the server has answered that message.
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
    /// Each statement sees what was committed before it.
    pub fn read_committed(mut self) -> Self {
        self.isolation = Some(IsolationLevel::ReadCommitted);
        self
    }

    /// All statements see what was committed before the first.
    pub fn repeatable_read(mut self) -> Self {
        self.isolation = Some(IsolationLevel::RepeatableRead);
        self
    }

    /// As if transactions ran one after another; the server undoes those that could not have
    /// ([`Db::with_tenant_retry`](crate::Db::with_tenant_retry)).
    pub fn serializable(mut self) -> Self {
        self.isolation = Some(IsolationLevel::Serializable);
        self
    }

    /// The server refuses every write.
    pub fn read_only(mut self) -> Self {
        self.access = Some(Access::ReadOnly);
        self
    }

    /// Writable, also where the server's default is read-only.
    pub fn read_write(mut self) -> Self {
        self.access = Some(Access::ReadWrite);
        self
    }

    /// The body starts once the tenant or the platform is entered: of an unknown or suspended tenant it never starts. For
    /// bodies that do something outside the database before their first statement; takes one round trip more.
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

    pub(super) fn waits_for_entry(&self) -> bool {
        self.start == Start::Entered
    }

    /// The modes of BEGIN. The isolation level is always named, so that it is known: where the options name none it is
    /// `default`, the one that the server had configured when the session began.
    pub(super) fn modes(&self, default: &str) -> String {
        let access = match self.access {
            None => "",
            Some(Access::ReadOnly) => " read only",
            Some(Access::ReadWrite) => " read write",
        };
        format!(" isolation level {}{access}", self.level(default))
    }

    /// Whether each statement has a snapshot of its own, and so sees what was committed before it.
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
