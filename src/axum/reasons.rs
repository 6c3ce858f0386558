//! Maps each error of this crate to a response that discloses little.

use super::problem::Problem;
#[cfg(feature = "redis")]
use crate::cache::CacheError;
#[cfg(feature = "flags")]
use crate::flags::FlagsError;
use crate::{
    auth::AuthError,
    domains::DomainError,
    error::{Error, ErrorKind, TenantError},
    ownership::{ResourceNotFound, TenantAccessDenied},
    platform::PlatformError,
    provisioning::ProvisioningError,
    request::RequestError,
};
use http::StatusCode;
use std::time::{Duration, SystemTime};
use tokio_postgres::error::SqlState;

const DENIED: &str = "access is denied";
const UNAVAILABLE: &str = "it cannot be answered just now";

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        // A problem that an application returned from a closure with the default error type.
        let error = match error {
            Error::Application(own) => match own.downcast::<Self>() {
                Ok(problem) => return *problem,
                Err(other) => Error::Application(other),
            },
            error => error,
        };
        let (status, detail) = answer_to(&error);
        let problem = Self::new(status).code(error.code()).caused_by(error.report());
        match detail {
            Some(detail) => problem.detail(detail),
            None => problem,
        }
    }
}

/// Returns the status, and a fixed text: the error's own text may quote the server and rows.
fn answer_to(error: &Error) -> (StatusCode, Option<&'static str>) {
    if error.constraint().is_some() || error.sqlstate() == Some(&SqlState::NOT_NULL_VIOLATION) {
        return match error.sqlstate() {
            Some(state) if [SqlState::CHECK_VIOLATION, SqlState::NOT_NULL_VIOLATION].contains(state) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Some("a value is not allowed"))
            }
            _ => (StatusCode::CONFLICT, Some("it conflicts with what is stored")),
        };
    }
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, Some(UNAVAILABLE));
    match error.kind() {
        _ if error.is_retryable() => unavailable,
        ErrorKind::Unavailable | ErrorKind::Locked | ErrorKind::NotReady => unavailable,
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, Some("there is no such tenant")),
        ErrorKind::Suspended => (StatusCode::FORBIDDEN, Some(DENIED)),
        ErrorKind::Conflict if matches!(error, Error::Tenant(TenantError::ContextStale { .. })) => {
            (StatusCode::FORBIDDEN, Some(DENIED))
        }
        ErrorKind::CommitUnknown => (StatusCode::INTERNAL_SERVER_ERROR, Some("it is unknown whether it was done")),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
    }
}

/// `?` converts the driver's errors, for instance in `row.try_get(0)?`.
impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        let problem = Self::new(error.status()).detail(error.to_string());
        match error {
            RequestError::Database { source } => problem.code(source.code()).caused_by(source.report()),
            RequestError::Credential { source } => problem.caused_by(reason(&source)),
            error => problem.caused_by(format_args!("{error:?}")),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let status = error.status();
        match error {
            AuthError::Database(error) => Self::of_database(status, error),
            AuthError::TablesMissing { source } => Self::new(status).code(source.code()).caused_by(source.report()),
            error => Self::new(status).detail(error.to_string()).caused_by(reason(&error)),
        }
    }
}

impl From<ProvisioningError> for Problem {
    fn from(error: ProvisioningError) -> Self {
        let status = error.status();
        match error {
            ProvisioningError::Database(error) => Self::of_database(status, error),
            ProvisioningError::TablesMissing { source } => {
                Self::new(status).code(source.code()).caused_by(source.report())
            }
            error => Self::new(status).detail(error.to_string()),
        }
    }
}

impl From<DomainError> for Problem {
    fn from(error: DomainError) -> Self {
        let status = error.status();
        match error {
            DomainError::Database(error) => Self::of_database(status, error),
            DomainError::TablesMissing { source } => Self::new(status).code(source.code()).caused_by(source.report()),
            error => Self::new(status).detail(error.to_string()),
        }
    }
}

/// An exceeded quota has the members `left` and `asked`. It has `retry-after` if the time of the next grant is known.
impl From<PlatformError> for Problem {
    fn from(error: PlatformError) -> Self {
        let problem = Self::new(error.status());
        match error {
            PlatformError::Database(source) => Self::of_database(problem.status(), source),
            PlatformError::TablesMissing { source } => problem.code(source.code()).caused_by(source.report()),
            PlatformError::QuotaExceeded { left, asked, resets_at } => {
                let problem = problem.detail(error.to_string());
                problem.member("left", left).member("asked", asked).retry_at(resets_at)
            }
            error => problem.detail(error.to_string()),
        }
    }
}

/// A reached limit has the members `limit`, `used` and `asked`. It has `retry-after` if the time of the counter's reset
/// is known.
#[cfg(feature = "flags")]
impl From<FlagsError> for Problem {
    fn from(error: FlagsError) -> Self {
        let problem = Self::new(error.status());
        match error {
            FlagsError::Database(source) => Self::of_database(problem.status(), source),
            FlagsError::TablesMissing { source } => problem.code(source.code()).caused_by(source.report()),
            FlagsError::LimitReached { limit, used, asked, resets_at, .. } => {
                let problem = problem.detail(error.to_string());
                problem.member("limit", limit).member("used", used).member("asked", asked).retry_at(resets_at)
            }
            error => problem.detail(error.to_string()),
        }
    }
}

/// An error of the cache is in the log, and the client gets a fixed text.
#[cfg(feature = "redis")]
impl From<CacheError> for Problem {
    fn from(error: CacheError) -> Self {
        let problem = match error {
            CacheError::TimedOut { .. } | CacheError::Unavailable { .. } | CacheError::Refused { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE).detail(UNAVAILABLE)
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR),
        };
        problem.caused_by(error)
    }
}

impl Problem {
    /// Sets the header `retry-after` to the time until then, and to a second if it has passed meanwhile.
    fn retry_at(self, at: Option<SystemTime>) -> Self {
        match at {
            Some(at) => self.retry_after(at.duration_since(SystemTime::now()).unwrap_or(Duration::from_secs(1))),
            None => self,
        }
    }

    /// 503 if the database is not available; otherwise the status of the error.
    fn of_database(status: StatusCode, error: Error) -> Self {
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                Self::new(status).code(error.code()).caused_by(error.report()).detail(UNAVAILABLE)
            }
            _ => error.into(),
        }
    }
}

/// Returns why a credential was not accepted, for the log.
fn reason(error: &AuthError) -> String {
    match error.rejection() {
        Some(reason) => format!("{error}: {reason:?}"),
        None => format!("{error:?}"),
    }
}

impl From<TenantAccessDenied> for Problem {
    fn from(error: TenantAccessDenied) -> Self {
        Self::new(error.status()).detail(error.to_string())
    }
}

impl From<ResourceNotFound> for Problem {
    fn from(error: ResourceNotFound) -> Self {
        Self::new(error.status()).detail(error.to_string())
    }
}
