//! The kinds of errors.

/// The closed list of what can be wrong: what a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The input cannot be used: a slug, a setting, a migration file, a parameter of another type than the statement's. Nothing was
    /// touched.
    Invalid,
    /// The database cannot be reached or used just now; trying again later may work.
    Unavailable,
    /// The server refuses the login, or a privilege is missing.
    Denied,
    /// The database is not set up, or a tenant is not provisioned.
    NotReady,
    /// There is no such tenant or database.
    NotFound,
    /// The tenant is there, and its status lets nobody in: it is suspended, or the status is one that cgk does not know.
    Suspended,
    /// What is there is not cgk's, or not what was asked for takes it to be.
    Conflict,
    /// The transaction did not commit because of what ran inside it, or cgk refuses to work with what it found.
    Refused,
    /// Whether the transaction committed is unknown.
    CommitUnknown,
    /// Somebody else holds the lock.
    Locked,
    /// Ledger and files do not agree.
    Drift,
    /// The server refused a statement.
    Failed,
}
