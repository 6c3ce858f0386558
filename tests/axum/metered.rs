//! What is counted.

use crate::stage::{Stage, ask, bearer, get, rules};
use axum::{Router, routing};
use cgk::axum::{Problem, TenantDb, TenantLayer};
use http::Method;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// Keeps what was counted, by name and labels.
#[derive(Clone, Default)]
struct Counted(Arc<Mutex<BTreeMap<String, Arc<Number>>>>);

#[derive(Default)]
struct Number(AtomicU64);

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Number {
    fn increment(&self, _: f64) {
        unreachable!("gauges are set")
    }

    fn decrement(&self, _: f64) {
        unreachable!("gauges are set")
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of connections")]
    fn set(&self, value: f64) {
        self.0.store(value as u64, Ordering::Relaxed);
    }
}

impl HistogramFn for Number {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counted {
    fn number(&self, key: &Key) -> Arc<Number> {
        let mut labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).map_or(0, |number| number.0.load(Ordering::Relaxed))
    }

    fn names(&self) -> String {
        self.0.lock().unwrap().keys().map(|name| format!("{name}\n")).collect()
    }
}

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.number(key))
    }
}

async fn note(db: TenantDb, axum::extract::Path(id): axum::extract::Path<i64>) -> Result<String, Problem> {
    Ok(db.query_one("select body from notes where id = $1", &[&id]).await?.try_get(0)?)
}

async fn broken(db: TenantDb) -> Result<String, Problem> {
    db.query("select nonsense", &[]).await?;
    Ok(String::new())
}

/// The tests of one thread share a runtime, and so the recorder is this test's alone.
#[tokio::test]
async fn requests_transactions_and_the_pool_are_counted_without_a_tenant_in_any_label() {
    let stage = Stage::set_with_pool(1).await;
    let counted = Counted::default();
    let _recorder = metrics::set_default_local_recorder(&counted);
    let tenants = TenantLayer::new(rules(), &stage.resolver, &stage.db);
    let app =
        Router::new().route("/notes/{id}", routing::get(note)).route("/broken", routing::get(broken)).layer(tenants);
    for _ in 0..2 {
        assert_eq!(get(&app, "/notes/1001", &stage.of["acme"].session).await.status, 200);
    }
    assert_eq!(get(&app, "/broken", &stage.of["globex"].session).await.status, 500);
    assert_eq!(get(&app, "/notes/1001", "cgk_ses_x").await.status, 401);
    let odd = bearer("/notes/1001", &stage.of["acme"].session).method(Method::from_bytes(b"BREW").unwrap());
    assert_eq!(ask(&app, odd, "").await.status, 405);

    let requests = |labels: &str| {
        let (counter, histogram) =
            (format!("cgk_http_requests_total {labels}"), format!("cgk_http_request_duration_seconds {labels}"));
        assert_eq!(counted.get(&counter), counted.get(&histogram), "{labels}");
        counted.get(&counter)
    };
    assert_eq!(requests("method=GET path=/notes/{id} status=200"), 2, "{}", counted.names());
    assert_eq!(requests("method=GET path=/broken status=500"), 1);
    assert_eq!(requests("method=GET path=/notes/{id} status=401"), 1);
    assert_eq!(requests("method=other path=/notes/{id} status=405"), 1);
    // The statements of the handlers; the resolver's are counted too.
    assert!(counted.get("cgk_transactions_total outcome=committed") >= 2);
    assert!(counted.get("cgk_transactions_total outcome=failed") >= 1);
    assert!(counted.get("cgk_pool_wait_seconds outcome=taken") >= 3);
    // One that is given up.
    let before = counted.get("cgk_transactions_total outcome=dropped");
    {
        let acme = "acme".parse().unwrap();
        let call = stage.db.with_tenant(&acme, async |_| {
            std::future::pending::<()>().await;
            Ok(())
        });
        tokio::select! { biased; _ = call => unreachable!("it never ends"), () = std::future::ready(()) => {} }
    }
    assert_eq!(counted.get("cgk_transactions_total outcome=dropped"), before + 1, "{}", counted.names());
    let names = counted.names();
    let pool = format!("pool={}", stage.db.config().session().application_name);
    let gauges = || ["connections", "available", "waiting"].map(|what| counted.get(&format!("cgk_pool_{what} {pool}")));
    // The dropped call's connection is rolled back in its own task. A call that must wait for it shows that it is back.
    stage.db.ping().await.unwrap();
    assert_eq!(gauges(), [1, 1, 0], "{names}");
    let acme = "acme".parse().unwrap();
    let inside = stage.db.with_tenant(&acme, async |_| Ok(gauges())).await.unwrap();
    assert_eq!(inside, [1, 0, 0]);
    assert_eq!(gauges(), [1, 1, 0]);
    for secret in ["acme", "globex", "1001", "cgk_ses", "@"] {
        assert!(!names.contains(secret), "{secret} is in\n{names}");
    }
}
