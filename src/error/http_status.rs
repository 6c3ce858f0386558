//! The HTTP status of errors that wrap one of this library.

use super::{Error, ErrorKind};
use http::StatusCode;

impl Error {
    /// The status where it is the database that could not be asked: 503 if it may answer later, 500 otherwise.
    pub(crate) fn status_of_database(&self) -> StatusCode {
        match self.kind() {
            ErrorKind::Unavailable | ErrorKind::Locked => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
