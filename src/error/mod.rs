//! The error of the library: the operation, the object, a kind and a stable code.
//!
//! A message is one lower-case line that names the operation. It includes the cause only if the cause is the server's
//! response to a statement of the application. Any other cause is in [`std::error::Error::source`] and not in the
//! message. Errors contain no advice. The command-line program has advice for each code.

mod connection;
mod driver;
mod exec;
#[cfg(feature = "platform")]
mod http_status;
mod instead;
mod kind;
mod ledger_problem;
mod migration;
mod migration_failure;
mod missing_part;
mod report;
mod seed;
mod setup;
mod tenant;
mod transaction;
mod transfer;

pub use connection::ConnectionError;
pub use driver::DriverError;
pub use exec::ExecError;
pub use instead::Instead;
pub use kind::ErrorKind;
pub use ledger_problem::LedgerProblem;
pub use migration::MigrationError;
pub use migration_failure::{MigrationFailure, Unfinished};
pub use missing_part::MissingPart;
pub use report::ReportError;
pub use seed::SeedError;
pub use setup::SetupError;
pub use tenant::TenantError;
pub use transaction::TransactionError;
pub use transfer::TransferError;

use crate::{config::ConfigError, slug::InvalidSlug};
use std::{error::Error as StdError, fmt, sync::Arc};
use tokio_postgres::error::SqlState;

