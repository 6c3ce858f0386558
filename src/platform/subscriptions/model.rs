//! The types of a subscription and of its changes.

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
    /// The id of a subscription, a row of `public.subscriptions`.
    SubscriptionId
}

/// The status of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionStatus {
    /// It is in its trial.
    Trialing,
    /// It is paid, or is free.
    Active,
    /// A payment was not received. What was granted can be used until the end of the period.
    PastDue,
    /// It has ended.
    Canceled,
    /// A status that this version does not know.
    Other(String),
}

impl SubscriptionStatus {
    /// Returns the value in the database.
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

/// A subscription of an organization to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The id of the subscription.
    pub id: SubscriptionId,
    /// The organization.
    pub organization_id: OrganizationId,
    /// Its plan.
    pub plan_id: PlanId,
    /// The key of its plan.
    pub plan: PlanKey,
    /// Its status.
    pub status: SubscriptionStatus,
    /// When its trial ends or ended.
    pub trial_ends_at: Option<SystemTime>,
    /// The length of a period in months.
    pub period_months: u32,
    /// When the period started.
    pub period_start: SystemTime,
    /// When the period ends.
    pub period_end: SystemTime,
    /// Whether it ends at the end of the period instead of being renewed.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub canceled_at: Option<SystemTime>,
    /// When it was created.
    pub created_at: SystemTime,
}

/// The columns that [`Subscription::read`] reads, from `s` and its plan `p`.
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

    /// Returns a subscription in the format of the audit log.
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

/// The subscription to create.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    pub(super) plan: PlanKey,
    pub(super) trial: Option<Duration>,
    pub(super) period_months: u32,
    pub(super) period_end: Option<SystemTime>,
}

impl NewSubscription {
    /// Creates a subscription to a plan that starts now and has periods of one month.
    pub fn to(plan: PlanKey) -> Self {
        Self { plan, trial: None, period_months: 1, period_end: None }
    }

    /// Starts with a trial. The trial is the first period. An organization can have only one trial.
    pub fn trial(mut self, length: Duration) -> Self {
        self.trial = Some(length);
        self
    }

    /// Sets the length of a period in months: 1 to 120.
    pub fn period_months(mut self, months: u32) -> Self {
        self.period_months = months;
        self
    }

    /// Sets the end of the first period, as the payment provider reports it. It cannot be combined with a trial.
    pub fn period_end(mut self, end: SystemTime) -> Self {
        self.period_end = Some(end);
        self
    }
}

/// When a subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cancellation {
    /// Immediately: what it granted is revoked.
    Now,
    /// At the end of the period, instead of being renewed. Until then nothing changes.
    AtPeriodEnd,
}

/// The period for which a subscription is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RenewalPeriod {
    /// The next period, by the calendar. While the current period is running there is nothing to renew, so a repeated
    /// call renews only once. If several periods have passed, the one that is running now.
    Next,
    /// This period, as the invoice of a payment provider names it. If its start and that of a known period differ by less
    /// than 24 hours, and by no more than half of the shorter of both, it is that period, which ends at the latest end that
    /// was named for it. Otherwise it is a new period: it ends when the next one starts, the one before it ends when it
    /// starts, as at the end of a trial, and what was used after the start counts in it. The invoices may come in any order,
    /// and again. A period with the start and the end of the trial, one that began before the subscription, and one that
    /// starts within a known period and ends with it, as the invoice of a change of the plan does, change nothing.
    Exactly {
        /// When it starts.
        start: SystemTime,
        /// When it ends.
        end: SystemTime,
    },
}

/// The result of [`Subscriptions::renew_due`](super::Subscriptions::renew_due).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewalReport {
    /// The organizations whose subscription was renewed for the next period.
    pub renewed: Vec<OrganizationId>,
    /// The organizations whose subscription ended, because it was scheduled for cancellation.
    pub ended: Vec<OrganizationId>,
    /// The organizations whose trial is over and not paid. Their subscription is past due.
    pub past_due: Vec<OrganizationId>,
}

/// How a change of a subscription affects its periods and grants; see migration 030.
pub(super) enum GrantChange {
    /// It has another plan, or is new.
    Replace,
    /// It has the next period, that of its row.
    RenewNext,
    /// It has this period.
    RenewExactly { start: SystemTime, end: SystemTime },
    /// It has ended.
    End,
}

impl GrantChange {
    /// Returns the parameters of the function that makes the change.
    pub(super) fn parameters(&self) -> (&'static str, Option<SystemTime>, Option<SystemTime>) {
        match self {
            Self::Replace => ("replace", None, None),
            Self::RenewNext => ("renew", None, None),
            Self::RenewExactly { start, end } => ("renew", Some(*start), Some(*end)),
            Self::End => ("end", None, None),
        }
    }
}
