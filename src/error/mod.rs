//! The error of the library: what failed, on which object, by kind and by stable code.
//!
//! A message says what was being done in one lower-case line, with its cause where that is the server's answer to a statement
//! of the application. Any other cause is in [`std::error::Error::source`] and never repeated in the message. Advice belongs to whoever talks to a person: the command-line program keeps it beside the codes.

mod connection;
mod driver;
#[cfg(feature = "platform")]
mod http_status;
mod kind;
mod migration;
mod migration_failure;
mod setup;
mod tenant;
mod transaction;

pub use connection::ConnectionError;
pub use driver::DriverError;
pub use kind::ErrorKind;
pub use migration::MigrationError;
pub use migration_failure::{MigrationFailure, Unfinished};
pub use setup::SetupError;
pub use tenant::TenantError;
pub use transaction::TransactionError;

use crate::{config::ConfigError, slug::InvalidSlug};
use std::{error::Error as StdError, fmt, sync::Arc};
use tokio_postgres::error::SqlState;

/// The result of the library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, by subject.
///
/// [`Error::kind`] is the closed list to decide by, [`Error::code`] the stable text to search for, and a variant gives the
/// particulars:
///
/// ```
/// use cgk::{Error, TenantError};
///
/// fn status(error: &Error) -> u16 {
///     match error {
///         Error::Tenant(TenantError::NotFound { .. }) => 404,
///         _ if error.is_retryable() => 503,
///         _ => 500,
///     }
/// }
/// ```
///
/// `Debug` is the code and [`Error::report`]: what `main` prints of an error that it returns, and `unwrap` of one that it meets.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text given is no slug.
    #[error(transparent)]
    InvalidSlug(#[from] InvalidSlug),
    /// A setting is missing or cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No connection, or none any more.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The database is not set up, or a role of it may do too little or too much.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A tenant cannot be entered, or its schema not be used.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// A transaction did not commit, or a statement in it did not run.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// Migrations were not read, planned or applied.
    #[error(transparent)]
    Migration(#[from] MigrationError),

    /// Any other statement failed.
    #[error("could not {doing}")]
    Database {
        /// What was being done, to which object.
        doing: String,
        /// What the server or driver said.
        source: DriverError,
    },
    /// The driver itself failed, called from an application's code: as a rule a row was read as another type than it has. What
    /// `?` makes of an error of the driver in a closure.
    #[error(transparent)]
    Driver(DriverError),
    /// An error of the application, which has passed through a closure of [`Db`](crate::Db) with its default error type. An
    /// error type of the application's own ([`Db::errors`](crate::Db::errors)) says more.
    #[error(transparent)]
    Application(Box<dyn StdError + Send + Sync>),
    /// The failure of something that several callers waited for, such as one look at the database for all of them.
    #[error(transparent)]
    Shared(Arc<Error>),
    /// What the server answered is not what was asked for.
    #[error("unexpected answer while trying to {doing}: {found}")]
    Unexpected {
        /// What was being done.
        doing: String,
        /// What came back.
        found: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code(), self.report())
    }
}

impl Error {
    /// The kind to decide by.
    ///
    /// A statement that the server refused because of its own condition (a full disk, a shutdown, no free connection, a
    /// read-only server) is [`Unavailable`](ErrorKind::Unavailable) and not [`Failed`](ErrorKind::Failed), whatever the
    /// statement was. One that the driver refused and never sent, because of a parameter or a zero byte in its text, is
    /// [`Invalid`](ErrorKind::Invalid).
    pub fn kind(&self) -> ErrorKind {
        match self.entry().1 {
            // The session could write when the connection was made: a statement of the file's made it read-only.
            ErrorKind::Failed if self.is_read_only_file() => ErrorKind::Failed,
            ErrorKind::Failed if self.sqlstate().is_some_and(crate::sqlstate::is_the_servers) => ErrorKind::Unavailable,
            ErrorKind::Failed if self.is_unsent() => ErrorKind::Invalid,
            kind => kind,
        }
    }

    /// Whether the driver refused the statement and sent nothing.
    fn is_unsent(&self) -> bool {
        self.driver().is_some_and(|driver| crate::sqlstate::is_unsent(driver.as_postgres()))
    }

    /// Whether a migration made its own session read-only.
    pub(crate) fn is_read_only_file(&self) -> bool {
        matches!(self, Self::Migration(MigrationError::Failed(_)))
            && self.sqlstate() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// The stable code, `CGK` and four digits: the same text in messages, in JSON and in the documentation.
    pub fn code(&self) -> &'static str {
        self.entry().0
    }

