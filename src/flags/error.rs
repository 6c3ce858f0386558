//! Why an operation on features or usage failed.

use super::environment::Environment;
use crate::error::Error;
use http::StatusCode;
use std::time::SystemTime;
use tokio_postgres::error::SqlState;

/// The result of this module's functions.
pub type Result<T, E = FlagsError> = std::result::Result<T, E>;

/// Why an operation on features or usage failed. Its text may be sent to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// The tenant has no such environment.
    #[error("there is no environment {environment}")]
    NoSuchEnvironment {
        /// What was looked for.
        environment: Environment,
    },
    /// The tenant has no feature of this key.
    #[error("there is no feature {key:?}")]
    NoSuchFeature {
        /// What was looked for.
        key: String,
    },
    /// What was given cannot be stored.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A usage event has the key of another one that is recorded; nothing of the call was recorded.
    #[error("the usage event {key:?} is recorded with another content")]
    UsageConflict {
        /// The key.
        key: String,
    },
    /// More than the plan allows.
    #[error("the limit of {limit} for {metric} is reached: {used} used, {asked} more asked for")]
    LimitReached {
        /// What is limited, as the tables name it.
        metric: String,
        /// What the plan allows.
        limit: u64,
        /// What was used.
        used: u64,
        /// What was asked for beyond that.
        asked: u64,
        /// When a counter begins anew; a level does not by itself.
        resets_at: Option<SystemTime>,
    },
    /// The tables of the template `flags` are missing, or not all of them are there.
    #[error("this needs the tables of the template flags")]
    TablesMissing {
        /// What the server said is missing.
        source: Error,
    },
    /// The tenant could not be entered, or the database did not do it.
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
    /// The HTTP status to answer with.
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
