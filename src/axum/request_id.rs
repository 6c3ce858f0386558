//! The id of a request: where it comes from, and how responses get it.

use ::axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower_layer::Layer;
use tower_service::Service;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The maximum length of an id from a request.
const LENGTH_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The id of a request: letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug)]
pub(super) struct RequestId(Arc<str>);

/// Whether the id of a request may come from the header `x-request-id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdSource {
    /// A new one for each request.
    New,
    /// The one in the header, if it is well-formed.
    TrustedHeader,
}

impl RequestId {
    /// Returns the id that an outer layer created, or a new one.
    pub(super) fn of(headers: &HeaderMap, source: IdSource) -> Self {
        if let Some(known) = Self::current() {
            return known;
        }
        let given = (source == IdSource::TrustedHeader).then(|| Self::given(headers)).flatten();
        given.unwrap_or_else(|| Self(uuid::Uuid::now_v7().to_string().into()))
    }

    /// Returns the id from the request, if the header occurs once and is well-formed.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(only), None) = (values.next(), values.next()) else { return None };
        let text = only.to_str().ok()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=LENGTH_MAX).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self(text.into()))
    }

    /// Returns the id of the request that the current task handles.
    pub(super) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    pub(super) fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), future)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("letters, digits and a few signs are a header's value")
    }
}

/// Gives every request its id, also where [`TenantLayer`](super::TenantLayer) is not reached: for routes without a
/// tenant, and for responses of layers in between, such as a timeout.
///
/// Add it after all other layers, so that it runs before them. The id is the header `x-request-id` of the response and
/// the `request_id` of each [`Problem`](super::Problem). `TenantLayer` uses this id instead of creating its own.
///
/// ```no_run
/// use axum::{Router, http::StatusCode};
/// use cgk::axum::{Problem, RequestIdLayer};
///
/// fn app(api: Router) -> Router {
///     api.fallback(async || Problem::new(StatusCode::NOT_FOUND)).layer(RequestIdLayer::new())
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct RequestIdLayer {
    source: IdSource,
}

impl Default for RequestIdLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestIdLayer {
    /// Creates a layer that sets a new id, a UUID of version 7, for each request.
    pub fn new() -> Self {
        Self { source: IdSource::New }
    }

    /// Takes the id from the request's header, like
    /// [`TenantLayer::trust_request_id`](super::TenantLayer::trust_request_id).
    pub fn trust_request_id(mut self) -> Self {
        self.source = IdSource::TrustedHeader;
        self
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestIdService { source: self.source, inner }
    }
}

/// The service that [`RequestIdLayer`] creates from a service.
#[derive(Clone, Debug)]
pub struct RequestIdService<S> {
    source: IdSource,
    inner: S,
}

impl<S, B> Service<Request<B>> for RequestIdService<S>
where
    S: Service<Request<B>>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let id = RequestId::of(request.headers(), self.source);
        let value = id.to_value();
        let answered = CURRENT.sync_scope(id.clone(), || self.inner.call(request));
        Box::pin(id.scope(async move {
            let mut response = answered.await?.into_response();
            response.headers_mut().insert(HEADER, value);
            Ok(response)
        }))
    }
}
