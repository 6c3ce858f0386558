//! Beside layers of tower-http.

use crate::{
    service::service,
    stage::{Stage, ask, bearer, problem},
};
use axum::{Router, routing::get};
use cgk::axum::{Problem, RequestIdLayer};
use http::{Method, Request, StatusCode};
use std::time::Duration;
use tower_http::{
    cors::{Any, CorsLayer},
    limit::RequestBodyLimitLayer,
    timeout::TimeoutLayer,
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

#[tokio::test]
async fn one_id_is_in_every_answer_and_problem_behind_its_layer() {
    let stage = Stage::set().await;
    let outside = Router::new()
        .route("/hanging", get(std::future::pending::<()>))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::ZERO));
    let app = service(&stage)
        .merge(outside)
        .fallback(async || Problem::new(StatusCode::NOT_FOUND))
        .layer(RequestIdLayer::new());
    // `problem` compares the member with the header: behind the tenants' layer, and where it is not reached.
    problem(&ask(&app, bearer("/notes", "x"), "").await, 401);
    problem(&ask(&app, Request::get("/nowhere").header("host", "x"), "").await, 404);
    let timed_out = ask(&app, Request::get("/hanging").header("host", "x"), "").await;
    assert_eq!((timed_out.status, timed_out.header("x-request-id").len()), (504, 36));
    // What a client says is an id only where it is trusted.
    let claimed = || bearer("/notes", "x").header("x-request-id", "claimed");
    assert_ne!(ask(&app, claimed(), "").await.header("x-request-id"), "claimed");
    let trusting = service(&stage).layer(RequestIdLayer::new().trust_request_id());
    let answer = ask(&trusting, claimed(), "").await;
    assert_eq!(answer.header("x-request-id"), "claimed");
    problem(&answer, 401);
    // The control: without the layer there is no id here.
    let bare = Router::new().fallback(async || Problem::new(StatusCode::NOT_FOUND));
    let answer = ask(&bare, Request::get("/nowhere"), "").await;
    assert!(answer.header("x-request-id").is_empty() && answer.json().get("request_id").is_none());
}
