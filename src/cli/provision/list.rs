//! `cgk provision:list`

use anyhow::Result;
use cgk::provisioning::ProvisioningStatus;
use clap::Args;
use serde::Serialize;

use super::{RequestView, open};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        style::{COMMAND, paint},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk provision:list
  cgk provision:list --all    requests that are done too
  cgk provision:list --json

Lists the newest 1000 requests that are pending or failed, with the error of the last attempt.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Show requests that are done too
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    requests: Vec<RequestView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let provisioning = open(session).await?;
    let requests = if arguments.all { provisioning.all().await? } else { provisioning.unfinished().await? };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        requests: requests.iter().map(RequestView::of).collect(),
        exit: Exit::Done,
    });
    if requests.is_empty() {
        printer.info("No request is pending or failed.");
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["TENANT", "STATUS", "ATTEMPTS", "REQUESTED", "LAST ERROR"]);
    for request in &requests {
        let style = match request.status {
            ProvisioningStatus::Done => CellStyle::Good,
            ProvisioningStatus::Failed => CellStyle::Bad,
            _ => CellStyle::Warning,
        };
        let error = request.failure.as_ref().map(|failure| format!("[{}] {}", failure.code, failure.message));
        grid.row([
            (request.slug.as_str(), CellStyle::Plain),
            (request.status.to_string().as_str(), style),
            (request.attempts.to_string().as_str(), CellStyle::Plain),
            (time::rfc3339(request.created_at).as_str(), CellStyle::Faint),
            (error.unwrap_or_default().as_str(), CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    if requests.iter().any(|request| request.status == ProvisioningStatus::Failed) {
        printer.info(format!("Next: fix the cause, then {}", paint(COMMAND, "cgk provision:retry <tenant>")));
    }
    Ok(Exit::Done)
}
