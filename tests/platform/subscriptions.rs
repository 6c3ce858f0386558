//! Subscriptions: what each operation leaves behind, also when it is repeated, refused, or killed at a statement.

use crate::stage::{Stage, must_end, run};
use cgk::{
    OrganizationId,
    platform::{
        Allowance, Cancellation, NewGrant, NewSubscription, PlanKey, Plans, PlatformError, Quota, QuotaKind,
        RenewalPeriod, Subscription, SubscriptionStatus, Subscriptions,
    },
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(text: &str) -> PlanKey {
    text.parse().unwrap()
}

fn to(plan: &str) -> NewSubscription {
    NewSubscription::to(key(plan))
}

async fn left(stage: &Stage, kind: &QuotaKind) -> Allowance {
    let balances = Quota::new(&stage.db).left(stage.acme).await.unwrap();
    balances.iter().find(|balance| balance.kind == *kind).map_or(Allowance::Limited(0), |balance| balance.left)
}

async fn consume(stage: &Stage, kind: &QuotaKind, amount: u64, key: &str) {
    Quota::new(&stage.db).consume(stage.acme, kind, amount, key).await.unwrap();
}

/// Statements after which so many seconds have passed for the subscriptions, their periods, the grants and the consumptions of `which`.
pub(crate) fn seconds_passed(seconds: i64, which: &str) -> [String; 2] {
    // Far away and back, so that no period starts where another one does while they are moved.
    const FAR: i64 = 100_000 * 24 * 60 * 60;
    [seconds + FAR, -FAR].map(|seconds| {
        // PostgreSQL 14 reads no more than 32 bits of seconds in the text of an interval.
        let by = format!("{seconds} * interval '1 second'");
        format!(
            "update subscriptions set trial_ends_at = trial_ends_at - {by}, period_anchor = period_anchor - {by},
                    period_start = period_start - {by}, period_end = period_end - {by} where {which};
             update subscription_periods set starts_at = starts_at - {by}, ends_at = ends_at - {by},
                    paid_until = paid_until - {by} where {which};
             update grants set starts_at = starts_at - {by}, expires_at = expires_at - {by},
                    counted_since = counted_since - {by} where {which};
             update quota_consumptions set created_at = created_at - {by} where {which}"
        )
    })
}

pub(crate) fn days_passed(days: i64, which: &str) -> [String; 2] {
    seconds_passed(days * 24 * 60 * 60, which)
}

/// As if so many days had passed for everybody.
pub(crate) async fn days_pass(stage: &Stage, days: u32) {
    for sql in days_passed(days.into(), "true") {
        stage.run(&sql).await;
    }
}

async fn events(stage: &Stage, organization: OrganizationId) -> Vec<String> {
    let sql = "select type from domain_events where organization_id = $1 order by position";
    let events: Vec<String> = stage.rows(sql, &[&organization]).await.iter().map(|row| row.get(0)).collect();
    // Each has its line in the audit log.
    let sql = "select action from audit_events where organization_id = $1 order by occurred_at, id";
    let actions: Vec<String> = stage.rows(sql, &[&organization]).await.iter().map(|row| row.get(0)).collect();
    assert_eq!(events, actions);
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_grants_what_its_plan_includes() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    let none = subscriptions.current(stage.acme).await;
    assert!(matches!(none, Err(PlatformError::NotFound { what: "subscription" })), "{none:?}");
    let made = subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    assert_eq!((made.plan.as_str(), &made.status), ("hobby", &SubscriptionStatus::Active));
    assert_eq!(subscriptions.current(stage.acme).await.unwrap(), made);
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(1000));
    assert_eq!(left(&stage, &QuotaKind::SEATS).await, Allowance::Limited(3));
    assert_eq!(left(&stage, &QuotaKind::CREDITS).await, Allowance::Limited(100));
    assert_eq!(stage.count("select count(*) from grants where organization_id <> (select id from organizations where slug = 'acme')").await, 0);
    let again = subscriptions.subscribe(stage.acme, &to("team")).await;
    assert!(matches!(again, Err(PlatformError::AlreadySubscribed)), "{again:?}");
    assert_eq!(events(&stage, stage.acme).await, ["cgk.subscription.started"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_subscribed_to_is_refused() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    let refused =
        async |organization, new: NewSubscription| subscriptions.subscribe(organization, &new).await.unwrap_err();
    let nobody = OrganizationId(uuid::Uuid::nil());
    assert!(matches!(refused(nobody, to("hobby")).await, PlatformError::NotFound { what: "organization" }));
    assert!(matches!(refused(stage.acme, to("platinum")).await, PlatformError::NotFound { what: "plan" }));
    Plans::new(&stage.db).archive(&key("scale")).await.unwrap();
    assert!(matches!(refused(stage.acme, to("scale")).await, PlatformError::NotFound { what: "plan" }));
    let long = to("hobby").trial(4000 * DAY);
    let both = to("hobby").trial(DAY).period_end(SystemTime::now() + DAY);
    let passed = to("hobby").period_end(SystemTime::now() - DAY);
    for new in [
        to("hobby").period_months(0),
        to("hobby").period_months(121),
        to("hobby").trial(Duration::ZERO),
        long,
        both,
        passed,
    ] {
        let error = refused(stage.acme, new.clone()).await;
        assert!(matches!(error, PlatformError::Invalid { .. }), "{new:?}: {error:?}");
    }
    assert_eq!(stage.count("select count(*) from subscriptions").await, 0);
    assert_eq!(stage.count("select count(*) from grants").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_plan_replaces_grants_and_keeps_what_was_bought() {
    let stage = Stage::set().await;
    let (subscriptions, quota) = (Subscriptions::new(&stage.db), Quota::new(&stage.db));
    subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::RUNS, 50)).await.unwrap();
    quota.grant(stage.acme, &NewGrant::promocode(QuotaKind::RUNS, 30).expires_in(400 * DAY)).await.unwrap();
    consume(&stage, &QuotaKind::RUNS, 400, "a").await;
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(600 + 80));

    let changed = subscriptions.change_plan(stage.acme, &key("team")).await.unwrap();
    assert_eq!(changed.plan.as_str(), "team");
    // What was used in the period counts under the new plan.
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(10_000 - 400 + 80));
    assert_eq!(left(&stage, &QuotaKind::SEATS).await, Allowance::Limited(10));
    // To the plan that it has: nothing.
    assert_eq!(subscriptions.change_plan(stage.acme, &key("team")).await.unwrap(), changed);
    consume(&stage, &QuotaKind::RUNS, 2000, "b").await;
    subscriptions.change_plan(stage.acme, &key("hobby")).await.unwrap();
    // 2,400 were used of 1,000. Nothing below zero, and no more by changing to and fro.
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(80));
    assert_eq!(left(&stage, &QuotaKind::CREDITS).await, Allowance::Limited(100));
    subscriptions.change_plan(stage.acme, &key("team")).await.unwrap();
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(7600 + 80));
    // What was taken from a grant that was replaced goes back to the one that counts.
    assert!(quota.release(stage.acme, "b").await.unwrap());
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(9600 + 80));
    subscriptions.change_plan(stage.acme, &key("enterprise")).await.unwrap();
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Unlimited);
    consume(&stage, &QuotaKind::RUNS, 1_000_000, "c").await;
    subscriptions.change_plan(stage.acme, &key("team")).await.unwrap();
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(80));
    let unknown = subscriptions.change_plan(stage.acme, &key("platinum")).await;
    assert!(matches!(unknown, Err(PlatformError::NotFound { what: "plan" })), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seats_in_use_outlive_a_change_to_a_smaller_plan() {
    let stage = Stage::set().await;
    let (subscriptions, quota) = (Subscriptions::new(&stage.db), Quota::new(&stage.db));
    subscriptions.subscribe(stage.acme, &to("team")).await.unwrap();
    for member in 0..5 {
        consume(&stage, &QuotaKind::SEATS, 1, &format!("member:{member}")).await;
    }
    subscriptions.change_plan(stage.acme, &key("hobby")).await.unwrap();
    let balances = quota.left(stage.acme).await.unwrap();
    let seats = balances.iter().find(|balance| balance.kind == QuotaKind::SEATS).unwrap();
    assert_eq!((seats.granted, seats.used, seats.left), (3.into(), 5, 0.into()));
    for member in 0..3 {
        let full = quota.consume(stage.acme, &QuotaKind::SEATS, 1, "new").await;
        assert!(matches!(full, Err(PlatformError::QuotaExceeded { left: 0, resets_at: None, .. })), "{full:?}");
        assert!(quota.release(stage.acme, &format!("member:{member}")).await.unwrap());
    }
    consume(&stage, &QuotaKind::SEATS, 1, "new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_grants_once_a_period() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    let first = subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    consume(&stage, &QuotaKind::RUNS, 1000, "a").await;
    consume(&stage, &QuotaKind::CREDITS, 60, "credits").await;
    consume(&stage, &QuotaKind::SEATS, 2, "members").await;
    // The period runs: there is nothing to renew.
    assert_eq!(subscriptions.renew(stage.acme, RenewalPeriod::Next).await.unwrap(), first);

    days_pass(&stage, 40).await;
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(0), "an expired grant counts");
    let renewed = subscriptions.renew(stage.acme, RenewalPeriod::Next).await.unwrap();
    assert!(renewed.period_start <= SystemTime::now() && renewed.period_end > SystemTime::now());
    assert_eq!(subscriptions.renew(stage.acme, RenewalPeriod::Next).await.unwrap(), renewed);
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(1000));
    // Granted once, and seats in use stay in use.
    assert_eq!(left(&stage, &QuotaKind::CREDITS).await, Allowance::Limited(40));
    assert_eq!(left(&stage, &QuotaKind::SEATS).await, Allowance::Limited(1));
    let names = ["cgk.subscription.started", "cgk.subscription.renewed"];
    assert_eq!(events(&stage, stage.acme).await, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_the_provider_names_is_renewed_once() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    let first = subscriptions.subscribe(stage.acme, &to("team").trial(14 * DAY)).await.unwrap();
    assert_eq!(first.status, SubscriptionStatus::Trialing);
    assert_eq!(first.trial_ends_at, Some(first.period_end));
    consume(&stage, &QuotaKind::RUNS, 7000, "trial").await;
    days_pass(&stage, 3).await;
    // Paid in the middle of the trial, which ends with it.
    let (start, end) = (SystemTime::now() - Duration::from_secs(60), SystemTime::now() + 30 * DAY);
    let paid = RenewalPeriod::Exactly { start, end };
    let active = subscriptions.renew(stage.acme, paid).await.unwrap();
    assert_eq!(active.status, SubscriptionStatus::Active);
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(10_000));
    consume(&stage, &QuotaKind::RUNS, 1, "paid").await;
    // The same webhook again, and one of an earlier period.
    assert_eq!(subscriptions.renew(stage.acme, paid).await.unwrap(), active);
    let earlier = RenewalPeriod::Exactly { start: start - 30 * DAY, end: start };
    assert_eq!(subscriptions.renew(stage.acme, earlier).await.unwrap(), active);
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(9_999));

    // The next one comes before the current one has ended: it is granted, and counts from its start on.
    let next = RenewalPeriod::Exactly { start: end, end: end + 30 * DAY };
    subscriptions.renew(stage.acme, next).await.unwrap();
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(9_999));
    days_pass(&stage, 31).await;
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(10_000));
    let backwards = RenewalPeriod::Exactly { start: end, end: start };
    assert!(matches!(subscriptions.renew(stage.acme, backwards).await, Err(PlatformError::Invalid { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_is_now_or_at_the_end_of_the_period() {
    let stage = Stage::set().await;
    let (subscriptions, quota) = (Subscriptions::new(&stage.db), Quota::new(&stage.db));
    subscriptions.subscribe(stage.acme, &to("team").trial(DAY)).await.unwrap();
    quota.grant(stage.acme, &NewGrant::purchase(QuotaKind::RUNS, 50)).await.unwrap();
    let planned = subscriptions.cancel(stage.acme, Cancellation::AtPeriodEnd).await.unwrap();
    assert!(planned.cancel_at_period_end && planned.status == SubscriptionStatus::Trialing);
    assert_eq!(subscriptions.cancel(stage.acme, Cancellation::AtPeriodEnd).await.unwrap(), planned);
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(10_050));
    assert!(!subscriptions.resume(stage.acme).await.unwrap().cancel_at_period_end);
    subscriptions.cancel(stage.acme, Cancellation::AtPeriodEnd).await.unwrap();
    days_pass(&stage, 2).await;
    let report = subscriptions.renew_due().await.unwrap();
    assert_eq!(report.ended, [stage.acme]);
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(50));
    let ended = subscriptions.history(stage.acme).await.unwrap();
    assert_eq!((ended.len(), &ended[0].status), (1, &SubscriptionStatus::Canceled));

    let trial = subscriptions.subscribe(stage.acme, &to("team").trial(DAY)).await;
    assert!(matches!(trial, Err(PlatformError::TrialUsed)), "{trial:?}");
    subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    consume(&stage, &QuotaKind::CREDITS, 100, "credits").await;
    subscriptions.cancel(stage.acme, Cancellation::Now).await.unwrap();
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(50));
    let none = subscriptions.cancel(stage.acme, Cancellation::Now).await;
    assert!(matches!(none, Err(PlatformError::NotFound { what: "subscription" })), "{none:?}");
    // What is granted once is not granted again by ending and starting.
    subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    assert_eq!(left(&stage, &QuotaKind::CREDITS).await, Allowance::Limited(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_renewed_but_not_what_a_provider_bills() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    subscriptions.subscribe(stage.globex, &to("team").trial(DAY)).await.unwrap();
    assert_eq!(subscriptions.renew_due().await.unwrap(), Default::default());
    days_pass(&stage, 100).await;
    let billed = "insert into billing (organization_id, provider_customer_id, plan, status)
                  select id, 'cus_1', 'hobby', 'active' from organizations where slug = 'acme'";
    stage.run(billed).await;
    let report = subscriptions.renew_due().await.unwrap();
    assert_eq!((report.renewed, report.ended, report.past_due), (vec![], vec![], vec![stage.globex]));
    assert_eq!(subscriptions.current(stage.globex).await.unwrap().status, SubscriptionStatus::PastDue);
    stage.run("update billing set status = 'canceled', canceled_at = now()").await;
    assert_eq!(subscriptions.renew_due().await.unwrap().renewed, [stage.acme]);
    assert_eq!(subscriptions.renew_due().await.unwrap(), Default::default());
    // Paid after all.
    let paid = subscriptions.renew(stage.globex, RenewalPeriod::Next).await.unwrap();
    assert_eq!(paid.status, SubscriptionStatus::Active);
    // A payment that comes late in the period that runs makes it active, without granting anything.
    subscriptions.mark_past_due(stage.globex).await.unwrap();
    let grants = stage.count("select count(*) from grants").await;
    assert_eq!(
        subscriptions.renew(stage.globex, RenewalPeriod::Next).await.unwrap().status,
        SubscriptionStatus::Active
    );
    assert_eq!(stage.count("select count(*) from grants").await, grants);
}

/// A subscription of the 31st is renewed on the last day of a shorter month, and on the 31st again after that.
#[tokio::test(flavor = "multi_thread")]
async fn periods_are_months_of_the_calendar() {
    let stage = Stage::set().await;
    let period = async |anchor: &str, months: i32, moment: &str| {
        let sql = "select to_char(period_start at time zone 'UTC', 'YYYY-MM-DD') || ' ' || to_char(period_end at time zone 'UTC', 'YYYY-MM-DD')
                   from cgk_subscription_period($1::text::timestamptz, $2, $3::text::timestamptz)";
        let rows = stage.rows(sql, &[&anchor, &months, &moment]).await;
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join(",")
    };
    let anchor = "2026-01-31 23:30+00";
    assert_eq!(period(anchor, 1, anchor).await, "2026-01-31 2026-02-28");
    assert_eq!(period(anchor, 1, "2026-02-28 23:29+00").await, "2026-01-31 2026-02-28");
    assert_eq!(period(anchor, 1, "2026-02-28 23:30+00").await, "2026-02-28 2026-03-31");
    assert_eq!(period(anchor, 1, "2028-02-29 23:30+00").await, "2028-02-29 2028-03-31");
    assert_eq!(period(anchor, 12, "2029-01-31 23:29+00").await, "2028-01-31 2029-01-31");
    assert_eq!(period(anchor, 1, "2026-01-31 23:29+00").await, "");
    // 10,000 moments: one period each, that holds it, and periods without a gap.
    let wrong = "select count(*) from generate_series(0, 9999) n,
                   lateral (select timestamptz '2026-01-29 10:00+00' + n * interval '31 hours' as moment) m
                   left join lateral cgk_subscription_period('2026-01-29 10:00+00', 1 + n % 7, m.moment) p on true
                   left join lateral cgk_subscription_period('2026-01-29 10:00+00', 1 + n % 7, p.period_end) next on true
                  where not coalesce(p.period_start <= m.moment and p.period_end > m.moment and next.period_start = p.period_end, false)";
    assert_eq!(stage.count(wrong).await, 0);
    let counted = wrong.replace("<= m.moment", "< timestamptz '2026-01-29 10:00+00'");
    assert_eq!(stage.count(&counted).await, 10_000, "the query finds nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixteen_that_subscribe_at_once_one_does() {
    let stage = Stage::set_with_pool(17).await;
    let holder = stage.holder("select from organizations where slug = 'acme' for update").await;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let (subscriptions, acme) = (Subscriptions::new(&stage.db), stage.acme);
        tasks.push(tokio::spawn(async move { subscriptions.subscribe(acme, &to("hobby")).await }));
    }
    // One waits for the organization, and the others for it.
    stage.until_waiting(16).await;
    run(&holder, "rollback").await;
    let mut made = 0;
    for task in tasks {
        match must_end(task).await.unwrap() {
            Ok(_) => made += 1,
            Err(error) => assert!(matches!(error, PlatformError::AlreadySubscribed), "{error:?}"),
        }
    }
    assert_eq!((made, stage.count("select count(*) from subscriptions").await), (1, 1));
    assert_eq!(stage.count("select count(*) from grants").await, 3);
}

/// What the database holds of a subscription: the plan, the grants that count, and what was recorded.
async fn state(stage: &Stage) -> (String, i64, i64, i64) {
    let row = &stage
        .rows(
            "select coalesce((select p.key || ' ' || s.status from subscriptions s join plans p on p.id = s.plan_id limit 1), ''),
                    (select count(*) from grants where revoked_at is null), (select count(*) from grants),
                    (select count(*) from audit_events) + (select count(*) from domain_events)",
            &[],
        )
        .await[0];
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

/// Each statement of a change of plan is stopped once, and its session killed there: nothing is left of it, and the next call does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_plan_that_is_killed_at_any_statement_is_not_made() {
    for lock in [
        "select from subscriptions for update",
        "select from plans where key = 'team' for update",
        "select from quota_usage where kind = 'runs' for update",
        "lock table domain_events in share mode",
    ] {
        let stage = Stage::set().await;
        let subscriptions = Subscriptions::new(&stage.db);
        subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
        let before = state(&stage).await;
        let holder = stage.holder(lock).await;
        let (change, acme) = (subscriptions.clone(), stage.acme);
        let killed = tokio::spawn(async move { change.change_plan(acme, &key("team")).await });
        stage.until_waiting(1).await;
        stage.kill_waiting().await;
        let error = must_end(killed).await.unwrap().unwrap_err();
        assert!(matches!(error, PlatformError::Database(_)), "{lock}: {error:?}");
        run(&holder, "rollback").await;
        assert_eq!(state(&stage).await, before, "{lock}");
        subscriptions.change_plan(stage.acme, &key("team")).await.unwrap();
        assert_eq!(state(&stage).await, ("team active".into(), 3, 6, before.3 + 2), "{lock}");
    }
}

/// The same for a future that is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_is_dropped_at_any_statement_is_not_made() {
    for lock in [
        "select from subscriptions for update",
        "select from quota_usage where kind = 'runs' for update",
        "lock table domain_events in share mode",
    ] {
        let stage = Stage::set().await;
        let subscriptions = Subscriptions::new(&stage.db);
        subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
        days_pass(&stage, 40).await;
        let before = state(&stage).await;
        let holder = stage.holder(lock).await;
        tokio::select! {
            outcome = subscriptions.renew(stage.acme, RenewalPeriod::Next) => panic!("{outcome:?}"),
            () = stage.until_waiting(1) => {}
        }
        stage.until_waiting(0).await;
        run(&holder, "rollback").await;
        assert_eq!(state(&stage).await, before, "{lock}");
        subscriptions.renew(stage.acme, RenewalPeriod::Next).await.unwrap();
        assert_eq!(state(&stage).await, ("hobby active".into(), 5, 5, before.3 + 2), "{lock}");
    }
}

/// A consumption that waits for a change of plan finds the new grants and not the old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumption_beside_a_change_of_plan_is_not_refused() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    subscriptions.subscribe(stage.acme, &to("hobby")).await.unwrap();
    // The change is stopped behind its grants, with the quota locked.
    let holder = stage.holder("lock table domain_events in share mode").await;
    let (change, quota, acme) = (subscriptions.clone(), Quota::new(&stage.db), stage.acme);
    let changing = tokio::spawn(async move { change.change_plan(acme, &key("team")).await });
    stage.until_waiting(1).await;
    let consuming = tokio::spawn(async move { quota.consume(acme, &QuotaKind::RUNS, 5000, "a").await });
    stage.until_waiting(2).await;
    run(&holder, "rollback").await;
    must_end(changing).await.unwrap().unwrap();
    let consumed = must_end(consuming).await.unwrap().unwrap();
    assert_eq!(consumed.left, Allowance::Limited(5000));
}

/// The files 020 and 021 on a database that has rows of billing.
#[tokio::test(flavor = "multi_thread")]
async fn what_billing_says_is_carried_over() {
    let stage = Stage::set().await;
    stage
        .run(
            "drop function cgk_memberships_seat cascade;
             drop function cgk_quota_consume, cgk_quota_release, cgk_quota_resets_at, cgk_change_subscription_grants;
             drop table grants, quota_consumptions, quota_usage, subscriptions cascade;
             drop function cgk_subscription_period;
             drop type grant_source; drop type subscription_status;
             insert into billing (organization_id, provider_customer_id, plan, status, period_start, period_end)
             select id, 'cus_1', 'team', 'active', now() - interval '10 days', now() + interval '20 days'
               from organizations where slug = 'acme';
             insert into billing (organization_id, provider_customer_id, plan, status, canceled_at)
             select id, 'cus_1', 'scale', 'canceled', now() from organizations where slug = 'acme';
             insert into billing (organization_id, provider_customer_id, plan, status)
             select id, 'cus_2', 'legacy', 'unpaid' from organizations where slug = 'globex'",
        )
        .await;
    stage.run(include_str!("../../migrations/public/020_subscriptions.sql")).await;
    stage.run(include_str!("../../migrations/public/021_grants.sql")).await;
    let subscriptions = Subscriptions::new(&stage.db);
    let show = |s: Subscription| (s.plan.to_string(), s.status.to_string());
    assert_eq!(show(subscriptions.current(stage.acme).await.unwrap()), ("team".into(), "active".into()));
    assert_eq!(show(subscriptions.current(stage.globex).await.unwrap()), ("legacy".into(), "past_due".into()));
    assert_eq!(left(&stage, &QuotaKind::RUNS).await, Allowance::Limited(10_000));
    assert_eq!(stage.count("select count(*) from subscriptions").await, 2);
    assert_eq!(stage.count("select count(*) from billing").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_in_a_transaction_is_committed_with_it() {
    let stage = Stage::set().await;
    let subscriptions = Subscriptions::new(&stage.db);
    let db: cgk::Db<PlatformError> = stage.db.errors();
    let undone: Result<(), _> = db
        .platform()
        .transaction(async |tx| {
            subscriptions.subscribe_in(tx, stage.acme, &to("hobby")).await?;
            Err(PlatformError::NotFound { what: "invoice" })
        })
        .await;
    assert!(undone.is_err());
    assert!(subscriptions.current(stage.acme).await.is_err());
    // What it refuses does not end the transaction.
    let platform = db.platform();
    let made = platform.transaction(async |tx| {
        let refused = subscriptions.subscribe_in(tx, stage.acme, &to("platinum")).await;
        assert!(matches!(refused, Err(PlatformError::NotFound { what: "plan" })), "{refused:?}");
        subscriptions.subscribe_in(tx, stage.acme, &to("hobby")).await
    });
    let made = made.await.unwrap();
    assert_eq!(subscriptions.current(stage.acme).await.unwrap().id, made.id);
}
