//! A request limit per tenant.

use super::{extract::resolved, problem::Problem};
use crate::{request::RequestTenant, tenant::OrganizationId};
use ::axum::response::{IntoResponse, Response};
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use http::{Request, StatusCode};
use quick_cache::sync::Cache;
use std::{
    fmt,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// The default number of tenants that are counted.
const TENANTS_MAX: usize = 10_000;

/// How many requests a tenant may send: a rate, and a maximum number at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimit {
    interval: Duration,
    burst: NonZeroU32,
}

impl RequestLimit {
    /// Allows this number of requests per second, and the same number at once.
    ///
    /// ```
    /// use cgk::axum::RequestLimit;
    /// use std::num::NonZeroU32;
    /// let limit = RequestLimit::per_second(NonZeroU32::new(50).unwrap()).burst(NonZeroU32::new(200).unwrap());
    /// ```
    pub fn per_second(requests: NonZeroU32) -> Self {
        Self::per(Duration::from_secs(1), requests)
    }

    /// Allows this number of requests per minute, and the same number at once.
    pub fn per_minute(requests: NonZeroU32) -> Self {
        Self::per(Duration::from_secs(60), requests)
    }

    fn per(time: Duration, requests: NonZeroU32) -> Self {
        Self { interval: time / requests.get(), burst: requests }
    }

    /// Sets the number of requests at once.
    pub fn burst(mut self, requests: NonZeroU32) -> Self {
        self.burst = requests;
        self
    }

    fn quota(&self) -> Quota {
        // Four billion per second are more than one per nanosecond.
        Quota::with_period(self.interval.max(Duration::from_nanos(1)))
            .expect("it is longer than zero")
            .allow_burst(self.burst)
    }
}

/// Limits the requests of each tenant: a request above the limit gets the response 429 with `retry-after`, and the
/// inner service does not run.
///
/// It runs behind [`TenantLayer`](super::TenantLayer), which finds the tenant, so add it to the router before that
/// layer:
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use cgk::axum::{RequestLimit, TenantLayer, TenantRateLimit};
/// use std::num::NonZeroU32;
///
/// fn app(tenants: TenantLayer) -> Router {
///     let fifty = RequestLimit::per_second(NonZeroU32::new(50).unwrap());
///     Router::new()
///         .route("/orders", get(async || "…"))
///         .layer(TenantRateLimit::new(move |_| Some(fifty)))
///         .layer(tenants)
/// }
/// ```
///
/// The closure returns the limit of a tenant, or `None` for no limit. It is called for every request and must not
/// block. A changed limit applies from the next request on. Requests with and without a credential are counted
/// separately, so that an unauthenticated client cannot use up a tenant's limit by sending requests to its host.
///
/// Each process counts separately, for a bounded number of tenants. When there are more, the tenant with the fewest
/// requests is removed first, and its count starts again.
#[derive(Clone)]
pub struct TenantRateLimit {
    shared: Arc<LimiterState>,
}

type LimitOf = dyn Fn(&RequestTenant) -> Option<RequestLimit> + Send + Sync;

struct LimiterState {
    limit_of: Box<LimitOf>,
    tenants: Cache<Counted, Arc<Counter>>,
    clock: DefaultClock,
}

/// The group of requests that are counted together.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Counted {
    organization: OrganizationId,
    has_credential: bool,
}

struct Counter {
    limit: RequestLimit,
    limiter: DefaultDirectRateLimiter,
}

impl fmt::Debug for TenantRateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantRateLimit").field("tenants", &self.shared.tenants.len()).finish_non_exhaustive()
    }
}

impl TenantRateLimit {
    /// Creates a limit that the closure returns for each tenant, for at most 10,000 tenants.
    pub fn new(limit_of: impl Fn(&RequestTenant) -> Option<RequestLimit> + Send + Sync + 'static) -> Self {
        Self::with_tenants_max(TENANTS_MAX, limit_of)
    }

    /// Creates the same limit for another maximum number of tenants. Each takes about 200 bytes, or twice that if it
    /// has requests with and without a credential.
    pub fn with_tenants_max(
        tenants_max: usize,
        limit_of: impl Fn(&RequestTenant) -> Option<RequestLimit> + Send + Sync + 'static,
    ) -> Self {
        let shared = LimiterState {
            limit_of: Box::new(limit_of),
            tenants: Cache::new(tenants_max.max(1)),
            clock: DefaultClock::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns how many tenants are counted now. A tenant with requests both with and without a credential counts
    /// twice.
    pub fn tenants(&self) -> usize {
        self.shared.tenants.len()
    }
}

impl LimiterState {
    /// Returns how long to wait if this request is above the limit.
    fn check(&self, found: &RequestTenant) -> Result<(), Duration> {
        let Some(limit) = (self.limit_of)(found) else { return Ok(()) };
        let key = Counted { organization: found.tenant.id, has_credential: found.identity.is_some() };
        let new = || Arc::new(Counter { limit, limiter: RateLimiter::direct(limit.quota()) });
        let counter = match self.tenants.get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(new())) {
            Ok(counter) if counter.limit == limit => counter,
            Ok(_) => {
                let counter = new();
                self.tenants.insert(key, Arc::clone(&counter));
                counter
            }
            Err(never) => match never {},
        };
        counter.limiter.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

impl<S> Layer<S> for TenantRateLimit {
    type Service = TenantRateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TenantRateLimitService { layer: self.clone(), inner }
    }
}

/// The service that [`TenantRateLimit`] creates from a service.
#[derive(Clone, Debug)]
pub struct TenantRateLimitService<S> {
    layer: TenantRateLimit,
    inner: S,
}

impl<S, B> Service<Request<B>> for TenantRateLimitService<S>
where
    S: Service<Request<B>> + Send + 'static,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let refused = match resolved(&parts).map(|resolved| self.layer.shared.check(&resolved.found)) {
            Ok(Ok(())) => None,
            Ok(Err(wait)) => Some(too_many(wait)),
            Err(missing) => Some(missing),
        };
        match refused {
            // The ready service is not called, and stays ready.
            Some(refused) => Box::pin(async move { Ok(refused.into_response()) }),
            None => {
                let answered = self.inner.call(Request::from_parts(parts, body));
                Box::pin(async move { Ok(answered.await?.into_response()) })
            }
        }
    }
}

fn too_many(wait: Duration) -> Problem {
    let wait = wait.max(Duration::from_secs(1));
    Problem::new(StatusCode::TOO_MANY_REQUESTS).detail("too many requests").retry_after(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_an_interval_and_a_burst() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let quota = RequestLimit::per_minute(number(120)).burst(number(7)).quota();
        assert_eq!((quota.replenish_interval(), quota.burst_size()), (Duration::from_millis(500), number(7)));
        assert_eq!(RequestLimit::per_second(number(u32::MAX)).quota().replenish_interval(), Duration::from_nanos(1));
    }
}
