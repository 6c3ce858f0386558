//! How a tenant's transaction is opened.

/// How a tenant's transaction is opened. Default: as the server is configured, which is READ COMMITTED and writable where
/// nobody changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxOptions {
    isolation: Option<IsolationLevel>,
    access: Option<Access>,
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
