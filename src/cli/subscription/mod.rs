//! The commands about the subscription of one tenant.

pub(crate) mod cancel;
pub(crate) mod change;
pub(crate) mod renew;
pub(crate) mod show;

use anyhow::Result;
use cgk::{
    Tenant,
    platform::{PlanKey, PlatformError, Subscription, Subscriptions},
};
use serde::Serialize;

use super::{
    exit::Exit,
    session::Session,
    ui::{
        report::{Missing, Refusal},
        style::{FAINT, paint},
        time,
    },
};

/// A subscription, as JSON.
#[derive(Serialize)]
struct SubscriptionView<'a> {
    id: String,
    plan: &'a str,
    status: &'a str,
    trial_ends_at: Option<String>,
    period_months: u32,
    period_start: String,
    period_end: String,
    cancel_at_period_end: bool,
    canceled_at: Option<String>,
    created_at: String,
}

impl<'a> SubscriptionView<'a> {
    fn of(subscription: &'a Subscription) -> Self {
        Self {
            id: subscription.id.to_string(),
            plan: subscription.plan.as_str(),
            status: subscription.status.as_str(),
            trial_ends_at: subscription.trial_ends_at.map(time::rfc3339),
            period_months: subscription.period_months,
            period_start: time::rfc3339(subscription.period_start),
            period_end: time::rfc3339(subscription.period_end),
            cancel_at_period_end: subscription.cancel_at_period_end,
            canceled_at: subscription.canceled_at.map(time::rfc3339),
            created_at: time::rfc3339(subscription.created_at),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    subscription: SubscriptionView<'a>,
    exit: Exit,
}

/// The operations, and the tenant of the command.
struct Target {
    subscriptions: Subscriptions,
    tenant: Tenant,
}

impl Target {
    async fn open(session: &Session<'_>, slug: &str) -> Result<Self> {
        let (db, tenant) = session.tenant(slug).await?;
        let subscriptions = Subscriptions::new(&db).acting_as(session.actor(&db));
        Ok(Self { subscriptions, tenant })
    }

    /// Shows the subscription: a record for JSON, lines for text.
    fn show(&self, session: &Session<'_>, subscription: &Subscription) {
        let slug = self.tenant.slug.as_str();
        session.printer.record(&Answer {
            v: crate::cli::JSON_VERSION,
            tenant: slug,
            subscription: SubscriptionView::of(subscription),
            exit: Exit::Done,
        });
        let ends = match (&subscription.canceled_at, subscription.cancel_at_period_end) {
            (Some(at), _) => format!("ended {}", time::date(*at)),
            (None, true) => format!("ends {}", time::date(subscription.period_end)),
            (None, false) => format!("period ends {}", time::date(subscription.period_end)),
        };
        let (plan, status) = (&subscription.plan, &subscription.status);
        session.printer.output(format!("tenant {slug}: plan {plan}, {status}, {}", paint(FAINT, ends)));
    }

    /// Returns the error with the tenant or plan in it, and a hint.
    fn refused(&self, error: PlatformError, plan: Option<&PlanKey>) -> anyhow::Error {
        let slug = &self.tenant.slug;
        let (message, hint) = match (error, plan) {
            (PlatformError::NotFound { what: "subscription" }, _) => {
                let message = format!("tenant {slug} has no subscription");
                let hint = format!("`cgk subscription:change {slug} <plan>` subscribes it to a plan.");
                return Missing { message, hint }.into();
            }
            (PlatformError::NotFound { what: "plan" }, Some(plan)) => {
                let message = format!("there is no plan {plan} on sale");
                return Missing { message, hint: "`cgk plan:list` lists the plans.".into() }.into();
            }
            (PlatformError::AlreadySubscribed, _) => (
                format!("tenant {slug} has a subscription"),
                "`--trial` and `--months` are only for a new one: change the plan without them.".into(),
            ),
            (PlatformError::TrialUsed, _) => {
                (format!("tenant {slug} has had a trial"), "Subscribe it without `--trial`.".into())
            }
            (other, _) => return other.into(),
        };
        Refusal { message, hint, exit: Exit::Failed }.into()
    }
}
