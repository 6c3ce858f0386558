//! `cgk subscription:renew`

use anyhow::Result;
use cgk::platform::{RenewalPeriod, Subscriptions};
use clap::Args;
use serde::Serialize;

use super::Target;
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{BAD, GOOD, WARNING, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk subscription:renew acme     one tenant, if its period has ended
  cgk subscription:renew --due    all tenants whose period has ended; run it every hour or so

With --due: active subscriptions are renewed, those that are to be canceled end, and trials that are over become \
             past due. One that a payment provider bills is renewed by the service when the provider says so.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT", required_unless_present = "due", conflicts_with = "due")]
    slug: Option<String>,
    /// Renew every subscription whose period has ended
    #[arg(long)]
    due: bool,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    renewed: usize,
    ended: usize,
    past_due: usize,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    if let Some(slug) = &arguments.slug {
        let target = Target::open(session, slug).await?;
        let renewed = target.subscriptions.renew(target.tenant.id, RenewalPeriod::Next).await;
        target.show(session, &renewed.map_err(|error| target.refused(error, None))?);
        return Ok(Exit::Done);
    }
    let db = session.connect().await?;
    let subscriptions = Subscriptions::new(&db).acting_as(session.actor(&db));
    let mut answer = Answer { v: crate::cli::JSON_VERSION, renewed: 0, ended: 0, past_due: 0, exit: Exit::Done };
    loop {
        let report = subscriptions.renew_due().await?;
        let done = report.renewed.len() + report.ended.len() + report.past_due.len();
        answer.renewed += report.renewed.len();
        answer.ended += report.ended.len();
        answer.past_due += report.past_due.len();
        if done == 0 {
            break;
        }
    }
    let counts = [
        (answer.renewed, paint(GOOD, "renewed")),
        (answer.ended, paint(WARNING, "ended")),
        (answer.past_due, paint(BAD, "past due")),
    ];
    let parts: Vec<_> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(n, what)| format!("{n} {what}")).collect();
    session.printer.output(match parts.is_empty() {
        true => "No subscription was due.".to_owned(),
        false => format!("Subscriptions: {}.", parts.join(", ")),
    });
    session.printer.record(&answer);
    Ok(Exit::Done)
}
