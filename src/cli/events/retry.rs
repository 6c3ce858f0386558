//! `cgk events:retry`

use anyhow::Result;
use cgk::platform::{EventId, Outbox, PlatformError};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        report::Missing,
        style::{GOOD, count, paint},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk events:retry 0195f0a0-0000-7000-8000-000000000001
  cgk events:retry --all
  cgk events:retry --all --tenant acme

Makes events pending again that were given up, with all their attempts. The audit log says who did it.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Id of the event, from `cgk events:list`
    #[arg(value_name = "EVENT", value_parser = number::id::<EventId>, required_unless_present = "all", conflicts_with = "all")]
    id: Option<EventId>,
    /// Retry every event that was given up
    #[arg(long)]
    all: bool,
    /// Slug of the tenant whose events are retried
    #[arg(long, value_name = "TENANT", requires = "all")]
    tenant: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    retried: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (db, organization) = session.organization(arguments.tenant.as_deref()).await?;
    let outbox = Outbox::new(&db).acting_as(session.actor(&db));
    let retried = match arguments.id {
        Some(id) => match outbox.retry(id).await {
            Ok(()) => 1,
            Err(PlatformError::NotFound { .. }) => {
                let message = format!("there is no event {id} that was given up");
                let hint = "`cgk events:list --status dead` lists them.".into();
                return Err(Missing { message, hint }.into());
            }
            Err(error) => return Err(error.into()),
        },
        None => outbox.retry_all(organization).await?,
    };
    printer.record(&Answer { v: crate::cli::JSON_VERSION, retried, exit: Exit::Done });
    printer.output(format!(
        "{} {}",
        paint(GOOD, "pending"),
        count(usize::try_from(retried).unwrap_or(usize::MAX), "event")
    ));
    Ok(Exit::Done)
}
