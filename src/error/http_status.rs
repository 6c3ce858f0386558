//! The HTTP status of errors that wrap an error of this library, and whether shared tables are missing.

use super::{Error, ErrorKind};
use http::StatusCode;
use tokio_postgres::error::SqlState;

impl Error {
    /// Returns the status for a failed database query: 503 if a retry may succeed, 500 otherwise.
    pub(crate) fn status_of_database(&self) -> StatusCode {
        match self.kind() {
            ErrorKind::Unavailable | ErrorKind::Locked => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Whether a table, column, type or function is missing, because the shared tables are not, or not all, the bundled
    /// ones.
    pub(crate) fn lacks_shared_tables(&self) -> bool {
        let missing = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_OBJECT,
            SqlState::UNDEFINED_FUNCTION,
        ];
        self.sqlstate().is_some_and(|state| missing.contains(state))
    }
}
