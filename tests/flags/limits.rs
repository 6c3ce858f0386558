//! Usage by the library: events in batches, and what a plan allows.

use crate::{
    platform::{must_end, slug},
    stage::Stage,
};
use cgk::flags::{FlagsError, Metric, Usage, UsageEvent};
use std::time::{Duration, SystemTime};

async fn subscribe(stage: &Stage, plan: &str) {
    stage.run("delete from public.subscriptions").await;
    stage
        .run(&format!(
            "insert into public.subscriptions (organization_id, plan_id, status, period_anchor, period_start, period_end)
             select o.id, p.id, 'active', now(), now(), now() + interval '1 month'
               from public.organizations o, public.plans p where o.slug = 'acme' and p.key = '{plan}'"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_counted_once_in_batches() {
    let stage = Stage::set().await;
    let usage = Usage::new(&stage.db);
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_780_000_000_123_456);
    let events: Vec<UsageEvent> = (0..2500)
        .map(|n| UsageEvent::new(format!("call-{n}"), Metric::ApiCalls, n).at(at).with("route", "/orders"))
        .collect();
    let first = usage.record(&slug("acme"), &events).await.unwrap();
    assert_eq!((first.recorded, first.repeated), (2500, 0));
    let again = usage.record(&slug("acme"), &events).await.unwrap();
    assert_eq!((again.recorded, again.repeated), (0, 2500));
    assert_eq!(stage.count("select sum(quantity)::bigint from usage_totals").await, (0..2500).sum::<i64>());
    let exact =
        "select count(*) from usage_metrics where occurred_at = 'epoch'::timestamptz + interval '1780000000.123456 s'
                  and attributes = '{\"route\": \"/orders\"}'";
    assert_eq!(stage.count(exact).await, 2500);
    assert_eq!(usage.record(&slug("acme"), &[]).await.unwrap().recorded, 0);
    // Of another tenant nothing, and its keys are its own.
    assert_eq!(usage.record(&slug("globex"), &events[..10]).await.unwrap().recorded, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_named_and_nothing_of_its_batch_is_recorded() {
    let stage = Stage::set().await;
    let usage = Usage::new(&stage.db);
    usage.record(&slug("acme"), &[UsageEvent::new("a", Metric::ApiCalls, 1)]).await.unwrap();
    let other = [UsageEvent::new("b", Metric::ApiCalls, 1), UsageEvent::new("a", Metric::ApiCalls, 2)];
    let conflict = usage.record(&slug("acme"), &other).await.unwrap_err();
    assert!(matches!(&conflict, FlagsError::UsageConflict { key } if key == "a"), "{conflict:?}");
    assert_eq!(conflict.status().as_u16(), 409);
    // Alone in its call.
    let conflict = usage.record(&slug("acme"), &other[1..]).await.unwrap_err();
    assert!(matches!(&conflict, FlagsError::UsageConflict { key } if key == "a"), "{conflict:?}");
    // In one call.
    let twice = [UsageEvent::new("c", Metric::Seats, 1), UsageEvent::new("c", Metric::Storage, 1)];
    let conflict = usage.record(&slug("acme"), &twice).await.unwrap_err();
    assert!(matches!(&conflict, FlagsError::UsageConflict { key } if key == "c"), "{conflict:?}");
    assert_eq!(stage.count("select count(*) from usage_keys").await, 1);
    // The control: the same event again is no conflict.
    let same = [UsageEvent::new("b", Metric::ApiCalls, 1), UsageEvent::new("a", Metric::ApiCalls, 1)];
    let recorded = usage.record(&slug("acme"), &same).await.unwrap();
    assert_eq!((recorded.recorded, recorded.repeated), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_refused_before_anything_is_sent() {
    let stage = Stage::set().await;
    let usage = Usage::new(&stage.db);
    let good = UsageEvent::new("good", Metric::Custom("exports.csv".into()), 1_000_000_000_000_000);
    for bad in [
        UsageEvent::new("", Metric::Seats, 1),
        UsageEvent::new("x".repeat(256), Metric::Seats, 1),
        UsageEvent::new("a\0b", Metric::Seats, 1),
        UsageEvent::new("x", Metric::Seats, 1_000_000_000_000_001),
        UsageEvent::new("x", Metric::Custom(String::new()), 1),
        UsageEvent::new("x", Metric::Custom("Exports".into()), 1),
        UsageEvent::new("x", Metric::Custom("exports csv".into()), 1),
        UsageEvent::new("x", Metric::Custom("exPorts".into()), 1),
        UsageEvent::new("x", Metric::Custom(format!("a{}", "b".repeat(100))), 1),
        UsageEvent::new("x", Metric::Seats, 1).at(SystemTime::UNIX_EPOCH),
        UsageEvent::new("x", Metric::Seats, 1).at(time(946_684_799)),
        UsageEvent::new("x", Metric::Seats, 1).at(time(32_503_593_601)),
        UsageEvent::new("x", Metric::Seats, 1).with("a\0b", 1),
        UsageEvent::new("x", Metric::Seats, 1).with("a", serde_json::json!([{"b": "c\0d"}])),
        UsageEvent::new("x", Metric::Seats, 1).with("a", serde_json::json!({"b\0c": 1})),
    ] {
        let refused = usage.record(&slug("acme"), &[good.clone(), bad.clone()]).await.unwrap_err();
        assert!(matches!(refused, FlagsError::Invalid { .. }), "{bad:?}: {refused:?}");
        assert_eq!(refused.status().as_u16(), 422);
    }
    assert_eq!(stage.count("select count(*) from usage_keys").await, 0);
    assert_eq!(usage.record(&slug("acme"), &[good]).await.unwrap().recorded, 1);
    // The longest key, whose characters are not its bytes, and the longest name, with each of the characters it may have.
    let longest = UsageEvent::new("ü".repeat(255), Metric::Custom(format!("a0_.-{}", "z".repeat(95))), 1);
    assert_eq!(usage.record(&slug("acme"), &[longest]).await.unwrap().recorded, 1);
    // The first and the last time that the table takes.
    let ends = [946_684_800, 32_503_593_600].map(|at| UsageEvent::new(at.to_string(), Metric::Seats, 1).at(time(at)));
    assert_eq!(usage.record(&slug("acme"), &ends).await.unwrap().recorded, 2);
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_limits_what_it_names() {
    let stage = Stage::set().await;
    let usage = Usage::new(&stage.db);
    let acme = slug("acme");
    // Nobody limits anything.
    let free = usage.check(&acme, &Metric::ApiCalls, 1_000_000).await.unwrap();
    assert_eq!((free.used, free.limit, free.left()), (0, None, None));

    stage
        .run(
            "insert into public.usage_limits (plan_id, metric, name, quantity_max)
             select id, 'api_calls', '', 10 from public.plans where key = 'hobby' union all
             select id, 'seats', '', 3 from public.plans where key = 'hobby' union all
             select id, 'custom', 'exports', 0 from public.plans where key = 'hobby' union all
             select id, 'api_calls', '', null from public.plans where key = 'enterprise'",
        )
        .await;
    // Without a subscription, what some plan limits is limited to nothing.
    let reached = usage.check(&acme, &Metric::ApiCalls, 1).await.unwrap_err();
    assert!(matches!(reached, FlagsError::LimitReached { limit: 0, .. }), "{reached:?}");
    assert_eq!(usage.check(&acme, &Metric::Storage, 1).await.unwrap().limit, None);

    subscribe(&stage, "hobby").await;
    usage
        .record(&acme, &[UsageEvent::new("1", Metric::ApiCalls, 7), UsageEvent::new("2", Metric::Seats, 3)])
        .await
        .unwrap();
    let left = usage.check(&acme, &Metric::ApiCalls, 3).await.unwrap();
    assert_eq!((left.used, left.limit, left.left()), (7, Some(10), Some(3)));
    let resets_at = left.resets_at.unwrap();
    let next_month: SystemTime = stage
        .watch
        .query_one(
            "select (date_trunc('month', now() at time zone 'UTC') + interval '1 month') at time zone 'UTC'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(resets_at, next_month);
    let reached = usage.check(&acme, &Metric::ApiCalls, 4).await.unwrap_err();
    assert_eq!(reached.to_string(), "the limit of 10 for api_calls is reached: 7 used, 4 more asked for");
    assert_eq!(reached.status().as_u16(), 429);
    let FlagsError::LimitReached { limit: 10, used: 7, asked: 4, resets_at: Some(_), .. } = reached else {
        panic!("{reached:?}")
    };
    // A level does not begin anew by itself; a custom metric has its own row; what has none is free.
    let seats = usage.check(&acme, &Metric::Seats, 1).await.unwrap_err();
    assert!(
        matches!(&seats, FlagsError::LimitReached { metric, resets_at: None, .. } if metric == "seats"),
        "{seats:?}"
    );
    let exports = usage.check(&acme, &Metric::Custom("exports".into()), 1).await.unwrap_err();
    assert_eq!(exports.to_string(), "the limit of 0 for exports is reached: 0 used, 1 more asked for");
    assert!(usage.check(&acme, &Metric::Custom("imports".into()), 1).await.is_ok());
    let unnamed = usage.allowance(&acme, &Metric::Custom("Exports".into())).await.unwrap_err();
    assert!(matches!(unnamed, FlagsError::Invalid { .. }), "{unnamed:?}");
    usage.record(&acme, &[UsageEvent::new("3", Metric::Seats, 2)]).await.unwrap();
    assert!(usage.check(&acme, &Metric::Seats, 1).await.is_ok());

    subscribe(&stage, "enterprise").await;
    assert_eq!(usage.check(&acme, &Metric::ApiCalls, u64::MAX).await.unwrap().limit, None);
}

/// The same in path mode, where row level security is about the login.
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_in_path_mode() {
    let stage = Stage::set_path_mode().await;
    stage
        .run("insert into public.usage_limits (plan_id, metric, quantity_max) select id, 'seats', 3 from public.plans where key = 'hobby'")
        .await;
    subscribe(&stage, "hobby").await;
    let usage = Usage::new(&stage.db);
    assert_eq!(usage.allowance(&slug("acme"), &Metric::Seats).await.unwrap().limit, Some(3));
    assert_eq!(usage.allowance(&slug("globex"), &Metric::Seats).await.unwrap().limit, Some(0));
}

/// Dropped while it waits for a lock, a call has recorded nothing, and the same call can be made again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_record_can_be_made_again() {
    let stage = Stage::set().await;
    let usage = Usage::new(&stage.db);
    let events = [UsageEvent::new("a", Metric::ApiCalls, 5)];
    stage.run("begin; lock table usage_totals").await;
    {
        let acme = slug("acme");
        let mut record = std::pin::pin!(usage.record(&acme, &events));
        tokio::select! {
            _ = &mut record => panic!("the table is locked"),
            () = stage.until_one_waits() => {}
        }
    }
    stage.run("commit").await;
    let again = must_end(usage.record(&slug("acme"), &events)).await.unwrap();
    assert_eq!(again.recorded + again.repeated, 1);
    assert_eq!(stage.count("select quantity from usage_totals").await, 5);
}
