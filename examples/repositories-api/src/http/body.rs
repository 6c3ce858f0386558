//! The JSON body of a request: read, checked, and with the hash that an idempotency key is compared by.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
};
use cgk::axum::Problem;
use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The body of a request: `application/json` that is a `T` and passes its checks.
///
/// 413 if it is too long, 415 if it is of another type, 400 if it is no JSON, 422 with a list of the fields otherwise.
pub struct Body<T> {
    pub value: T,
    /// SHA-256 of the text.
    pub hash: [u8; 32],
}

impl<S: Send + Sync, T: DeserializeOwned + Validate<Context = ()>> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        let Json(value) = Json::<T>::from_bytes(&bytes).map_err(|rejection| {
            // The rejection's text says which field, and what was expected there.
            Problem::new(rejection.status()).detail(rejection.body_text())
        })?;
        value.validate().map_err(|report| invalid(&report))?;
        Ok(Self { value, hash: Sha256::digest(&bytes).into() })
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).detail("the body must be application/json")),
    }
}

fn unreadable(rejection: BytesRejection) -> Problem {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE).detail("the body is too long"),
        _ => Problem::new(StatusCode::BAD_REQUEST).detail("the body ends before it is whole"),
    }
}

fn invalid(report: &garde::Report) -> Problem {
    let errors: Vec<Value> =
        report.iter().map(|(field, error)| json!({ "field": field.to_string(), "detail": error.message() })).collect();
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
        .detail("a field has a value that is not allowed")
        .member("errors", errors)
}

/// For `garde(custom(…))`: PostgreSQL's text has no zero byte.
pub fn no_zero<T: AsRef<str>>(text: &T, _: &()) -> garde::Result {
    match text.as_ref().contains('\0') {
        true => Err(garde::Error::new("holds the character U+0000")),
        false => Ok(()),
    }
}
