//! Errors as answers: `application/problem+json` of RFC 9457.

use super::request_id::RequestId;
use ::axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use std::{fmt, time::Duration};

/// How long a client waits before it asks again, where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error as an answer: `application/problem+json` (RFC 9457), with the members `type`, `title`, `status`, `detail`, `code` and
/// `request_id`, and those that an application adds.
///
/// It is made of the errors of this crate by `?`, and by hand of those of an application. What the server, the driver or a query
/// say is never in the answer: it is in the log, with the same `request_id`, at level `error` for a status of 500 and above and
/// at `info` otherwise.
///
/// | made of | status |
/// |---|---|
/// | [`RequestError`](crate::request::RequestError), [`AuthError`](crate::auth::AuthError), [`TenantAccessDenied`](crate::ownership::TenantAccessDenied), [`ResourceNotFound`](crate::ownership::ResourceNotFound) | their own |
/// | [`Error`](crate::Error) by which running the same again can succeed, or the database is not available | 503 |
/// | a constraint: unique, exclusion or foreign key | 409 |
/// | a constraint: check or not null | 422 |
/// | a tenant that is gone | 404 |
/// | a tenant that is suspended, or a slug that is another organization's by now | 403 |
/// | any other [`Error`](crate::Error) | 500 |
///
/// 503 has the header `retry-after`, and 401 `www-authenticate`.
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse};
/// use cgk::axum::Problem;
/// let response = Problem::new(StatusCode::CONFLICT).detail("the order is shipped").into_response();
/// assert_eq!(response.headers()["content-type"], "application/problem+json");
/// ```
#[derive(Debug)]
#[must_use = "it is answered when the handler returns it"]
pub struct Problem {
    status: StatusCode,
    detail: Option<String>,
    code: Option<&'static str>,
    retry_after: Option<Duration>,
    /// What the application adds.
    members: serde_json::Map<String, serde_json::Value>,
    /// For the log.
    cause: Option<String>,
}

#[derive(serde::Serialize)]
struct Members<'a> {
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
    /// A problem of this status, whose title is the status's own phrase.
    pub fn new(status: StatusCode) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER);
        Self { status, detail: None, code: None, retry_after, members: serde_json::Map::new(), cause: None }
    }

    /// With a text for whoever asked. It is sent as it is.
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    /// With a code that programs decide by, such as `CGK0401`.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// With one member more (an extension member of RFC 9457), such as a list of the fields that are wrong. It is sent as it is.
    ///
    /// ```
    /// use cgk::axum::Problem;
    /// let wrong = Problem::new(http::StatusCode::UNPROCESSABLE_ENTITY).member("errors", vec!["name: is empty"]);
    /// ```
    ///
    /// # Panics
    ///
    /// If the name is one of the members that every problem has.
    pub fn member(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        assert!(!OWN_MEMBERS.contains(&name), "{name} is a member that every problem has");
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// With the header `retry-after`, in whole seconds, rounded up.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// With what is behind it, for the log alone.
    pub fn caused_by(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    /// The status that it is answered with.
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

/// The text for whoever asked.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail.as_deref().or(self.status.canonical_reason()).unwrap_or("error"))
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let id = RequestId::current();
        let request_id = id.as_ref().map(RequestId::as_str);
        self.log(request_id);
        let members = Members {
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
        // What is refused for one caller is not for another.
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
