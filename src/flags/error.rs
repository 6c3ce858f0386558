//! The errors of operations on features and usage.

use super::environment::Environment;
use crate::error::Error;
use http::StatusCode;
use std::time::SystemTime;
use tokio_postgres::error::SqlState;

/// The result of this module's functions.
pub type Result<T, E = FlagsError> = std::result::Result<T, E>;

/// The reason why an operation on features or usage failed. Its text is safe to send to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// The tenant has no such environment.
    #[error("there is no environment {environment}")]
    NoSuchEnvironment {
        /// The requested environment.
        environment: Environment,
    },
    /// The tenant has no feature with this key.
    #[error("there is no feature {key:?}")]
    NoSuchFeature {
        /// The requested key.
        key: String,
    },
    /// A given value cannot be stored.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// The value.
        what: &'static str,
        /// The reason.
        why: String,
    },
    /// A usage event has the key of another event that is already recorded. Nothing of its batch was recorded.
    #[error("the usage event {key:?} is recorded with another content")]
    UsageConflict {
        /// The key of the event.
        key: String,
    },
    /// The requested amount would exceed what the plan allows.
    #[error("the limit of {limit} for {metric} is reached: {used} used, {asked} more asked for")]
    LimitReached {
        /// The limited metric, as the tables name it.
        metric: String,
        /// The amount that the plan allows.
        limit: u64,
        /// The amount already used.
        used: u64,
        /// The additional amount that was requested.
        asked: u64,
        /// When the counter is reset. `None` for a level, which is not reset automatically.
        resets_at: Option<SystemTime>,
    },
    /// The tables of the template `flags` are missing or incomplete.
    #[error("this needs the tables of the template flags")]
    TablesMissing {
        /// The error of the server that names what is missing.
        source: Error,
    },
    /// The tenant could not be entered, or the database returned an error.
    #[error("the database could not be asked")]
    Database(#[source] Error),
}

impl From<Error> for FlagsError {
    fn from(source: Error) -> Self {
        let missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_FUNCTION];
        match source.sqlstate().is_some_and(|state| missing.contains(state)) {
            true => Self::TablesMissing { source },
            false => Self::Database(source),
        }
    }
}

impl FlagsError {
    /// Returns the HTTP status for the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchEnvironment { .. } | Self::NoSuchFeature { .. } => StatusCode::NOT_FOUND,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::UsageConflict { .. } => StatusCode::CONFLICT,
            Self::LimitReached { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::TablesMissing { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Database(error) => error.status_of_database(),
        }
    }
}
