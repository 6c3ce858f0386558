//! A layer in a router that is nested, and two layers: neither changes which tenant a request names.

use crate::stage::{Stage, ask, bearer, problem};
use axum::{Router, extract::Path, routing::get};
use cgk::{
    TenantContext,
    axum::{Problem, RequestIdLayer, Tenant, TenantDb, TenantLayer},
    platform::Actor,
    request::TenantRules,
};
use http::{Request, Uri};
use std::collections::HashMap;
use tower_http::catch_panic::CatchPanicLayer;

fn by_path() -> TenantRules {
    TenantRules::new().path_prefix("/t").unwrap().bearer_token()
}

fn layer(stage: &Stage, rules: TenantRules) -> TenantLayer {
    TenantLayer::new(rules, &stage.resolver, &stage.db)
}

/// The note that the request's tenant has, and the tenant that the path names to the handler.
async fn note(Path(path): Path<HashMap<String, String>>, db: TenantDb) -> Result<String, Problem> {
    let row = db.query_one("select body from notes", &[]).await?;
    Ok(format!("{}: {}", path.get("tenant").map_or("", |tenant| tenant), row.try_get::<_, String>(0)?))
}

/// The tenant of the layer, and that of the context.
async fn who(Tenant(tenant): Tenant) -> String {
    let context = TenantContext::if_current().map_or("none".to_owned(), |context| context.slug.to_string());
    format!("{}, context {context}", tenant.slug)
}

/// The second route is reached where the path names two tenants.
fn routes() -> Router {
    Router::new()
        .route("/note", get(note))
        .route("/who", get(who))
        .route("/path", get(async |uri: Uri| uri.path().to_owned()))
        .route("/t/{other}/note", get(note))
        .route("/t/{other}/who", get(who))
}

/// Whoever only names a tenant acts for nobody, also where an outer layer has found a caller.
#[tokio::test]
async fn a_request_without_a_credential_acts_for_nobody() {
    let stage = Stage::set().await;
    let routes = || Router::new().route("/t/{tenant}/actor", get(async || format!("{:?}", Actor::current())));
    let named = TenantRules::new().path_prefix("/t").unwrap();
    let alone = routes().layer(layer(&stage, named.clone()));
    let inner = routes().layer(layer(&stage, named)).layer(layer(&stage, by_path()));
    let member = &stage.of["acme"].session;
    for (app, request) in [
        (&alone, Request::get("/t/acme/actor")),
        (&inner, bearer("/t/acme/actor", member)),
        (&alone, bearer("/t/acme/actor", member)),
    ] {
        assert_eq!(ask(app, request, "").await.text, "Anonymous");
    }
    // The controls: a layer that reads the credential, and a route that no layer is in front of.
    let known = routes().layer(layer(&stage, by_path()));
    assert!(ask(&known, bearer("/t/acme/actor", member), "").await.text.starts_with("User("));
    assert_eq!(ask(&routes(), bearer("/t/acme/actor", member), "").await.text, "System");
}

#[tokio::test]
async fn a_nested_layer_sees_the_path_that_the_client_has_sent() {
    let stage = Stage::set().await;
    let layer = layer(&stage, by_path());
    let apps = [
        ("outside", Router::new().nest("/t/{tenant}", routes()).layer(layer.clone())),
        ("nest", Router::new().nest("/t/{tenant}", routes().layer(layer.clone()))),
        ("nest_service", Router::new().nest_service("/t/{tenant}", routes().layer(layer.clone()))),
        ("twice", Router::new().nest("/t", Router::new().nest("/{tenant}", routes().layer(layer.clone())))),
        ("service in nest", Router::new().nest("/t", Router::new().nest_service("/{tenant}", routes().layer(layer)))),
    ];
    let acme = &stage.of["acme"].session;
    for (kind, app) in &apps {
        // The precondition: nothing of the tenant is left of the path.
        assert_eq!(ask(app, bearer("/t/acme/path", acme), "").await.text, "/path", "{kind}");
        let own = ask(app, bearer("/t/acme/note", acme), "").await;
        assert_eq!((own.status, &*own.text), (200, "acme: note of acme"), "{kind}");
        let twice = ask(app, bearer("/t/acme/t/globex/note", acme), "").await;
        assert_eq!((twice.status, &*twice.text), (200, "acme: note of acme"), "{kind}");
        for path in ["/t/globex/note", "/t/nosuch/note", "/t/globex/t/acme/note", "/t/nosuch/t/acme/note"] {
            assert_eq!(problem(&ask(app, bearer(path, acme), "").await, 403), "access is denied", "{kind} {path}");
        }
        // Without a credential the path alone names the tenant.
        let anybody = |path: &str| Request::get(path).header("host", "api.example.com");
        for path in ["/t/acme/who", "/t/acme/t/globex/who"] {
            let answer = ask(app, anybody(path), "").await;
            assert_eq!((answer.status, &*answer.text), (200, "acme, context none"), "{kind} {path}");
        }
        problem(&ask(app, anybody("/t/nosuch/t/acme/who"), "").await, 404);
    }
}

