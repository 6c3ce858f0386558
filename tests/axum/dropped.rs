//! A request that is dropped in the middle of a transaction, by whoever asked or by a timeout, leaves nothing behind.

use crate::{
    service::{layer, routes, service},
    stage::{HANG, Stage, ask, bearer, get, must_end},
};
use axum::{Router, body::Body, routing::post};
use cgk::axum::{Problem, TenantDb};
use http::StatusCode;
use std::time::Duration;
use tokio::sync::watch;
use tower::ServiceExt as _;
use tower_http::timeout::TimeoutLayer;

const LEFT: &str = "select count(*) from tenant_acme.notes where body = 'left behind'";
/// Whether a session of the service has a transaction open and waits for its client.
const OPEN: &str = "select exists (select from pg_stat_activity where datname = current_database()
    and application_name <> 'observer' and state like 'idle in transaction%')";
const CLOSED: &str = "select not exists (select from pg_stat_activity where datname = current_database()
    and application_name <> 'observer' and state like 'idle in transaction%')";

/// The service, and a route that writes and never ends; how often it has come that far.
fn hanging(stage: &Stage) -> (Router, watch::Receiver<usize>) {
    let (counter, arrived) = watch::channel(0);
    let hang = async move |db: TenantDb| -> Result<(), Problem> {
        db.transaction(async |tx| {
            tx.execute("insert into notes values (7, 'left behind')", &[]).await?;
            counter.send_modify(|times| *times += 1);
            std::future::pending().await
        })
        .await?;
        Ok(())
    };
    (routes(stage).route("/hanging", post(hang)).layer(layer(stage)), arrived)
}

/// The next requests, of both tenants, through the one connection of the pool.
async fn next_ones(stage: &Stage) {
    let app = service(stage);
    for slug in ["globex", "acme"] {
        let answer = get(&app, "/notes", &stage.of[slug].session).await;
        let notes = answer.json();
        assert_eq!((answer.status, notes.as_array().unwrap().len()), (200, 1), "{notes}");
        assert_eq!(notes[0]["body"], format!("note of {slug}"));
    }
    stage.until(CLOSED).await;
    assert_eq!(stage.number(LEFT).await, 0);
}

#[tokio::test]
async fn a_request_that_is_dropped_leaves_nothing_behind() {
    let stage = Stage::set_with_pool(1).await;
    let (app, mut arrived) = hanging(&stage);
    for times in 1..=3 {
        let request = bearer("/hanging", &stage.of["acme"].session).method("POST").body(Body::empty()).unwrap();
        let asked = tokio::spawn(app.clone().oneshot(request));
        must_end(arrived.wait_for(|arrived| *arrived == times)).await.unwrap();
        // The control: the transaction is seen while it is open.
        stage.until(OPEN).await;
        asked.abort();
        assert!(must_end(asked).await.unwrap_err().is_cancelled());
        next_ones(&stage).await;
    }
}

#[tokio::test]
async fn a_request_that_times_out_leaves_nothing_behind() {
    let stage = Stage::set_with_pool(1).await;
    let (app, arrived) = hanging(&stage);
    let mut limit = Duration::from_millis(50);
    // On a busy machine the limit may come before the transaction: then a longer one.
    while *arrived.borrow() == 0 {
        assert!(limit < HANG, "the handler is never reached");
        let app = app.clone().layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, limit));
        let answer = ask(&app, bearer("/hanging", &stage.of["acme"].session).method("POST"), "").await;
        assert_eq!(answer.status, 504, "{answer:?}");
        next_ones(&stage).await;
        limit *= 2;
    }
}
