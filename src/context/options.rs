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

    /// The modes of BEGIN.
    pub(super) fn modes(&self) -> String {
        let isolation = match self.isolation {
            None => "",
            Some(IsolationLevel::ReadCommitted) => " isolation level read committed",
            Some(IsolationLevel::RepeatableRead) => " isolation level repeatable read",
            Some(IsolationLevel::Serializable) => " isolation level serializable",
        };
        let access = match self.access {
            None => "",
            Some(Access::ReadOnly) => " read only",
            Some(Access::ReadWrite) => " read write",
        };
        format!("{isolation}{access}")
    }
}
