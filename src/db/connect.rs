//! Classifies the errors of opening a connection.

use crate::{
    config::Config,
    error::{ConnectionError, Error},
};
use tokio_postgres::error::SqlState;

/// Returns the error of a failed connection attempt: what refused it, and why.
pub(crate) fn refused(config: &Config, source: tokio_postgres::Error) -> Error {
    let target = config.target().to_string();
    match source.code() {
        Some(state) if [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION].contains(state) => {
            Error::Connection(ConnectionError::Login { target, source: source.into() })
        }
        Some(&SqlState::INVALID_CATALOG_NAME) => Error::Connection(ConnectionError::DatabaseMissing {
            target,
            database: config.target().database().to_owned(),
            source: source.into(),
        }),
        _ => Error::Connection(ConnectionError::Connect { target, source: source.into() }),
    }
}
