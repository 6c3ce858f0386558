//! Requests whose clients go away.

use crate::stage::{Ask, Stage, must_end};
use serde_json::json;

const WAITING: &str = "from pg_stat_activity where datname = current_database() and application_name <> 'observer'
    and wait_event_type = 'Lock'";
const OPEN: &str = "from pg_stat_activity where datname = current_database() and application_name <> 'observer'
    and (state like 'idle in transaction%' or state = 'active' and xact_start is not null)";

#[tokio::test]
async fn requests_that_are_dropped_in_a_transaction_leave_nothing() {
    let stage = Stage::set_with(|_, config| config.with_pool_size_max(4)).await;
    let acme = stage.of("acme");
    let path = format!("/organizations/{}/repositories", acme.organization);
    for round in 0..3 {
        // Every insert waits for this lock, inside its transaction.
        stage.block().await;
        let asks = (0..30).map(|number| {
            let fields = json!({ "name": format!("dropped-{round}-{number}") });
            stage.start(
                Ask::new("POST", &path)
                    .bearer(&acme.key)
                    .header("idempotency-key", format!("{round}-{number}"))
                    .json(&fields),
            )
        });
        let asks: Vec<_> = asks.collect();
        // The control: the transactions are seen while they are open.
        stage.until(&format!("select count(*) = 4 {WAITING}")).await;
        for ask in &asks {
            ask.abort();
        }
        for ask in asks {
            assert!(must_end(ask).await.unwrap_err().is_cancelled());
        }
        stage.until(&format!("select not exists (select {OPEN})")).await;
        stage.unblock().await;
        // Both tenants are served, and nothing was done.
        for slug in ["acme", "globex"] {
            let tenant = stage.of(slug);
            let list =
                Ask::new("GET", format!("/organizations/{}/repositories", tenant.organization)).bearer(&tenant.key);
            let list = stage.send(&list).await.json();
            assert_eq!(
                (list["items"].as_array().unwrap().len(), &list["items"][0]["name"]),
                (1, &json!(format!("{slug}-vault")))
            );
        }
    }
    assert_eq!(stage.number(&format!("select count(*) {OPEN}")).await, 0);
    assert_eq!(stage.number("select count(*) from tenant_acme.idempotency_keys").await, 0);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_problem_and_undone() {
    let stage = Stage::set_with(|settings, config| {
        settings.request_time_max = std::time::Duration::from_secs(2);
        config
    })
    .await;
    let acme = stage.of("acme");
    stage.block().await;
    let path = format!("/organizations/{}/repositories", acme.organization);
    let late = stage.send(&Ask::new("POST", &path).bearer(&acme.key).json(&json!({ "name": "late" }))).await;
    assert_eq!(late.problem(504), "it took too long; what was begun is undone");
    stage.until(&format!("select not exists (select {OPEN})")).await;
    stage.unblock().await;
    assert_eq!(stage.number("select count(*) from tenant_acme.repositories where name = 'late'").await, 0);
}
