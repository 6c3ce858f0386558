//! `cgk subscription:show`

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{SubscriptionView, Target};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk subscription:show acme
  cgk subscription:show acme --history    those that have ended too
  cgk subscription:show acme --json";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// List the subscriptions that have ended too
    #[arg(long)]
    history: bool,
}

#[derive(Serialize)]
struct History<'a> {
    v: u32,
    tenant: &'a str,
    subscriptions: Vec<SubscriptionView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let target = Target::open(session, &arguments.slug).await?;
    if !arguments.history {
        let current = target.subscriptions.current(target.tenant.id).await;
        target.show(session, &current.map_err(|error| target.refused(error, None))?);
        return Ok(Exit::Done);
    }
    let subscriptions = target.subscriptions.history(target.tenant.id).await?;
    session.printer.record(&History {
        v: crate::cli::JSON_VERSION,
        tenant: target.tenant.slug.as_str(),
        subscriptions: subscriptions.iter().map(SubscriptionView::of).collect(),
        exit: Exit::Done,
    });
    let mut grid = Grid::new(&["PLAN", "STATUS", "SINCE", "PERIOD ENDS", "ENDED"]);
    for subscription in &subscriptions {
        grid.row([
            (subscription.plan.as_str(), CellStyle::Plain),
            (subscription.status.to_string().as_str(), CellStyle::Plain),
            (time::date(subscription.created_at).as_str(), CellStyle::Faint),
            (time::date(subscription.period_end).as_str(), CellStyle::Faint),
            (subscription.canceled_at.map(time::date).unwrap_or_default().as_str(), CellStyle::Faint),
        ]);
    }
    session.printer.output(grid);
    Ok(Exit::Done)
}
