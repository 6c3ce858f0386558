//! A program with an API key uses up its organization's quota, is told when there is more, and goes on in the next period.

use crate::stage::{Answer, Stage, ask, get, rules};
use axum::{Router, extract::State, routing::post};
use cgk::{
    Db,
    axum::{Context, Problem, TenantLayer},
    platform::{Entitlement, NewSubscription, PlanDefinition, Plans, Quota, QuotaKind, RenewalPeriod, Subscriptions},
};
use http::{HeaderMap, Request};
use std::time::{Duration, SystemTime};

/// Starts a run; the client's idempotency key stands for it.
async fn start_run(State(db): State<Db>, Context(context): Context, headers: HeaderMap) -> Result<String, Problem> {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let consumption = Quota::new(&db).consume(context.organization_id, &QuotaKind::RUNS, 1, key).await?;
    Ok(format!("{} {}", consumption.left, consumption.repeated))
}

async fn run(app: &Router, token: &str, key: &str) -> Answer {
    let request = Request::post("/runs").header("host", "api.example.com").header("x-api-key", token);
    ask(app, request.header("idempotency-key", key), "").await
}

fn body(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.text.as_str())
}

#[tokio::test]
async fn an_api_key_has_its_quota_until_429_and_again_in_the_next_period() {
    let stage = Stage::set().await;
    let (acme, globex) = (&stage.of["acme"], &stage.of["globex"]);
    let plan = PlanDefinition::new("two_runs".parse().unwrap()).includes(Entitlement::each_period(QuotaKind::RUNS, 2));
    Plans::new(&stage.db).define(&plan).await.unwrap();
    let subscriptions = Subscriptions::new(&stage.db);
    for organization in [acme.organization, globex.organization] {
        let new = NewSubscription::to("two_runs".parse().unwrap());
        subscriptions.subscribe(organization, &new).await.unwrap();
    }
    let app = Router::new().route("/runs", post(start_run)).with_state(stage.db.clone());
    let app = app.layer(TenantLayer::new(rules(), &stage.resolver, &stage.db));

    assert_eq!(body(&run(&app, &acme.key, "a").await), (200, "1 false"));
    // A request that is sent again counts once.
    assert_eq!(body(&run(&app, &acme.key, "a").await), (200, "1 true"));
    assert_eq!(body(&run(&app, &acme.key, "b").await), (200, "0 false"));
    let refused = run(&app, &acme.key, "c").await;
    let json = refused.json();
    assert_eq!((refused.status, json["left"].as_u64(), json["asked"].as_u64()), (429, Some(0), Some(1)));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    // There is more when the period ends.
    let current = subscriptions.current(acme.organization).await.unwrap();
    let to_end = current.period_end.duration_since(SystemTime::now()).unwrap();
    let wait = Duration::from_secs(refused.header("retry-after").parse().unwrap());
    assert!(wait >= to_end && wait <= to_end + Duration::from_secs(600), "{wait:?} {to_end:?}");
    // The other organization has its own, and whoever has no key is not asked about quota.
    assert_eq!(body(&run(&app, &globex.key, "a").await), (200, "1 false"));
    assert_eq!(run(&app, "cgk_key_nonsense", "d").await.status, 401);
    assert_eq!(get(&app, "/runs", &acme.session).await.status, 405);

    // As if the period were over: it stays refused until it is renewed.
    stage
        .run(
            "update subscriptions set period_anchor = period_anchor - interval '40 days',
                    period_start = period_start - interval '40 days', period_end = period_end - interval '40 days';
             update subscription_periods set starts_at = starts_at - interval '40 days', ends_at = ends_at - interval '40 days',
                    paid_until = paid_until - interval '40 days';
             update grants set starts_at = starts_at - interval '40 days', expires_at = expires_at - interval '40 days',
                    counted_since = counted_since - interval '40 days';
             update quota_consumptions set created_at = created_at - interval '40 days'",
        )
        .await;
    assert_eq!(run(&app, &acme.key, "c").await.status, 429);
    subscriptions.renew(acme.organization, RenewalPeriod::Next).await.unwrap();
    assert_eq!(body(&run(&app, &acme.key, "c").await), (200, "1 false"));
    // What was counted in the period before is not counted again.
    assert_eq!(body(&run(&app, &acme.key, "a").await), (200, "1 true"));
}
