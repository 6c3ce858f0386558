//! Classifies the errors of opening a connection.

use crate::{
    config::Config,
    error::{ConnectionError, Error},
};
use std::error::Error as _;
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
        _ if is_password_missing(&source) => {
            Error::Connection(ConnectionError::Login { target, source: source.into() })
        }
        _ => Error::Connection(ConnectionError::Connect { target, source: source.into() }),
    }
}

/// Whether the server asked for a password and the settings have none. The driver has no kind for this.
fn is_password_missing(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|cause| cause.to_string() == "password missing")
}
