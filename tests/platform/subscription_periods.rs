//! What was used counts in the period in which it was used, whatever the order of renewals, changes of plan and consumptions.

use crate::{
    stage::Stage,
    subscriptions::{days_pass, seconds_passed},
};
use cgk::platform::{
    Cancellation, NewSubscription, PlanKey, PlatformError, Quota, QuotaBalance, QuotaKind, RenewalPeriod, Subscription,
    SubscriptionStatus, Subscriptions,
};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn key(text: &str) -> PlanKey {
    text.parse().unwrap()
}

struct Team {
    stage: Stage,
    subscriptions: Subscriptions,
    quota: Quota,
}

impl Team {
    async fn subscribed(new: NewSubscription) -> Self {
        let stage = Stage::set().await;
        let (subscriptions, quota) = (Subscriptions::new(&stage.db), Quota::new(&stage.db));
        subscriptions.subscribe(stage.acme, &new).await.unwrap();
        Self { stage, subscriptions, quota }
    }

    async fn consume(&self, amount: u64, key: &str) -> Result<(), PlatformError> {
        self.quota.consume(self.stage.acme, &QuotaKind::CREDITS, amount, key).await.map(|_| ())
    }

    async fn renew(&self, start: SystemTime) -> Subscription {
        self.renew_until(start, start + 30 * DAY).await
    }

    async fn renew_until(&self, start: SystemTime, end: SystemTime) -> Subscription {
        self.subscriptions.renew(self.stage.acme, RenewalPeriod::Exactly { start, end }).await.unwrap()
    }

    async fn current(&self) -> Subscription {
        self.subscriptions.current(self.stage.acme).await.unwrap()
    }

    /// A plan that includes 70 runs once, and nothing per period.
    async fn define_once_only(&self) {
        let sql = "insert into plans (key, name) values ('once_only', 'x');
                   insert into plan_entitlements (plan_id, kind, renewal, amount)
                   select p.id, 'runs', 'once', 70 from plans p where p.key = 'once_only'";
        self.stage.run(sql).await;
    }

    async fn change_plan(&self, plan: &str) {
        self.subscriptions.change_plan(self.stage.acme, &key(plan)).await.unwrap();
    }

