//! The description of the service, `/openapi.json`: OpenAPI 3.1, made of the handlers.

use crate::{app::App, sign_in::SESSION};
use axum::{
    http::header,
    routing::{MethodRouter, get},
};
use utoipa::openapi::{
    InfoBuilder, OpenApi, SecurityRequirement,
    security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
};

/// With what stands in no handler.
pub fn complete(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("repositories-api")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Organizations, repositories inside them, and jobs on repositories."))
        .build();
    let schemes = [
        ("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))),
        ("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key")))),
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION)))),
    ];
    let requirements = schemes.iter().map(|(name, _)| SecurityRequirement::new(*name, [] as [&str; 0])).collect();
    document.security = Some(requirements);
    let components = document.components.get_or_insert_default();
    for (name, scheme) in schemes {
        components.add_security_scheme(name, scheme);
    }
    document
}

/// Serves it.
pub fn route(document: &OpenApi) -> MethodRouter<App> {
    let text = document.to_pretty_json().expect("the description is JSON");
    get(async move || ([(header::CONTENT_TYPE, "application/json")], text.clone()))
}
