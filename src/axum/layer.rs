//! The layer that finds the tenant of each request.

use super::{
    problem::Problem,
    request_id::{HEADER, IdSource, RequestId},
};
use crate::{
    context::TenantContext,
    request::{RequestError, RequestTenant, TenantRules, tenant_from_request},
    resolver::Resolver,
    telemetry,
    tenancy::Db,
};
use ::axum::{
    extract::MatchedPath,
    response::{IntoResponse, Response},
};
use http::Request;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tower_layer::Layer;
use tower_service::Service;
use tracing::{Instrument as _, Span, field};

/// Finds the tenant of each request, and runs the inner service in the request's [`TenantContext`].
///
/// For each request, it:
///
/// - creates an id, a UUID of version 7. It is the header `x-request-id` of the response, and the `request_id` of the
///   context and of each [`Problem`];
/// - opens a `tracing` span (target `cgk::axum`) with `request_id`, `method`, `path` (the route's pattern, such as
///   `/orders/{id}`), and, once they are known, `tenant`, `organization_id`, `user_id` and `status`;
/// - finds the tenant with [`tenant_from_request`]. A refused request gets the matching [`Problem`] as response, and
///   the inner service does not run;
/// - runs the inner service in the context of the tenant and the caller, so that [`TenantContext::current`] and
///   [`Db::current`] work in it. A request without a credential has a tenant but no context, even if the layer itself
///   is called in one.
///
/// The layer also works in a router that is nested under a path ([`Router::nest`](::axum::Router::nest),
/// `nest_service`), at any depth. The rules use the path that the client sent, not the remaining part. A middleware
/// that rewrites the path inside a router therefore does not affect the rules; one in front of the outermost router
/// does. Behind two layers, both must find the same tenant and caller (403 otherwise), and the context of the inner one
/// is used.
///
/// A route is behind the layer if it was added to the router before `.layer(…)`. Layers that are added later run before
/// it: add `tower_http`'s CORS layer later, because a preflight request has no credential, and its timeout layer.
///
/// A streamed body is produced after the handler has returned, outside of the context. A [`TenantDb`](super::TenantDb)
/// keeps its tenant there too. For other code, use [`TenantContext::scope`].
///
/// # Cancel safety
///
/// A dropped request, for instance after a timeout or when the client disconnects, leaves no transaction open: see
/// [`Db::with_tenant`] for dropped futures.
#[derive(Clone)]
pub struct TenantLayer {
    shared: Arc<LayerState>,
    id_source: IdSource,
}

struct LayerState {
    rules: TenantRules,
    resolver: Resolver,
    db: Db,
}

/// The result of the layer, for the extractors.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) found: Arc<RequestTenant>,
    /// `None`: the request has no credential.
    pub(super) context: Option<Arc<TenantContext>>,
    pub(super) db: Db,
}

impl fmt::Debug for TenantLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantLayer").field("rules", &self.shared.rules).finish_non_exhaustive()
    }
}

impl TenantLayer {
    /// Creates a layer that finds tenants by these rules. The extractors enter the tenants through this pool.
    pub fn new<E>(rules: TenantRules, resolver: &Resolver, db: &Db<E>) -> Self {
        let shared = LayerState { rules, resolver: resolver.clone(), db: db.errors() };
        Self { shared: Arc::new(shared), id_source: IdSource::New }
    }

    /// Takes the id of a request from its header `x-request-id`, if the header occurs once and has 1 to 128 letters,
    /// digits, `-`, `_` and `.`. Use this only if the service is reachable only through a proxy that sets this header;
    /// otherwise any client can set any id, including the id of another request.
    pub fn trust_request_id(mut self) -> Self {
        self.id_source = IdSource::TrustedHeader;
        self
    }
}

impl<S> Layer<S> for TenantLayer {
    type Service = TenantService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TenantService { layer: self.clone(), inner }
    }
}

/// The service that [`TenantLayer`] creates from a service.
#[derive(Clone, Debug)]
pub struct TenantService<S> {
    layer: TenantLayer,
    inner: S,
}

impl<S, B> Service<Request<B>> for TenantService<S>
where
    S: Service<Request<B>> + Clone + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The ready service handles the request; its clone must become ready first.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let shared = Arc::clone(&self.layer.shared);
        let id = RequestId::of(request.headers(), self.layer.id_source);
        let span = span(&request, &id);
        let (began, method) = (Instant::now(), request.method().clone());
        let path = request.extensions().get::<MatchedPath>().cloned();
        let answered = {
            let (span, id) = (span.clone(), id.clone());
            async move {
                let mut response = answer(&shared, ready, request, &id, &span).await?;
                let status = response.status().as_u16();
                span.record("status", status);
                telemetry::request_answered(&method, path.as_ref().map(MatchedPath::as_str), status, began.elapsed());
                response.headers_mut().insert(HEADER, id.to_value());
                Ok(response)
            }
        };
        Box::pin(id.scope(answered).instrument(span))
    }
}

fn span<B>(request: &Request<B>, id: &RequestId) -> Span {
    let span = tracing::info_span!(
        target: "cgk::axum",
        "request",
        request_id = id.as_str(),
        method = %request.method(),
        path = field::Empty,
        tenant = field::Empty,
        organization_id = field::Empty,
        user_id = field::Empty,
        status = field::Empty,
    );
    // The pattern and not the path: a path can hold secrets, and has too many values for a metric.
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        span.record("path", path.as_str());
    }
    span
}

async fn answer<S, B>(
    shared: &LayerState,
    mut ready: S,
    request: Request<B>,
    id: &RequestId,
    span: &Span,
) -> Result<Response, S::Error>
where
    S: Service<Request<B>>,
    S::Response: IntoResponse,
{
    let (mut parts, body) = request.into_parts();
    let found = match tenant_from_request(&parts, &shared.rules, &shared.resolver).await {
        Ok(found) => Arc::new(found),
        Err(refused) => return Ok(Problem::from(refused).into_response()),
    };
    // The result of an outer layer is about the same request.
    if parts.extensions.get::<Resolved>().is_some_and(|outer| !outer.found.agrees_with(&found)) {
        return Ok(Problem::from(RequestError::Disagreement).into_response());
    }
    span.record("tenant", field::display(&found.tenant.slug));
    span.record("organization_id", field::display(found.tenant.id));
    let context = found.identity.is_some().then(|| Arc::new(found.context().request_id(id.as_str())));
    if let Some(user) = context.as_ref().and_then(|context| context.user_id) {
        span.record("user_id", field::display(user));
    }
    parts.extensions.insert(Resolved { found, context: context.clone(), db: shared.db.clone() });
    let rest = async move { ready.call(Request::from_parts(parts, body)).await };
    let response = match context {
        // In the span above, which has all the fields of the span of `TenantContext::scope`.
        Some(context) => context.quietly(rest).await?,
        // Not in the context of an outer layer, or of a handler that calls a router itself: it would be another
        // request's.
        None => TenantContext::without_caller(rest).await?,
    };
    Ok(response.into_response())
}
