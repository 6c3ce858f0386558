//! `cgk subscription:change`

use anyhow::Result;
use cgk::platform::{NewSubscription, PlanKey, PlatformError};
use clap::Args;
use std::time::Duration;

use super::Target;
use crate::cli::{exit::Exit, session::Session};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk subscription:change acme team
  cgk subscription:change acme team --trial 14days    subscribes, with a trial

Changes the plan of a tenant at once: what the old plan granted is revoked and what the new one includes is \
             granted, and what was used in the period counts. A tenant without a subscription is subscribed to the plan.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Key of the plan
    plan: String,
    /// Start with a trial of this length, for example 14days; only for a tenant that has no subscription
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    trial: Option<Duration>,
    /// Months of a period (default: 1); only for a tenant that has no subscription
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=120))]
    months: Option<u32>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let plan: PlanKey = arguments.plan.parse()?;
    let target = Target::open(session, &arguments.slug).await?;
    let subscriptions = &target.subscriptions;
    let mut new = NewSubscription::to(plan.clone()).period_months(arguments.months.unwrap_or(1));
    if let Some(trial) = arguments.trial {
        new = new.trial(trial);
    }
    let changed = match arguments.trial.is_some() || arguments.months.is_some() {
        true => Err(PlatformError::NotFound { what: "subscription" }),
        false => subscriptions.change_plan(target.tenant.id, &plan).await,
    };
    let changed = match changed {
        Err(PlatformError::NotFound { what: "subscription" }) => subscriptions.subscribe(target.tenant.id, &new).await,
        changed => changed,
    };
    target.show(session, &changed.map_err(|error| target.refused(error, Some(&plan)))?);
    Ok(Exit::Done)
}
