//! Beside layers of tower-http.

use crate::{
    service::service,
    stage::{Stage, ask, bearer},
};
use http::{Method, Request};
use tower_http::{
    cors::{Any, CorsLayer},
    limit::RequestBodyLimitLayer,
};

#[tokio::test]
async fn a_preflight_request_needs_no_credential_in_front_of_the_layer() {
    let stage = Stage::set().await;
    let preflight = || {
        Request::builder()
            .method(Method::OPTIONS)
            .uri("/notes")
            .header("host", "api.example.com")
            .header("origin", "https://app.example.com")
            .header("access-control-request-method", "GET")
    };
    let cors = CorsLayer::new().allow_origin(Any).allow_methods([Method::GET]).expose_headers(Any);
    let app = service(&stage).layer(cors);
    let answer = ask(&app, preflight(), "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    // The control: without it the layer refuses.
    assert_eq!(ask(&service(&stage), preflight(), "").await.status, 404);
    // A refusal has the headers of CORS too, so that a browser may read it.
    let refused = ask(&app, bearer("/notes", "x").header("origin", "https://app.example.com"), "").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "*"));
}

#[tokio::test]
async fn a_body_is_limited_in_front_of_the_layer() {
    let stage = Stage::set().await;
    let app = service(&stage).layer(RequestBodyLimitLayer::new(10));
    let post = || bearer("/notes", &stage.of["acme"].session).method("POST");
    let count = async || stage.number("select count(*) from tenant_acme.notes").await;
    assert_eq!(ask(&app, post(), "ten bytes.").await.status, 201);
    assert_eq!(ask(&app, post().header("content-length", "11"), "eleven byte").await.status, 413);
    // Without its length in front, it is the reader of the body that notices.
    assert_eq!(ask(&app, post(), "eleven byte").await.status, 413);
    assert_eq!(count().await, 2);
}