    /// What is granted, used and left of the credits.
    async fn credits(&self) -> (u64, u64, u64) {
        let balances = self.quota.left(self.stage.acme).await.unwrap();
        let of =
            |balance: &QuotaBalance| (balance.granted.limit().unwrap(), balance.used, balance.left.limit().unwrap());
        of(balances.iter().find(|balance| balance.kind == QuotaKind::CREDITS).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_plan_keeps_the_period_that_was_paid_ahead() {
    let end = SystemTime::now() + 3 * DAY;
    let team = Team::subscribed(NewSubscription::to(key("team")).period_end(end)).await;
    team.consume(900, "a").await.unwrap();
    team.renew(end).await;
    assert_eq!(team.credits().await, (1000, 900, 100));
    team.change_plan("scale").await;
    assert_eq!(team.credits().await, (10_000, 900, 9100));
    team.change_plan("team").await;
    assert_eq!(team.credits().await, (1000, 900, 100));
    team.consume(50, "b").await.unwrap();
    assert!(team.quota.release(team.stage.acme, "a").await.unwrap());
    assert_eq!(team.credits().await, (1000, 50, 950));
    days_pass(&team.stage, 4).await;
    assert_eq!(team.credits().await, (1000, 0, 1000));
    team.consume(400, "c").await.unwrap();
    team.change_plan("scale").await;
    assert_eq!(team.credits().await, (10_000, 400, 9600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_is_paid_ahead_and_changed_has_the_whole_paid_period() {
    let team = Team::subscribed(NewSubscription::to(key("team")).trial(14 * DAY)).await;
    team.consume(700, "a").await.unwrap();
    // With a day between the two, in which nothing is granted, and two periods that are paid.
    let start = SystemTime::now() + 15 * DAY;
    team.renew(start).await;
    team.renew(start + 30 * DAY).await;
    team.change_plan("scale").await;
    assert_eq!(team.credits().await, (10_000, 700, 9300));
    days_pass(&team.stage, 14).await;
    let between = team.consume(1, "between").await;
    assert!(matches!(between, Err(PlatformError::QuotaExceeded { left: 0, .. })), "{between:?}");
    team.change_plan("team").await;
    let between = team.consume(1, "between").await;
    assert!(matches!(between, Err(PlatformError::QuotaExceeded { left: 0, .. })), "{between:?}");
    days_pass(&team.stage, 2).await;
    team.change_plan("scale").await;
    assert_eq!(team.credits().await, (10_000, 0, 10_000));
    team.consume(10_000, "b").await.unwrap();
    days_pass(&team.stage, 31).await;
    assert_eq!(team.credits().await, (10_000, 0, 10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_before_a_renewal_is_reported_counts_in_its_period() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    team.consume(100, "before").await.unwrap();
    days_pass(&team.stage, 10).await;
    let start = SystemTime::now() - DAY;
    team.consume(300, "a").await.unwrap();
    team.consume(500, "b").await.unwrap();
    team.renew(start).await;
    assert_eq!(team.credits().await, (1000, 800, 200));
    team.change_plan("scale").await;
    team.change_plan("team").await;
    assert_eq!(team.credits().await, (1000, 800, 200));
    assert!(team.quota.release(team.stage.acme, "a").await.unwrap());
    // What was used before the period began does not come back in it.
    assert!(team.quota.release(team.stage.acme, "before").await.unwrap());
    assert_eq!(team.credits().await, (1000, 500, 500));
    // Again and again, each a little later.
    for milliseconds in 1..5 {
        team.renew(start + Duration::from_millis(milliseconds)).await;
        assert_eq!(team.credits().await, (1000, 500, 500));
    }
    // Days later, so another period, with what was used in it.
    team.renew(SystemTime::now() - Duration::from_secs(60)).await;
    assert_eq!(team.credits().await, (1000, 500, 500));
    assert!(team.quota.release(team.stage.acme, "b").await.unwrap());
    assert_eq!(team.credits().await, (1000, 0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_invoice_by_another_clock_is_of_the_first_period() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let start = SystemTime::now();
    team.consume(1000, "a").await.unwrap();
    team.renew(start).await;
    assert_eq!(team.credits().await, (1000, 1000, 0));
    // In the future.
    team.renew(start + Duration::from_secs(3600)).await;
    assert_eq!(team.credits().await, (1000, 1000, 0));
    team.change_plan("scale").await;
    team.change_plan("team").await;
    assert_eq!(team.credits().await, (1000, 1000, 0));
    days_pass(&team.stage, 1).await;
    assert_eq!(team.credits().await, (1000, 1000, 0));
    // A day after the first start, so another period.
    team.renew(SystemTime::now()).await;
    assert_eq!(team.credits().await, (1000, 0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_that_is_paid_late_makes_its_subscription_active() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let first = team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    let period = |start| RenewalPeriod::Exactly { start, end: first.period_end };
    let renew = async |period| team.subscriptions.renew(team.stage.acme, period).await.unwrap();
    // Of an earlier period.
    assert_eq!(renew(period(first.period_start - 30 * DAY)).await.status, SubscriptionStatus::PastDue);
    team.consume(600, "a").await.unwrap();
    assert_eq!(renew(period(first.period_start)).await.status, SubscriptionStatus::Active);
    assert_eq!(team.credits().await, (1000, 600, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_was_shortened_ends_where_it_does() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let start = team.current().await.period_start;
    // The first invoice, up to the billing day, and one for a period after a gap.
    team.renew_until(start + Duration::from_secs(1), start + 10 * DAY).await;
    team.consume(1000, "a").await.unwrap();
    team.renew(start + 15 * DAY).await;
    team.change_plan("scale").await;
    days_pass(&team.stage, 12).await;
    assert!(matches!(team.consume(1, "gap").await, Err(PlatformError::QuotaExceeded { left: 0, .. })));
    days_pass(&team.stage, 4).await;
    assert_eq!(team.credits().await, (10_000, 0, 10_000));

    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let start = team.current().await.period_start;
    team.renew_until(start + Duration::from_secs(1), start + 10 * DAY).await;
    team.consume(1000, "a").await.unwrap();
    team.subscriptions.cancel(team.stage.acme, Cancellation::AtPeriodEnd).await.unwrap();
    days_pass(&team.stage, 11).await;
    let ended = team.subscriptions.renew(team.stage.acme, RenewalPeriod::Next).await.unwrap();
    assert_eq!(ended.status, SubscriptionStatus::Canceled);
    team.subscriptions.subscribe(team.stage.acme, &NewSubscription::to(key("team"))).await.unwrap();
    assert_eq!(team.credits().await, (1000, 0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_plan_that_is_waited_for_does_not_hide_the_subscription() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let change = "update subscriptions set plan_id = (select id from plans where key = 'scale')";
    let holder = team.stage.holder(change).await;
    let end = team.current().await.period_end;
    let (renewed, ()) = tokio::join!(team.renew(end), async {
        team.stage.until_waiting(1).await;
        crate::stage::run(&holder, "commit").await;
    });
    assert_eq!((renewed.plan.as_str(), renewed.period_end), ("scale", end + 30 * DAY));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_had_ended_and_is_made_longer_counts_what_was_used_after_its_first_end() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    days_pass(&team.stage, 10).await;
    team.consume(400, "a").await.unwrap();
    let now = SystemTime::now();
    team.renew_until(now - 7 * DAY, now - 3 * DAY).await;
    let between = team.consume(1, "between").await;
    assert!(matches!(between, Err(PlatformError::QuotaExceeded { left: 0, .. })), "{between:?}");
    team.renew_until(now - 7 * DAY + Duration::from_secs(1), now + 20 * DAY).await;
    assert_eq!(team.credits().await, (1000, 400, 600));
    assert!(team.quota.release(team.stage.acme, "a").await.unwrap());
    assert_eq!(team.credits().await, (1000, 0, 1000));
}

/// What a grant counts because the period of a subscription that ended early is still open is given back to it by a release.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_gives_back_what_was_used_in_a_period_that_was_shortened() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let again = async || {
        team.subscriptions.cancel(team.stage.acme, Cancellation::Now).await.unwrap();
        team.subscriptions.subscribe(team.stage.acme, &NewSubscription::to(key("team"))).await.unwrap();
    };
    again().await;
    team.consume(400, "a").await.unwrap();
    let start = team.current().await.period_start;
    team.renew_until(start + Duration::from_secs(1), start + 10 * DAY).await;
    days_pass(&team.stage, 12).await;
    again().await;
    // The precondition: the period of the first subscription would run until the 30th day.
    assert_eq!(team.credits().await, (1000, 400, 600));
    assert!(team.quota.release(team.stage.acme, "a").await.unwrap());
    assert_eq!(team.credits().await, (1000, 0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_without_anything_per_period_keeps_the_periods_and_what_was_used() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    team.define_once_only().await;
    team.change_plan("once_only").await;
    let end = team.current().await.period_end;
    team.renew(end).await;
    team.renew(end + 30 * DAY).await;
    team.change_plan("team").await;
    team.consume(1000, "a").await.unwrap();
    team.change_plan("once_only").await;
    team.change_plan("team").await;
    assert_eq!(team.credits().await, (1000, 1000, 0));
    for key in ["b", "c"] {
        days_pass(&team.stage, 31).await;
        assert_eq!(team.credits().await, (1000, 0, 1000), "{key}");
        team.consume(1000, key).await.unwrap();
    }

    // Renewed by another clock under such a plan.
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    team.define_once_only().await;
    team.consume(1000, "a").await.unwrap();
    team.change_plan("once_only").await;
    team.renew(team.current().await.period_start + Duration::from_secs(10 * 3600)).await;
    team.change_plan("team").await;
    assert_eq!(team.credits().await, (1000, 1000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_period_that_ends_with_the_trial_is_not_the_trial() {
    let team = Team::subscribed(NewSubscription::to(key("team")).trial(14 * DAY)).await;
    let trial = team.current().await;
    let hour = Duration::from_secs(3600);
    days_pass(&team.stage, 1).await;
    let now = SystemTime::now();
    team.renew_until(now, trial.trial_ends_at.unwrap() - DAY).await;
    team.consume(500, "a").await.unwrap();
    team.renew(now + hour).await;
    assert_eq!(team.credits().await, (1000, 500, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_period_that_runs_and_costs_makes_its_subscription_active() {
    // The invoice of a period that has ended, delivered again.
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    days_pass(&team.stage, 32).await;
    let over = team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    assert_eq!(team.renew_until(over.period_start, over.period_end).await.status, SubscriptionStatus::PastDue);
    assert!(team.subscriptions.renew_due().await.unwrap().renewed.is_empty());
    // The invoice over nothing of a trial, while it runs and when it is over.
    let team = Team::subscribed(NewSubscription::to(key("team")).trial(14 * DAY)).await;
    for days in [1, 14] {
        days_pass(&team.stage, days).await;
        let trial = team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
        assert_eq!(team.renew_until(trial.period_start, trial.period_end).await.status, SubscriptionStatus::PastDue);
    }
    assert!(team.subscriptions.renew_due().await.unwrap().renewed.is_empty());
    // The period that runs, while the next one is paid ahead.
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let first = team.current().await;
    team.renew(first.period_end).await;
    team.consume(600, "a").await.unwrap();
    team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    assert_eq!(team.renew_until(first.period_start, first.period_end).await.status, SubscriptionStatus::Active);
    assert_eq!(team.credits().await, (1000, 600, 400));
}

#[tokio::test(flavor = "multi_thread")]
async fn invoices_may_come_in_any_order() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let end = team.current().await.period_end;
    team.consume(900, "a").await.unwrap();
    team.renew(end + 30 * DAY).await;
    for _ in 0..2 {
        // The third one is still the newest, and a repetition grants nothing.
        assert_eq!(team.renew(end).await.period_start, end + 30 * DAY);
        assert_eq!(team.credits().await, (1000, 900, 100));
    }
    team.change_plan("scale").await;
    for key in ["b", "c"] {
        days_pass(&team.stage, 31).await;
        assert_eq!(team.credits().await, (10_000, 0, 10_000));
        team.consume(9000, key).await.unwrap();
    }
    // One that is over is not granted any more.
    let newest = team.current().await;
    team.renew_until(newest.period_start - 90 * DAY, newest.period_start - 60 * DAY).await;
    assert_eq!(team.credits().await, (10_000, 9000, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_invoice_of_a_known_period_makes_it_longer() {
    let team = Team::subscribed(NewSubscription::to(key("team")).period_end(SystemTime::now() + 3 * DAY)).await;
    let start = team.current().await.period_start;
    team.consume(900, "a").await.unwrap();
    team.renew(start + 30 * DAY).await;
    let invoice = start + Duration::from_secs(1);
    assert_eq!(team.renew_until(invoice, start + 30 * DAY).await.period_start, start + 30 * DAY);
    days_pass(&team.stage, 10).await;
    assert_eq!(team.credits().await, (1000, 900, 100));
    // Of the newest one, by a clock that is behind: its row has the end too.
    let team = Team::subscribed(NewSubscription::to(key("team")).period_end(SystemTime::now() + 3 * DAY)).await;
    let start = team.current().await.period_start;
    let longer = team.renew_until(start - Duration::from_secs(2), start + 30 * DAY).await;
    assert_eq!((longer.period_start, longer.period_end), (start, start + 30 * DAY));
    // And a shorter one that comes again takes nothing away.
    assert_eq!(team.renew_until(start, start + 10 * DAY).await, longer);
    days_pass(&team.stage, 20).await;
    assert_eq!(team.credits().await, (1000, 0, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_that_starts_within_a_day_of_the_trial_is_not_lost_if_it_comes_late() {
    for seconds in [-1, 0, 7200] {
        let team = Team::subscribed(NewSubscription::to(key("team")).trial(14 * DAY)).await;
        let trial = team.current().await.period_start;
        let by = Duration::from_secs(i64::unsigned_abs(seconds));
        let start = if seconds < 0 { trial - by } else { trial + by };
        team.renew(start + 30 * DAY).await;
        team.renew(start).await;
        days_pass(&team.stage, 15).await;
        assert_eq!(team.credits().await, (1000, 0, 1000), "{seconds}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn periods_of_less_than_a_day_may_come_in_any_order() {
    let hours = |hours: u32| Duration::from_secs(3600) * hours;
    let team = Team::subscribed(NewSubscription::to(key("team")).period_end(SystemTime::now() + hours(12))).await;
    let start = team.current().await.period_start;
    team.consume(900, "a").await.unwrap();
    for number in [2, 1] {
        team.renew_until(start + hours(12 * number), start + hours(12 * number + 12)).await;
    }
    for number in ["second", "third"] {
        for sql in seconds_passed(if number == "second" { 18 * 3600 } else { 12 * 3600 }, "true") {
            team.stage.run(&sql).await;
        }
        assert_eq!(team.credits().await, (1000, 0, 1000), "{number}");
        team.consume(900, number).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_not_paid_by_its_own_invoice_nor_by_the_next_period_of_the_calendar() {
    let team = Team::subscribed(NewSubscription::to(key("team")).trial(14 * DAY)).await;
    let trial = team.current().await;
    let second = Duration::from_secs(1);
    // The invoice over nothing, by a clock that is ahead or behind.
    for (start, end) in [
        (trial.period_start + second, trial.period_end + second),
        (trial.period_start - second, trial.period_end - second),
    ] {
        assert_eq!(team.renew_until(start, end).await, trial);
    }
    let unpaid = team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    assert_eq!(team.subscriptions.renew(team.stage.acme, RenewalPeriod::Next).await.unwrap(), unpaid);
    days_pass(&team.stage, 15).await;
    assert!(team.subscriptions.renew_due().await.unwrap().renewed.is_empty());
    assert_eq!(team.credits().await, (0, 0, 0));
    // When it is over, the next period is paid.
    let paid = team.subscriptions.renew(team.stage.acme, RenewalPeriod::Next).await.unwrap();
    assert_eq!(paid.status, SubscriptionStatus::Active);
    assert_eq!(team.credits().await, (1000, 0, 1000));
    // A paid period that runs and is past due.
    team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    let paid = team.subscriptions.renew(team.stage.acme, RenewalPeriod::Next).await.unwrap();
    assert_eq!(paid.status, SubscriptionStatus::Active);
    // A period that has ended, and comes late, does not make it active.
    days_pass(&team.stage, 60).await;
    let over = team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    let late = team.renew_until(over.period_end, over.period_end + DAY).await;
    assert_eq!((late.status, late.period_start), (SubscriptionStatus::PastDue, over.period_end));
    assert!(team.subscriptions.renew_due().await.unwrap().renewed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proration_of_a_change_of_the_plan_is_no_new_period() {
    let team = Team::subscribed(NewSubscription::to(key("team"))).await;
    let first = team.current().await;
    team.renew_until(first.period_start, first.period_end).await;
    days_pass(&team.stage, 2).await;
    team.consume(900, "a").await.unwrap();
    team.change_plan("scale").await;
    let running = team.subscriptions.mark_past_due(team.stage.acme).await.unwrap();
    // It pays for the change, not for the period.
    assert_eq!(team.renew_until(SystemTime::now(), running.period_end + Duration::from_secs(2)).await, running);
    assert_eq!(team.credits().await, (10_000, 900, 9100));
    // Also of the period that the calendar has computed.
    team.subscriptions.renew(team.stage.acme, RenewalPeriod::Next).await.unwrap();
    days_pass(&team.stage, 31).await;
    team.subscriptions.renew(team.stage.acme, RenewalPeriod::Next).await.unwrap();
    assert_eq!(team.credits().await, (10_000, 0, 10_000));
    team.consume(900, "b").await.unwrap();
    days_pass(&team.stage, 2).await;
    team.renew_until(SystemTime::now(), team.current().await.period_end).await;
    assert_eq!(team.credits().await, (10_000, 900, 9100));
    // The control: another end makes it a new period.
    let now = SystemTime::now();
    assert_eq!(team.renew_until(now, now + 30 * DAY).await.period_start, team.current().await.period_start);
    assert_eq!(team.credits().await, (10_000, 0, 10_000));
}

/// By a clock that is behind, each starts before the one before it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_period_of_half_an_hour_is_not_the_rest_of_the_one_before() {
    let minutes = |minutes: u32| minutes * Duration::from_secs(60);
    let team = Team::subscribed(NewSubscription::to(key("team")).period_end(SystemTime::now() + minutes(30))).await;
    let first = team.current().await;
    let start = first.period_end - Duration::from_secs(2);
    let second = team.renew_until(start, start + minutes(30)).await;
    assert!(second.period_end > first.period_end + minutes(29), "{second:?}");
}
