//! `cgk subscription:cancel`

use anyhow::Result;
use cgk::platform::Cancellation;
use clap::Args;

use super::Target;
use crate::cli::{exit::Exit, session::Session};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk subscription:cancel acme          at the end of its period
  cgk subscription:cancel acme --now    at once, with what it granted
  cgk subscription:cancel acme --undo   keep it after all

Nothing is paid back, and cgk does not notify a payment provider.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// End it at once and revoke what it granted
    #[arg(long)]
    now: bool,
    /// Take back a cancellation at the end of the period
    #[arg(long, conflicts_with = "now")]
    undo: bool,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let target = Target::open(session, &arguments.slug).await?;
    let (subscriptions, tenant) = (&target.subscriptions, target.tenant.id);
    let changed = match (arguments.now, arguments.undo) {
        (true, _) => subscriptions.cancel(tenant, Cancellation::Now).await,
        (_, true) => subscriptions.resume(tenant).await,
        _ => subscriptions.cancel(tenant, Cancellation::AtPeriodEnd).await,
    };
    target.show(session, &changed.map_err(|error| target.refused(error, None))?);
    Ok(Exit::Done)
}
