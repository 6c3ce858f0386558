//! Every error is a problem of RFC 9457, also those of routing and of the layers.

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use cgk::axum::Problem;
use serde::Serialize;
use std::any::Any;
use utoipa::{IntoResponses, ToSchema};

/// No route has this path.
pub async fn no_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND).detail("there is nothing at this path")
}

/// The route of this path has other methods.
pub async fn no_method(method: Method) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(format!("{method} is not possible at this path"))
}

/// What a handler that panicked answers. The log has the text.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR).caused_by(text.unwrap_or("a handler panicked")).into_response()
}

/// Makes a problem of what a layer answered in plain text: a body that is too long, a request that took too long.
pub async fn uniform(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_problem(response.headers()) {
        return response;
    }
    let detail = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is too long",
        StatusCode::GATEWAY_TIMEOUT => "it took too long; what was begun is undone",
        _ => "it cannot be answered",
    };
    Problem::new(status).detail(detail).into_response()
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json")
}

/// An error (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemSchema {
    /// Always `about:blank`: the status says what it is.
    r#type: String,
    title: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// A code of cgk's, such as `CGK0401`.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Stands in the service's log too.
    request_id: String,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldProblem>>,
}

#[derive(Serialize, ToSchema)]
pub struct FieldProblem {
    field: String,
    detail: String,
}

/// What every route of a tenant may answer.
#[derive(IntoResponses)]
pub enum Refusals {
    /// A parameter or a header is malformed.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemSchema),
    /// There is no credential, or it is not accepted.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemSchema),
    /// The caller may not do this, the organization is suspended, or host and credential name different ones.
    #[response(status = 403, content_type = "application/problem+json")]
    Denied(#[to_schema] ProblemSchema),
    /// The database is not available just now. Nothing was done.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemSchema),
    /// It took too long. What was begun is undone.
    #[response(status = 504, content_type = "application/problem+json")]
    TimedOut(#[to_schema] ProblemSchema),
}

/// What every route with a body may answer besides.
#[derive(IntoResponses)]
pub enum BodyRefusals {
    /// The body is too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemSchema),
    /// The body is not `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    Type(#[to_schema] ProblemSchema),
    /// The body is JSON and not what it must be.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] ProblemSchema),
}

/// There is no such record, or it is another organization's.
#[derive(IntoResponses)]
#[response(status = 404, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only its description is used")]
pub struct NotFound(#[to_schema] ProblemSchema);

/// It conflicts with what is stored.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only its description is used")]
pub struct Conflict(#[to_schema] ProblemSchema);

/// The record was changed meanwhile.
#[derive(IntoResponses)]
#[response(status = 412, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only its description is used")]
pub struct Changed(#[to_schema] ProblemSchema);

/// `If-Match` is missing.
#[derive(IntoResponses)]
#[response(status = 428, content_type = "application/problem+json")]
#[expect(dead_code, reason = "only its description is used")]
pub struct ConditionMissing(#[to_schema] ProblemSchema);
