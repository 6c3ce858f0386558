//! What a subscription is, and what can be asked of it.

use crate::{
    platform::{allowance::PlanKey, plans::PlanId},
    row_id::row_id,
    tenant::OrganizationId,
};
use serde_json::json;
use std::{
    fmt,
    time::{Duration, SystemTime},
};
use tokio_postgres::Row;

row_id! {
    /// The identity of a subscription, a row of `public.subscriptions`.
    SubscriptionId
}

/// Where a subscription stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionStatus {
    /// It is tried out.
    Trialing,
    /// It is paid, or costs nothing.
    Active,
    /// A payment has not come. What was granted stays until the period's end.
    PastDue,
    /// It has ended.
    Canceled,
    /// A status that this version does not know.
    Other(String),
}

impl SubscriptionStatus {
    /// The value in the database.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Canceled => "canceled",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for SubscriptionStatus {
    fn from(text: &str) -> Self {
        match text {
            "trialing" => Self::Trialing,
            "active" => Self::Active,
            "past_due" => Self::PastDue,
            "canceled" => Self::Canceled,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for SubscriptionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_str().escape_debug())
    }
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The subscription.
    pub id: SubscriptionId,
    /// Whose it is.
    pub organization_id: OrganizationId,
    /// Its plan.
    pub plan_id: PlanId,
    /// The key of its plan.
    pub plan: PlanKey,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// When its trial ends or ended.
    pub trial_ends_at: Option<SystemTime>,
    /// How many months a period has.
    pub period_months: u32,
    /// When the period began.
    pub period_start: SystemTime,
    /// When the period ends.
    pub period_end: SystemTime,
    /// Whether it ends then, instead of being renewed.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub canceled_at: Option<SystemTime>,
    /// When it was made.
    pub created_at: SystemTime,
}

/// The columns that [`Subscription::read`] reads, of `s` and its plan `p`.
macro_rules! subscription_columns {
    () => {
        "s.id, s.organization_id, s.plan_id, p.key, s.status::pg_catalog.text, s.trial_ends_at, s.period_months, s.period_start,
         s.period_end, s.cancel_at_period_end, s.canceled_at, s.created_at"
    };
}
pub(super) use subscription_columns;

impl Subscription {
    pub(super) fn read(row: &Row) -> Self {
        Self {
            id: row.get(0),
            organization_id: row.get(1),
            plan_id: row.get(2),
            plan: PlanKey::of_row(row.get(3)),
            status: row.get::<_, &str>(4).into(),
            trial_ends_at: row.get(5),
            period_months: row.get::<_, i32>(6).unsigned_abs(),
            period_start: row.get(7),
            period_end: row.get(8),
            cancel_at_period_end: row.get(9),
            canceled_at: row.get(10),
            created_at: row.get(11),
        }
    }

    /// A subscription as the audit log keeps it.
    pub(super) fn facts(&self) -> serde_json::Value {
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({
            "plan": self.plan,
            "status": self.status.as_str(),
            "trial_ends_at": self.trial_ends_at.map(seconds),
            "period_start": seconds(self.period_start),
            "period_end": seconds(self.period_end),
            "cancel_at_period_end": self.cancel_at_period_end,
        })
    }
}

/// A subscription that is to be.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    pub(super) plan: PlanKey,
    pub(super) trial: Option<Duration>,
    pub(super) period_months: u32,
    pub(super) period_end: Option<SystemTime>,
}

impl NewSubscription {
    /// To a plan, from now on, for periods of a month.
    pub fn to(plan: PlanKey) -> Self {
        Self { plan, trial: None, period_months: 1, period_end: None }
    }

    /// Tried out first. The trial is the first period; an organization has one trial.
    pub fn trial(mut self, length: Duration) -> Self {
        self.trial = Some(length);
        self
    }

    /// For periods of so many months, 1 to 120.
    pub fn period_months(mut self, months: u32) -> Self {
        self.period_months = months;
        self
    }

    /// With a first period that ends then, as a payment provider says. Not together with a trial.
    pub fn period_end(mut self, end: SystemTime) -> Self {
        self.period_end = Some(end);
        self
    }
}

/// When a subscription is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancellation {
    /// At once: what it granted is revoked.
    Now,
    /// At the end of the period, instead of being renewed. Until then nothing changes.
    AtPeriodEnd,
}

/// For which period a subscription is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RenewalPeriod {
    /// For the one that follows, by the calendar. While the current one runs there is nothing to renew, so that a call that comes twice
    /// renews once. If several have passed, the one that is running now.
    Next,
    /// For this one, as a payment provider's invoice names it. One that starts no later than the current one is a repetition, and renews
    /// nothing. One that starts before the current one ends cuts that one short, as at the end of a trial.
    Exactly {
        /// When it starts.
        start: SystemTime,
        /// When it ends.
        end: SystemTime,
    },
}

/// What [`Subscriptions::renew_due`](super::Subscriptions::renew_due) has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewalReport {
    /// Renewed for the next period.
    pub renewed: Vec<OrganizationId>,
    /// Ended, as was asked for earlier.
    pub ended: Vec<OrganizationId>,
    /// Trials that are over and not paid: they are past due.
    pub past_due: Vec<OrganizationId>,
}
