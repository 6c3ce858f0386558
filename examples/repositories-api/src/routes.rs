//! All routes, and the layers around them.

use crate::{
    app::App,
    health,
    http::{origin, problems},
    jobs, openapi, organizations, repositories,
    settings::Settings,
    sign_in, summary,
};
use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
};
use cgk::{
    axum::{RequestIdLayer, TenantLayer},
    request::{InvalidRule, TenantRules},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{
        CompressionLayer,
        predicate::{DefaultPredicate, Predicate},
    },
    limit::RequestBodyLimitLayer,
    set_header::SetResponseHeaderLayer,
    timeout::TimeoutLayer,
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// The service.
pub fn router(app: &App, settings: &Settings) -> Result<Router, InvalidRule> {
    let (tenants, mut document) = of_tenants().split_for_parts();
    let (open, open_document) = open().split_for_parts();
    document.merge(open_document);
    let tenants = tenants.layer(TenantLayer::new(rules(settings)?, &app.resolver, &app.db));
    // One URL is answered differently for each tenant: no cache may answer one with what another has asked for.
    let private = HeaderValue::from_static("private, no-cache");
    let tenants = tenants
        .layer(middleware::from_fn(origin::check))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, private));
    // The strong ETag of a record names its bytes, so those are never other ones.
    let has_no_tag = |_, _, headers: &HeaderMap, _: &_| !headers.contains_key(header::ETAG);
    Ok(tenants
        .merge(open)
        .route("/openapi.json", openapi::route(&openapi::complete(document)))
        .fallback(problems::no_route)
        .method_not_allowed_fallback(problems::no_method)
        .with_state(app.clone())
        // From here on outwards: each is in front of those above it.
        .layer(RequestBodyLimitLayer::new(settings.body_bytes_max))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, settings.request_time_max))
        .layer(CatchPanicLayer::custom(problems::panicked))
        .layer(middleware::from_fn(problems::uniform))
        .layer(CompressionLayer::new().compress_when(DefaultPredicate::new().and(has_no_tag)))
        .layer(RequestIdLayer::new()))
}

/// Every route that has a tenant. Each method of each path is documented by the handler that answers it.
fn of_tenants() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(organizations::list_organizations, organizations::create_organization))
        .routes(routes!(
            organizations::show_organization,
            organizations::update_organization,
            organizations::close_organization
        ))
        .routes(routes!(repositories::list_repositories, repositories::create_repository))
        .routes(routes!(
            repositories::show_repository,
            repositories::update_repository,
            repositories::delete_repository
        ))
        .routes(routes!(jobs::list_repository_jobs, jobs::create_job))
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::show_job, jobs::delete_job))
        .routes(routes!(summary::show_summary))
        .routes(routes!(sign_in::sign_out))
        .routes(routes!(sign_in::show_me))
}

/// Routes without a tenant.
fn open() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(sign_in::begin_sign_in))
        .routes(routes!(sign_in::finish_sign_in))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
}

/// How a request says whose it is. A host that names a tenant must agree with the credential; without a credential nobody learns
/// whether there is such a tenant.
fn rules(settings: &Settings) -> Result<TenantRules, InvalidRule> {
    let mut rules = TenantRules::new()
        .require_credential()
        .bearer_token()
        .api_key_header("x-api-key")?
        .session_cookie(sign_in::SESSION)?
        .subdomain_of(&settings.base_domain)?;
    for host in &settings.hosts {
        rules = rules.host_without_tenant(host)?;
    }
    Ok(rules)
}
