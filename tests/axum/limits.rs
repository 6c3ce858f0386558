//! The limits on the requests and on the connections of each tenant.

use crate::stage::{Stage, ask, bearer, get, rules};
use axum::{Router, routing};
use cgk::axum::{Problem, RequestLimit, TenantDb, TenantLayer, TenantRateLimit};
use http::Request;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// A route whose handler counts its calls, behind a limit.
fn app(stage: &Stage, limit: &TenantRateLimit) -> (Router, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counting = Arc::clone(&calls);
    let handler = async move || {
        counting.fetch_add(1, Ordering::Relaxed);
        "done"
    };
    let tenants = TenantLayer::new(rules(), &stage.resolver, &stage.db);
    (Router::new().route("/", routing::get(handler)).layer(limit.clone()).layer(tenants), calls)
}

/// No request is made again in time: one in a minute, which no test waits for.
#[tokio::test]
async fn a_tenant_that_asks_too_often_is_refused_and_no_other() {
    let stage = Stage::set().await;
    let slow = RequestLimit::per_minute(number(1));
    let limit = TenantRateLimit::new(move |found| match found.tenant.slug.as_str() {
        "acme" => Some(slow.burst(number(3))),
        _ => None,
    });
    let (app, calls) = app(&stage, &limit);
    for _ in 0..3 {
        assert_eq!(get(&app, "/", &stage.of["acme"].session).await.status, 200);
    }
    // Each credential of the tenant: it is the tenant that has a limit.
    for token in [&stage.of["acme"].session, &stage.of["acme"].member, &stage.of["acme"].key] {
        let refused = get(&app, "/", token).await;
        assert_eq!(refused.status, 429);
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        let json = refused.json();
        assert_eq!((&json["detail"], &json["status"]), (&"too many requests".into(), &429.into()));
        assert_eq!(refused.header("content-type"), "application/problem+json");
        assert_eq!(json["request_id"], refused.header("x-request-id"));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    // Who only names the tenant is counted apart, and uses up nothing of it, nor it of them.
    let anonymous = || Request::get("/").header("host", "acme.example.com");
    for _ in 0..3 {
        assert_eq!(ask(&app, anonymous(), "").await.status, 200);
    }
    assert_eq!(ask(&app, anonymous(), "").await.status, 429);
    // The other one has none.
    for _ in 0..10 {
        assert_eq!(get(&app, "/", &stage.of["globex"].session).await.status, 200);
    }
    assert_eq!(limit.tenants(), 2);
    // Who is not let in costs nobody anything.
    assert_eq!(get(&app, "/", "cgk_ses_x").await.status, 401);
}

#[tokio::test]
async fn a_limit_that_changes_holds_from_the_next_request_on() {
    let stage = Stage::set().await;
    let burst = Arc::new(AtomicU32::new(1));
    let now = Arc::clone(&burst);
    let limit = TenantRateLimit::new(move |_| {
        let burst = NonZeroU32::new(now.load(Ordering::Relaxed))?;
        Some(RequestLimit::per_minute(number(1)).burst(burst))
    });
    let (app, _) = app(&stage, &limit);
    let status = async || get(&app, "/", &stage.of["acme"].session).await.status;
    assert_eq!((status().await, status().await), (200, 429));
    burst.store(2, Ordering::Relaxed);
    assert_eq!((status().await, status().await, status().await), (200, 200, 429));
    burst.store(0, Ordering::Relaxed);
    assert_eq!((status().await, status().await), (200, 200));
}

#[tokio::test]
async fn the_number_of_tenants_that_are_remembered_is_bounded() {
    let stage = Stage::set().await;
    let limit = TenantRateLimit::with_tenants_max(1, |_| Some(RequestLimit::per_minute(number(1))));
    let (app, _) = app(&stage, &limit);
    for _ in 0..5 {
        for tenant in ["acme", "globex"] {
            get(&app, "/", &stage.of[tenant].session).await;
            ask(&app, Request::get("/").header("host", format!("{tenant}.example.com")), "").await;
        }
    }
    assert!(limit.tenants() <= 1, "{}", limit.tenants());
}

#[tokio::test]
async fn without_the_layer_it_answers_with_the_fix() {
    let limit = TenantRateLimit::new(|_| None);
    let app = Router::new().route("/", routing::get(async || "done")).layer(limit);
    let answer = ask(&app, bearer("/", "x"), "").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text.contains("TenantLayer is missing"), "{answer:?}");
}

/// `pool.tenant_connections_max`: what the tenant has beyond it is answered with 503, and no other tenant waits.
#[tokio::test]
async fn a_tenant_that_keeps_its_connections_waits_alone() {
    let stage = Stage::set_with(|config| {
        config.with_pool_size_max(3).with_tenant_connections_max(1).with_pool_wait(Duration::from_millis(100))
    })
    .await;
    let (busy, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (entered, ended) = (Arc::clone(&busy), Arc::clone(&go));
    let keep = async move |db: TenantDb<Problem>| {
        db.transaction(async |tx| {
            tx.query("select 1", &[]).await?;
            entered.notify_one();
            ended.notified().await;
            Ok("kept")
        })
        .await
    };
    let ask = async |db: TenantDb| -> Result<&'static str, Problem> {
        db.query_one("select 1", &[]).await?;
        Ok("answered")
    };
    let tenants = TenantLayer::new(rules(), &stage.resolver, &stage.db);
    let app = Router::new().route("/keep", routing::get(keep)).route("/", routing::get(ask)).layer(tenants);
    let others = async {
        busy.notified().await;
        let refused = get(&app, "/", &stage.of["acme"].session).await;
        let answered = get(&app, "/", &stage.of["globex"].session).await;
        go.notify_one();
        (refused, answered)
    };
    let (kept, (refused, answered)) = tokio::join!(get(&app, "/keep", &stage.of["acme"].session), others);
    assert_eq!((kept.status, answered.status, refused.status), (200, 200, 503));
    assert_eq!((refused.header("retry-after"), &refused.json()["code"]), ("1", &"CGK0210".into()));
    assert!(!refused.text.contains("acme"), "{}", refused.text);
    // It is free again.
    assert_eq!(get(&app, "/", &stage.of["acme"].session).await.status, 200);
}
