//! The kinds of errors.

/// The complete list of error kinds, for decisions in programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input is not valid: a slug, a setting, a migration file, or a parameter whose type differs from the
    /// statement's. Nothing was changed.
    Invalid,
    /// The database cannot be reached or used now. A later attempt may succeed.
    Unavailable,
    /// The server refuses the login, or a privilege is missing.
    Denied,
    /// The database is not set up, or a tenant is not provisioned.
    NotReady,
    /// The tenant or database does not exist.
    NotFound,
    /// The tenant exists but cannot be entered. It is suspended, or cgk does not know its status.
    Suspended,
    /// An existing object does not belong to cgk, or is not what the request expects.
    Conflict,
    /// The transaction did not commit because of a statement or error inside it, or cgk refuses to use an object that
    /// it found.
    Refused,
    /// It is unknown whether the transaction committed.
    CommitUnknown,
    /// Another session holds the lock.
    Locked,
    /// Ledger and files differ.
    Drift,
    /// The server refused a statement.
    Failed,
}
