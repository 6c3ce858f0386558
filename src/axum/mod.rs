//! Tenants in a service on axum 0.8: a layer, extractors, and responses of the type `application/problem+json`.
//!
//! [`TenantLayer`] finds the tenant of each request with [`tenant_from_request`](crate::request::tenant_from_request),
//! responds to refused requests, and runs the inner service in the request's [`TenantContext`](crate::TenantContext).
//! The extractors give a handler the result:
//!
//! | extractor | what it is | refusal |
//! |---|---|---|
//! | [`Tenant`] | the tenant's id and slug, also if only the host or the path names it | |
//! | [`Caller`] | the caller: a session or an API key | 401 without a credential |
//! | [`Context`] | the context of the request | 401 without a credential |
//! | [`TenantDb`] | the database, as this tenant | 401 without a credential |
//! | [`Require<R>`](Require) | a caller that meets a [`Requirement`] | 401 without a credential, 403 if the requirement is not met |
//!
//! If a route is not behind the layer, each of them responds with 500, and the log says what is missing.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use cgk::{axum::{Problem, TenantDb, TenantLayer}, request::TenantRules, resolver::Resolver};
//!
//! async fn orders(db: TenantDb) -> Result<String, Problem> {
//!     let row = db.query_one("select count(*) from orders", &[]).await?;
//!     Ok(row.try_get::<_, i64>(0)?.to_string())
//! }
//!
//! fn app(db: &cgk::Db, resolver: &Resolver) -> Router {
//!     let layer = TenantLayer::new(TenantRules::new().bearer_token(), resolver, db);
//!     Router::new().route("/orders", get(orders)).layer(layer)
//!         // Behind the layer: a route that has no tenant.
//!         .route("/health", get(async || "well"))
//! }
//! ```

mod database;
mod extract;
mod layer;
mod problem;
#[cfg(feature = "rate-limit")]
mod rate_limit;
mod reasons;
mod request_id;

pub use database::TenantDb;
pub use extract::{Caller, Context, Owner, OwnerOrAdmin, Require, Requirement, Tenant};
pub use layer::{TenantLayer, TenantService};
pub use problem::Problem;
#[cfg(feature = "rate-limit")]
pub use rate_limit::{RequestLimit, TenantRateLimit, TenantRateLimitService};
pub use request_id::{RequestIdLayer, RequestIdService};
