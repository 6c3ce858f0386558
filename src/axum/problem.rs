//! Error responses: `application/problem+json` of RFC 9457.

use super::request_id::RequestId;
use ::axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use std::{fmt, sync::Arc, time::Duration};

/// The default for how long a client waits before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error response: `application/problem+json` (RFC 9457), with the members `type`, `title`, `status`, `detail`,
/// `code` and `request_id`, and any members that an application adds.
///
/// `?` converts the errors of this crate to a problem; an application creates problems for its own errors. Texts of the
/// server, the driver and queries are never in the response. They are in the log, with the same `request_id`, at level
/// `error` for a status of 500 and above and at `info` otherwise.
///
/// | source | status |
/// |---|---|
/// | [`RequestError`](crate::request::RequestError), [`AuthError`](crate::auth::AuthError), [`DomainError`](crate::domains::DomainError), [`ProvisioningError`](crate::provisioning::ProvisioningError), [`PlatformError`](crate::platform::PlatformError), [`TenantAccessDenied`](crate::ownership::TenantAccessDenied), [`ResourceNotFound`](crate::ownership::ResourceNotFound), and with their features `flags::FlagsError` | their own |
/// | with the feature `redis`, a `cache::CacheError`: Redis is not available | 503 |
/// | any other `cache::CacheError` | 500 |
/// | [`Error`](crate::Error) for which a retry can succeed, or the database is not available | 503 |
/// | constraint violation: unique, exclusion or foreign key | 409 |
/// | constraint violation: check or not null | 422 |
/// | the tenant no longer exists | 404 |
/// | the tenant is suspended, or its slug now belongs to another organization | 403 |
/// | any other [`Error`](crate::Error) | 500 |
///
/// A 503 has the header `retry-after`, and a 401 has `www-authenticate`.
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse};
/// use cgk::axum::Problem;
/// let response = Problem::new(StatusCode::CONFLICT).detail("the order is shipped").into_response();
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is answered when the handler returns it"]
pub struct Problem {
    status: StatusCode,
    detail: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
    /// The members that the application added.
    members: serde_json::Map<String, serde_json::Value>,
    /// For the log.
    cause: Option<String>,
}

#[derive(serde::Serialize)]
struct ProblemMembers<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(flatten)]
    further: &'a serde_json::Map<String, serde_json::Value>,
}

/// The members that a problem sets itself.
const OWN_MEMBERS: [&str; 6] = ["type", "title", "status", "detail", "code", "request_id"];

impl Problem {
    /// Creates a problem with this status. The title is the standard phrase of the status.
    pub fn new(status: StatusCode) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
        Self { status, detail: None, code: None, retry_after, members: serde_json::Map::new(), cause: None }
    }

    /// Sets a text for the client. It is sent unchanged.
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    /// Sets a code for programs to decide by, such as `CGK0401`.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds a member (an extension member of RFC 9457), such as a list of invalid fields. It is sent unchanged.
    ///
    /// ```
    /// use cgk::axum::Problem;
    /// let wrong = Problem::new(http::StatusCode::UNPROCESSABLE_ENTITY).member("errors", vec!["name: is empty"]);
    /// ```
    ///
    /// # Panics
    ///
    /// If the name is one of the standard members.
    pub fn member(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        assert!(!OWN_MEMBERS.contains(&name), "{name} is a member that every problem has");
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the header `retry-after`, in whole seconds, rounded up.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Sets the cause, which is only logged.
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn log(&self, request_id: Option<&str>) {
        let (status, cause) = (self.status.as_u16(), self.cause.as_deref());
        if self.status.is_server_error() {
            tracing::error!(target: "cgk::axum", status, code = self.code, request_id, cause, "a request failed");
        } else if cause.is_some() {
            tracing::info!(target: "cgk::axum", status, code = self.code, request_id, cause, "a request was refused");
        }
    }
}

/// The text for the client.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().or(self.status.canonical_reason()).unwrap_or("error"))
    }
}

impl std::error::Error for Problem {}

/// `?` converts what several callers share, such as the error of `TenantCache::get_or_compute`.
impl From<Arc<Self>> for Problem {
    fn from(shared: Arc<Self>) -> Self {
        Arc::unwrap_or_clone(shared)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let id = RequestId::current();
        let request_id = id.as_ref().map(RequestId::as_str);
        self.log(request_id);
        let members = ProblemMembers {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: self.detail.as_deref(),
            code: self.code,
            request_id,
            further: &self.members,
        };
        let body = serde_json::to_vec(&members).expect("texts and a number are JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        // A refusal for one caller must not be cached for another.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
