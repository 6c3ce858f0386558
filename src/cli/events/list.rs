//! `cgk events:list`

use anyhow::Result;
use cgk::platform::{EventFilter, EventRecord, EventStatus, Outbox};
use clap::Args;
use serde::Serialize;

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
  cgk events:list                   the newest of all tenants
  cgk events:list acme --status dead
  cgk events:list --json

Lists domain events, the last written first, 100 at a time. `dead` are those that were given up after too many attempts.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: Option<String>,
    /// Show events of this status: pending, delivered or dead
    #[arg(long, value_parser = ["pending", "delivered", "dead"])]
    status: Option<String>,
    /// Show events of this type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// List what comes before this position, which the page before names
    #[arg(long, value_name = "POSITION")]
    before: Option<i64>,
}

/// An event, as JSON.
#[derive(Serialize)]
struct EventView<'a> {
    id: String,
    organization: Option<String>,
    position: i64,
    sequence: Option<i64>,
    r#type: &'a str,
    subject: Option<&'a str>,
    status: &'a str,
    attempts: i32,
    error: Option<&'a str>,
    occurred_at: String,
    finished_at: Option<String>,
}

impl<'a> EventView<'a> {
    fn of(event: &'a EventRecord) -> Self {
        Self {
            id: event.id.to_string(),
            organization: event.organization_id.map(|id| id.to_string()),
            position: event.position,
            sequence: event.sequence,
            r#type: &event.event_type,
            subject: event.subject.as_deref(),
            status: event.status.as_str(),
            attempts: event.attempts,
            error: event.error.as_deref(),
            occurred_at: time::rfc3339(event.occurred_at),
            finished_at: event.finished_at.map(time::rfc3339),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    events: Vec<EventView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (db, organization) = session.organization(arguments.slug.as_deref()).await?;
    let filter = EventFilter {
        organization,
        status: arguments.status.as_deref().map(EventStatus::from),
        event_type: arguments.event_type.clone(),
        before: arguments.before,
        limit: Some(100),
    };
    let events = Outbox::new(&db).list(&filter).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        events: events.iter().map(EventView::of).collect(),
        exit: Exit::Done,
    });
    if events.is_empty() {
        printer.info("There are no such events.");
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["EVENT", "TYPE", "SUBJECT", "STATUS", "ATTEMPTS", "WRITTEN", "LAST ERROR"]);
    for event in &events {
        let style = match event.status {
            EventStatus::Delivered => CellStyle::Good,
            EventStatus::Dead => CellStyle::Bad,
            _ => CellStyle::Warning,
        };
        grid.row([
            (event.id.to_string().as_str(), CellStyle::Faint),
            (event.event_type.as_str(), CellStyle::Plain),
            (event.subject.as_deref().unwrap_or_default(), CellStyle::Plain),
            (event.status.to_string().as_str(), style),
            (event.attempts.to_string().as_str(), CellStyle::Plain),
            (time::rfc3339(event.occurred_at).as_str(), CellStyle::Faint),
            (event.error.as_deref().unwrap_or_default(), CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    if let (100, Some(last)) = (events.len(), events.last()) {
        printer.info(format!("More: {}", paint(COMMAND, format!("cgk events:list --before {}", last.position))));
    }
    if events.iter().any(|event| event.status == EventStatus::Dead) {
        printer.info(format!("Next: fix the cause, then {}", paint(COMMAND, "cgk events:retry <event>")));
    }
    Ok(Exit::Done)
}
