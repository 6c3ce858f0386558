//! What the driver said.

use std::{error::Error as StdError, fmt};
use tokio_postgres::error::{DbError, SqlState};

/// What the driver said: the server's answer, or why there was none.
///
/// Shown, it is the server's message with its SQLSTATE. DETAIL, HINT and CONTEXT, which quote values of rows, are never part of
/// the text, of its `Debug` form or of its sources; [`server`](Self::server) has them.
///
/// The driver's own type stays inside, so that a new version of the driver need not be a new version of this library's
/// errors.
pub struct DriverError(tokio_postgres::Error);

impl DriverError {
    /// The SQLSTATE, if the server gave one.
    pub fn sqlstate(&self) -> Option<&SqlState> {
        self.0.code()
    }

    /// The server's answer, if it was the server.
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
            // Some of these the driver calls a response that it could not read.
            None if crate::sqlstate::is_unsent(&self.0) && self.0.to_string().contains("response") => {
                f.write_str("error encoding message to server")
            }
            None => self.0.fmt(f),
        }
    }
}

impl StdError for DriverError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The server's answer is in the text already, and its own text would have the DETAIL.
        if self.server().is_some() { None } else { self.0.source() }
    }
}