#[tokio::test]
async fn of_two_layers_the_inner_ones_context_holds_and_both_agree() {
    let stage = Stage::set().await;
    let header = || TenantRules::new().trusted_header("x-inner").unwrap();
    let app = routes().layer(layer(&stage, header())).layer(layer(&stage, TenantRules::new().bearer_token()));
    let acme = &stage.of["acme"];
    let same = ask(&app, bearer("/who", &acme.session).header("x-inner", "acme"), "").await;
    assert_eq!((same.status, &*same.text), (200, "acme, context none"));
    // The extractors say the same.
    problem(&ask(&app, bearer("/note", &acme.session).header("x-inner", "acme"), "").await, 401);
    let other = ask(&app, bearer("/who", &acme.session).header("x-inner", "globex"), "").await;
    assert_eq!(problem(&other, 403), "access is denied");

    // Two credentials of one request: of one tenant's users, the same one.
    let keys = || TenantRules::new().api_key_header("x-api-key").unwrap();
    let app = routes().layer(layer(&stage, keys())).layer(layer(&stage, TenantRules::new().bearer_token()));
    for (slug, status) in [("acme", 200), ("globex", 403)] {
        let answer = ask(&app, bearer("/who", &acme.session).header("x-api-key", &stage.of[slug].key), "").await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let cookie = || TenantRules::new().session_cookie("sid").unwrap();
    let app = routes().layer(layer(&stage, cookie())).layer(layer(&stage, TenantRules::new().bearer_token()));
    for (session, status) in [(&acme.session, 200), (&acme.member, 403)] {
        let request = bearer("/who", &acme.session).header("cookie", format!("sid={session}"));
        assert_eq!(ask(&app, request, "").await.status, status);
    }
}

/// A handler that asks a router itself, in the context of its own request.
#[tokio::test]
async fn a_request_without_a_credential_is_in_no_context_of_its_callers() {
    let stage = Stage::set().await;
    let app = routes().layer(layer(&stage, TenantRules::new().trusted_header("x-tenant").unwrap()));
    let context = TenantContext::new(stage.of["acme"].organization, "acme".parse().unwrap());
    let asked = async {
        assert!(TenantContext::current().is_ok());
        ask(&app, Request::get("/who").header("x-tenant", "globex"), "").await.text
    };
    assert_eq!(context.scope(asked).await, "globex, context none");
}

#[tokio::test]
async fn the_answer_to_a_panic_has_an_id_behind_a_layer_that_makes_one() {
    let stage = Stage::set().await;
    let boom = || Router::new().route("/boom", get(async || -> &'static str { panic!("boom") }));
    let rules = || TenantRules::new().bearer_token();
    let behind = boom().layer(CatchPanicLayer::new()).layer(layer(&stage, rules()));
    let in_front = boom().layer(layer(&stage, rules())).layer(CatchPanicLayer::new());
    let outermost = in_front.clone().layer(RequestIdLayer::new());
    let acme = &stage.of["acme"].session;
    for (app, has_id) in [(behind, true), (in_front, false), (outermost, true)] {
        let answer = ask(&app, bearer("/boom", acme), "").await;
        assert_eq!((answer.status, !answer.header("x-request-id").is_empty()), (500, has_id));
    }
}
