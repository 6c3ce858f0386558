//! `record_usage` and `usage_of`: an event is counted once.

use crate::{
    platform::{must_end, slug},
    stage::Stage,
};
use cgk::{Db, Error};
use serde_json::{Value, json};

async fn record(db: &Db, events: &Value) -> Result<(i64, i64), Error> {
    let sql = "select recorded, repeated from record_usage($1::pg_catalog.text::pg_catalog.jsonb)";
    let row = db.tenant(&slug("acme")).query_one(sql, &[&events.to_string()]).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_counts_once_whatever_time_it_comes_with() {
    let stage = Stage::set().await;
    let calls = |key: &str, quantity: i64, at: &str| json!({"key": key, "metric": "api_calls", "quantity": quantity, "occurred_at": at});
    let first = json!([calls("a", 5, "2026-01-31T23:59:59Z"), calls("b", 7, "2026-02-01T00:00:00Z")]);
    assert_eq!(record(&stage.db, &first).await.unwrap(), (2, 0));
    assert_eq!(record(&stage.db, &first).await.unwrap(), (0, 2));
    // In another month, twice in one call, and beside a new one.
    let again = json!([
        calls("a", 5, "2026-03-01T00:00:00Z"),
        calls("c", 1, "2026-01-01T00:00:00Z"),
        calls("c", 1, "2026-01-01T00:00:00Z")
    ]);
    assert_eq!(record(&stage.db, &again).await.unwrap(), (1, 2));
    let totals = "select string_agg(format('%s %s', month, quantity), ', ' order by month) from usage_totals";
    assert_eq!(stage.text(totals).await, "2026-01-01 6, 2026-02-01 7");
    assert_eq!(stage.count("select sum(quantity)::bigint from usage_metrics").await, 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_content_is_refused_with_all_of_its_call() {
    let stage = Stage::set().await;
    let first = json!([{"key": "a", "metric": "api_calls", "quantity": 5}]);
    record(&stage.db, &first).await.unwrap();
    for other in [
        json!({"key": "a", "metric": "api_calls", "quantity": 6}),
        json!({"key": "a", "metric": "seats", "quantity": 5}),
        json!({"key": "a", "metric": "custom", "name": "exports", "quantity": 5}),
    ] {
        let events = json!([{"key": "new", "metric": "api_calls", "quantity": 1}, other]);
        let refused = record(&stage.db, &events).await.unwrap_err();
        assert_eq!(refused.sqlstate().map(|state| state.code()), Some("23505"), "{}", refused.report());
    }
    assert_eq!(stage.count("select quantity from usage_totals").await, 5);
    assert_eq!(stage.count("select count(*) from usage_keys").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_level_is_the_last_that_is_known_and_a_counter_begins_anew_each_month() {
    let stage = Stage::set().await;
    let events = json!([
        {"key": "1", "metric": "storage", "quantity": 900, "occurred_at": "2026-01-10T00:00:00Z"},
        {"key": "2", "metric": "storage", "quantity": 500, "occurred_at": "2026-01-20T00:00:00Z"},
        {"key": "3", "metric": "api_calls", "quantity": 4},
        {"key": "4", "metric": "api_calls", "quantity": 9, "occurred_at": "2020-01-01T00:00:00Z"},
        {"key": "5", "metric": "custom", "name": "exports", "quantity": 2},
        {"key": "6", "metric": "seats", "quantity": 0},
    ]);
    record(&stage.db, &events).await.unwrap();
    // Came late, and is older than what is known.
    record(
        &stage.db,
        &json!([{"key": "7", "metric": "storage", "quantity": 700, "occurred_at": "2026-01-15T00:00:00Z"}]),
    )
    .await
    .unwrap();
    let usage = "select concat_ws(' ', usage_of('storage'), usage_of('api_calls'), usage_of('custom', 'exports'),
                                  usage_of('custom', 'imports'), usage_of('seats'))";
    assert_eq!(stage.text(usage).await, "500 4 2 0 0");
    record(
        &stage.db,
        &json!([{"key": "8", "metric": "storage", "quantity": 100, "occurred_at": "2026-02-01T00:00:00Z"}]),
    )
    .await
    .unwrap();
    assert_eq!(stage.count("select usage_of('storage')").await, 100);
}

/// A client whose clock is a thousand years ahead does not decide about the level until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_level_of_a_later_month_does_not_hold_before_it() {
    let stage = Stage::set().await;
    let seats = |key: &str, quantity: i64| json!({"key": key, "metric": "seats", "quantity": quantity});
    let mut ahead = seats("ahead", 99);
    ahead["occurred_at"] = json!("2999-01-01T00:00:00Z");
    record(&stage.db, &json!([seats("a", 5), ahead])).await.unwrap();
    assert_eq!(stage.count("select usage_of('seats')").await, 5);
    record(&stage.db, &json!([seats("b", 6)])).await.unwrap();
    assert_eq!(stage.count("select usage_of('seats')").await, 6);
    // The control: its total is there, and holds when its month comes.
    stage.run("delete from usage_totals where quantity = 6").await;
    stage.run("update usage_totals set month = date_trunc('month', now() at time zone 'UTC')").await;
    assert_eq!(stage.count("select usage_of('seats')").await, 99);
}

/// The zone of the session, which another program may have set, does not decide about the month of an event.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_without_a_zone_is_one_of_utc() {
    let stage = Stage::set().await;
    let times = [
        ("2026-02-01 00:30", "2026-02-01"),
        ("2026-02-28T23:30:00", "2026-02-01"),
        ("2026-03-01T00:30:00+01:00", "2026-02-01"),
    ];
    for (number, zone) in ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"].into_iter().enumerate() {
        stage.run(&format!("set timezone = '{zone}'")).await;
        for (time, month) in times {
            let event =
                json!([{"key": format!("{zone} {time}"), "metric": "api_calls", "quantity": 1, "occurred_at": time}]);
            stage.watch.query_one("select record_usage($1::text::jsonb)", &[&event.to_string()]).await.unwrap();
            assert_eq!(
                stage.text("select string_agg(month::text, ' ') from usage_totals").await,
                month,
                "{zone} {time}"
            );
        }
        // The control: the session's zone is as it was, and is another one.
        assert_eq!(stage.text("select current_setting('timezone')").await, zone);
        assert_eq!(stage.count("select quantity from usage_totals").await, 3 * (1 + i64::try_from(number).unwrap()));
    }
}

/// Sixteen senders of the same events, in different orders: none waits for another in a circle, and each event counts once.
#[tokio::test(flavor = "multi_thread")]
async fn sixteen_at_once_count_each_event_once() {
    let stage = Stage::set().await;
    let event = |n: usize| {
        let metric = ["api_calls", "seats", "storage"][n % 3];
        json!({"key": format!("k{n}"), "metric": metric, "quantity": n, "occurred_at": format!("2026-0{}-01T00:00:00Z", 1 + n % 5)})
    };
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..16 {
        let db = stage.db.clone();
        let mut events: Vec<Value> = (0..60).map(event).collect();
        events.rotate_left(sender * 7 % 60);
        if sender % 2 == 1 {
            events.reverse();
        }
        senders.spawn(async move { record(&db, &Value::Array(events)).await.unwrap().0 });
    }
    let recorded: i64 = must_end(senders.join_all()).await.iter().sum();
    assert_eq!(recorded, 60);
    assert_eq!(stage.count("select count(*) from usage_metrics").await, 60);
    let calls: i64 = (0..60).filter(|n| n % 3 == 0).sum();
    assert_eq!(stage.count("select sum(quantity)::bigint from usage_totals where metric = 'api_calls'").await, calls);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_stored_takes_its_call_along() {
    let stage = Stage::set().await;
    let good = json!({"key": "a", "metric": "api_calls", "quantity": 5});
    for bad in [
        json!({"key": "b", "metric": "chairs", "quantity": 5}),
        json!({"key": "b", "metric": "api_calls", "quantity": -5}),
        json!({"key": "b", "metric": "api_calls"}),
        json!({"metric": "api_calls", "quantity": 5}),
        json!({"key": "b", "metric": "api_calls", "quantity": 1.5}),
        // Mistyped: it would be counted at another time.
        json!({"key": "b", "metric": "api_calls", "quantity": 5, "occured_at": "2026-01-01T00:00:00Z"}),
        json!(null),
        json!(["key"]),
    ] {
        assert!(record(&stage.db, &json!([good, bad])).await.is_err(), "{bad}");
    }
    assert_eq!(stage.count("select count(*) from usage_keys").await, 0);
    assert_eq!(record(&stage.db, &json!([good])).await.unwrap(), (1, 0));
}
