//! The driver's error.

use std::{error::Error as StdError, fmt};
use tokio_postgres::error::{DbError, SqlState};

/// The driver's error: the server's error response, or the reason why there was none.
///
/// `Display` shows the server's message with its SQLSTATE. DETAIL, HINT and CONTEXT can contain row values. They are
/// never part of the text, of the `Debug` output or of the sources. [`server`](Self::server) returns them.
///
/// The driver's own type is private, so that a new driver version does not require a new version of this library's
/// errors.
pub struct DriverError(tokio_postgres::Error);

impl DriverError {
    /// Returns the SQLSTATE; `None` if the server sent none.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        self.0.code()
    }

    /// Returns the server's error response; `None` if the error does not come from the server.
    pub fn server(&self) -> Option<&DbError> {
        self.0.as_db_error()
    }

    pub(crate) fn as_postgres(&self) -> &tokio_postgres::Error {
        &self.0
    }

    pub(crate) fn into_postgres(self) -> tokio_postgres::Error {
        self.0
    }
}

impl From<tokio_postgres::Error> for DriverError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(error)
    }
}

impl fmt::Debug for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DriverError").field(&format_args!("{self}")).finish()
    }
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.server() {
            Some(answer) => write!(f, "{}: {} ({})", answer.severity(), answer.message(), answer.code().code()),
            // The driver reports some of these as a response that it could not decode.
            None if crate::sqlstate::is_unsent(&self.0) && self.0.to_string().contains("response") => {
                f.write_str("error encoding message to server")
            }
            None => self.0.fmt(f),
        }
    }
}

impl StdError for DriverError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The text already contains the server's response. The driver's own text would also contain the DETAIL.
        if self.server().is_some() { None } else { self.0.source() }
    }
}