/// The result of the library's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this library, by subject.
///
/// [`Error::kind`] is the value for decisions, from a complete list. [`Error::code`] is a stable text to search for.
/// The variants contain the details:
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
/// `Debug` shows the code and [`Error::report`]. `main` prints this for an error that it returns, and `unwrap` prints
/// it in its panic.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not a valid slug.
    #[error(transparent)]
    InvalidSlug(#[from] InvalidSlug),
    /// A setting is missing or not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The connection could not be opened, or was lost.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The database is not set up, or one of its roles has too few or too many privileges.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A tenant cannot be entered, or its schema cannot be used.
    #[error(transparent)]
    Tenant(#[from] TenantError),
    /// A transaction did not commit, or a statement in it did not run.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// Migrations were not read, planned or applied.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// SQL for many tenants was refused.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A tenant was not exported, imported or copied.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// An earlier report cannot be compared with the fleet.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The files of seeds were refused.
    #[error(transparent)]
    Seed(#[from] SeedError),

    /// Any other statement failed.
    #[error("could not {doing}")]
    Database {
        /// The operation and its object.
        doing: String,
        /// The error of the server or driver.
        source: DriverError,
    },
    /// A driver call in the application's code failed, usually because a row value was read as the wrong type. In a
    /// closure, `?` converts driver errors to this variant.
    #[error(transparent)]
    Driver(DriverError),
    /// An error of the application, returned by a closure of a [`Db`](crate::Db) with the default error type. To keep
    /// the type of the error, use an error type of the application ([`Db::errors`](crate::Db::errors)).
    #[error(transparent)]
    Application(Box<dyn StdError + Send + Sync>),
    /// An operation failed for which several callers waited, such as one query for all of them.
    #[error(transparent)]
    Shared(Arc<Error>),
    /// The server's response does not match the request.
    #[error("unexpected answer while trying to {doing}: {found}")]
    Unexpected {
        /// The operation.
        doing: String,
        /// The response.
        found: String,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code(), self.report())
    }
}

impl Error {
    /// Returns the kind, for decisions.
    ///
    /// A statement that failed because of the server's condition (a full disk, a shutdown, no free connection, a
    /// read-only server) is [`Unavailable`](ErrorKind::Unavailable), not [`Failed`](ErrorKind::Failed). A statement
    /// that the driver did not send, because of a parameter or a zero byte in its text, is
    /// [`Invalid`](ErrorKind::Invalid).
    pub fn kind(&self) -> ErrorKind {
        match self.entry().1 {
            // The session could write when the connection was opened. A statement of the file made it read-only.
            ErrorKind::Failed if self.is_read_only_file() => ErrorKind::Failed,
            ErrorKind::Failed if self.sqlstate().is_some_and(crate::sqlstate::is_the_servers) => ErrorKind::Unavailable,
            ErrorKind::Failed if self.is_unsent() => ErrorKind::Invalid,
            kind => kind,
        }
    }

    /// Whether the driver refused the statement and did not send it.
    fn is_unsent(&self) -> bool {
        self.driver().is_some_and(|driver| crate::sqlstate::is_unsent(driver.as_postgres()))
    }

    /// Whether a migration made its own session read-only.
    pub(crate) fn is_read_only_file(&self) -> bool {
        matches!(self, Self::Migration(MigrationError::Failed(_)))
            && self.sqlstate() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// Returns the stable code, `CGK` and four digits. It is the same in messages, in JSON and in the documentation.
    pub fn code(&self) -> &'static str {
        self.entry().0
    }

    /// Returns the SQLSTATE; `None` if the server sent none.
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

    /// Returns whether the same operation can succeed when it is repeated from its start, without any other change.
    /// These are the causes of such an error:
    ///
    /// - No connection was free, or the connection was lost before COMMIT was sent.
    /// - The server was starting or stopping.
    /// - A lock was held, or the server rolled the work back because of a conflict with other sessions.
    /// - A server-side plan was out of date.
    ///
    /// Returns false if it is unknown whether the work is committed.
    pub fn is_retryable(&self) -> bool {
        if let Self::Shared(error) = self {
            return error.is_retryable();
        }
        matches!(
            self,
            Self::Connection(
                ConnectionError::PoolTimeout { .. }
                    | ConnectionError::TenantLimit { .. }
                    | ConnectionError::Lost { .. }
            )
        ) || self.server().is_some_and(crate::sqlstate::is_stale_plan)
            || self.is_passing()
    }

    /// Whether the same work can succeed on this connection when it is run again.
    pub(crate) fn is_passing(&self) -> bool {
        if let Self::Shared(error) = self {
            return error.is_passing();
        }
        // The same plan does not repeat work that was committed before the failure.
        let in_the_middle =
            matches!(self, Self::Migration(MigrationError::Failed(failure)) if !failure.committed.is_empty());
        !in_the_middle
            && self.kind() != ErrorKind::CommitUnknown
            && (matches!(self, Self::Tenant(TenantError::Changed { .. }))
                || self.kind() == ErrorKind::Locked
                || self.sqlstate().is_some_and(crate::sqlstate::is_passing)
                || self.is_catalogue_race())
    }

    /// Returns the constraint that a statement violated; `None` if the error has another cause.
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

    /// Returns the error and all its causes in one line, for a log. The server's DETAIL, HINT and CONTEXT, which can
    /// contain row values, are left out. A server message can contain a value that a statement sent.
    pub fn report(&self) -> String {
        let mut report = self.to_string();
        for cause in std::iter::successors(self.source(), |&cause| cause.source()) {
            let cause = cause.to_string();
            // The text does not contain this cause yet.
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

    /// Returns the server's error response with all its fields; `None` if the error does not come from the server.
    pub fn db(&self) -> Option<&tokio_postgres::error::DbError> {
        self.driver()?.server()
    }

    /// Returns the same as [`db`](Self::db).
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
            Self::Transfer(error) => error.driver(),
            Self::Shared(error) => error.driver(),
            Self::InvalidSlug(_)
            | Self::Config(_)
            | Self::Tenant(_)
            | Self::Exec(_)
            | Self::Report(_)
            | Self::Seed(_)
            | Self::Application(_)
            | Self::Unexpected { .. } => None,
        }
    }

    /// Returns code and kind. `docs/reference.md` contains the same table.
    fn entry(&self) -> (&'static str, ErrorKind) {
        match self {
            Self::InvalidSlug(_) => ("CGK0101", ErrorKind::Invalid),
            Self::Config(_) => ("CGK0102", ErrorKind::Invalid),
            Self::Connection(error) => error.entry(),
            Self::Setup(error) => error.entry(),
            Self::Tenant(error) => error.entry(),
            Self::Transaction(error) => error.entry(),
            Self::Migration(error) => error.entry(),
            Self::Exec(error) => error.entry(),
            Self::Transfer(error) => error.entry(),
            Self::Report(error) => error.entry(),
            Self::Seed(error) => error.entry(),
            Self::Database { .. } => ("CGK0901", ErrorKind::Failed),
            Self::Unexpected { .. } => ("CGK0902", ErrorKind::Failed),
            Self::Shared(error) => error.entry(),
            Self::Driver(_) => ("CGK0903", ErrorKind::Failed),
            Self::Application(_) => ("CGK0904", ErrorKind::Failed),
        }
    }
}

/// Converts the driver's errors for `?`, for example in `row.try_get(0)?`.
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

/// Converts the error of a failed statement. Lost connections and unwritten rows have their own variants.
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