    /// The SQLSTATE behind the error, if the server gave one.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        if let Self::Shared(error) = self {
            return error.sqlstate();
        }
        if let Self::Transaction(error) = self
            && let Some(state) = error.first_failure()
        {
            return Some(state);
        }
        self.driver()?.sqlstate()
    }

    /// Whether running the same thing again, from its beginning, can succeed without anybody changing anything: no connection
    /// was free, the connection was lost before COMMIT was sent, the server was starting, stopping or undid the work because
    /// of others, a lock was held, or a plan of the server's was out of date. Not where it is unknown whether the work is
    /// committed.
    pub fn is_retryable(&self) -> bool {
        if let Self::Shared(error) = self {
            return error.is_retryable();
        }
        matches!(self, Self::Connection(ConnectionError::PoolTimeout { .. } | ConnectionError::Lost { .. }))
            || self.server().is_some_and(crate::sqlstate::is_stale_plan)
            || self.is_passing()
    }

    /// Whether the same work, on this connection, may succeed when it is run again.
    pub(crate) fn is_passing(&self) -> bool {
        if let Self::Shared(error) = self {
            return error.is_passing();
        }
        // What was committed before it failed is not done again by the same plan.
        let in_the_middle =
            matches!(self, Self::Migration(MigrationError::Failed(failure)) if !failure.committed.is_empty());
        !in_the_middle
            && self.kind() != ErrorKind::CommitUnknown
            && (matches!(self, Self::Tenant(TenantError::Changed { .. }))
                || self.kind() == ErrorKind::Locked
                || self.sqlstate().is_some_and(crate::sqlstate::is_passing)
                || self.is_catalogue_race())
    }

    /// The constraint that a statement violated, if that is why it failed.
    ///
    /// ```
    /// fn status(error: &cgk::Error) -> u16 {
    ///     match error.constraint() {
    ///         Some("customers_email_key") => 409,
    ///         Some(_) => 422,
    ///         None => 500,
    ///     }
    /// }
    /// ```
    pub fn constraint(&self) -> Option<&str> {
        self.db()?.constraint()
    }

    /// The error and all its causes in one line, for a log. DETAIL, HINT and CONTEXT of the server, which quote values of
    /// rows, are not in it; a message of the server may quote a value that was given to it.
    pub fn report(&self) -> String {
        let mut report = self.to_string();
        for cause in std::iter::successors(self.source(), |&cause| cause.source()) {
            let cause = cause.to_string();
            // A cause that the text before it has said already.
            if !report.contains(&cause) {
                report.push_str(": ");
                report.push_str(&cause);
            }
        }
        report
    }

    /// Whether another session changed the same row of the catalogue at the same time.
    pub(crate) fn is_catalogue_race(&self) -> bool {
        self.server().is_some_and(crate::sqlstate::is_catalogue_race)
    }

    /// The server's answer with all its fields, if it was the server.
    pub fn db(&self) -> Option<&tokio_postgres::error::DbError> {
        self.driver()?.server()
    }

    /// The same as [`db`](Self::db).
    pub fn server(&self) -> Option<&tokio_postgres::error::DbError> {
        self.driver()?.server()
    }

    fn driver(&self) -> Option<&DriverError> {
        match self {
            Self::Connection(error) => error.driver(),
            Self::Setup(error) => error.driver(),
            Self::Transaction(error) => error.driver(),
            Self::Migration(error) => error.driver(),
            Self::Database { source, .. } => Some(source),
            Self::Driver(error) => Some(error),
            Self::Shared(error) => error.driver(),
            Self::InvalidSlug(_)
            | Self::Config(_)
            | Self::Tenant(_)
            | Self::Application(_)
            | Self::Unexpected { .. } => None,
        }
    }

    /// Code and kind, the table behind `docs/reference.md`.
    fn entry(&self) -> (&'static str, ErrorKind) {
        match self {
            Self::InvalidSlug(_) => ("CGK0101", ErrorKind::Invalid),
            Self::Config(_) => ("CGK0102", ErrorKind::Invalid),
            Self::Connection(error) => error.entry(),
            Self::Setup(error) => error.entry(),
            Self::Tenant(error) => error.entry(),
            Self::Transaction(error) => error.entry(),
            Self::Migration(error) => error.entry(),
            Self::Database { .. } => ("CGK0901", ErrorKind::Failed),
            Self::Unexpected { .. } => ("CGK0902", ErrorKind::Failed),
            Self::Shared(error) => error.entry(),
            Self::Driver(_) => ("CGK0903", ErrorKind::Failed),
            Self::Application(_) => ("CGK0904", ErrorKind::Failed),
        }
    }
}

/// What `?` makes of the driver's errors, as of `row.try_get(0)?`.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Driver(error.into())
    }
}

impl From<Box<dyn StdError + Send + Sync>> for Error {
    fn from(error: Box<dyn StdError + Send + Sync>) -> Self {
        Self::Application(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Application(error.into())
    }
}

/// Sorts a failed statement: lost connections and rows that were not written have an error of their own.
pub(crate) fn while_doing(doing: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |source| {
        let doing = doing.into();
        if crate::sqlstate::is_lost(&source) {
            ConnectionError::Lost { doing, source: source.into() }.into()
        } else if let Some(table) = crate::row_check::failed(&source) {
            MigrationError::RowNotWritten { table, source: None }.into()
        } else {
            Error::Database { doing, source: source.into() }
        }
    }
}
