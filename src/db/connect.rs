//! Sorts what can go wrong while a connection is made.

use crate::{config::Config, error::Error};
use tokio_postgres::error::SqlState;

/// The error of a failed connection attempt: who refused, and why.
pub(crate) fn refused(config: &Config, source: tokio_postgres::Error) -> Error {
    let target = config.target().to_string();
    match source.code() {
        Some(state) if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(state) => {
            Error::Login { target, source }
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => {
            Error::DatabaseMissing { target, database: config.target().database().to_owned(), source }
        }
        _ => Error::Connect { target, source },
    }
}
