//! `cgk audit:list`

use anyhow::Result;
use cgk::platform::{AuditEvent, AuditFilter, AuditLog, Cursor, PageRequest};
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
  cgk audit:list                    the newest of all tenants
  cgk audit:list acme
  cgk audit:list --action cgk.membership.removed
  cgk audit:list --json             with what each resource was and became

Lists the changes, and who made them: the newest first, 100 at a time.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: Option<String>,
    /// Show this action only
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Show resources of this kind only
    #[arg(long, value_name = "KIND")]
    resource: Option<String>,
    /// Show the resource of this id only
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// List what follows this place, which the page before names
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

/// A row of the log, as JSON.
#[derive(Serialize)]
struct AuditView<'a> {
    id: String,
    organization: Option<String>,
    occurred_at: String,
    actor_kind: &'a str,
    actor: Option<&'a str>,
    action: &'a str,
    resource_kind: &'a str,
    resource: &'a str,
    before: Option<&'a serde_json::Value>,
    after: Option<&'a serde_json::Value>,
    request: Option<&'a str>,
}

impl<'a> AuditView<'a> {
    fn of(event: &'a AuditEvent) -> Self {
        Self {
            id: event.id.to_string(),
            organization: event.organization_id.map(|id| id.to_string()),
            occurred_at: time::rfc3339(event.occurred_at),
            actor_kind: &event.actor_kind,
            actor: event.actor_id.as_deref(),
            action: &event.action,
            resource_kind: &event.resource_kind,
            resource: &event.resource_id,
            before: event.before.as_ref(),
            after: event.after.as_ref(),
            request: event.request_id.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    audit_events: Vec<AuditView<'a>>,
    next: Option<String>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (db, organization) = session.organization(arguments.slug.as_deref()).await?;
    let mut filter = AuditFilter::default();
    filter.organization = organization;
    filter.action.clone_from(&arguments.action);
    filter.resource_kind.clone_from(&arguments.resource);
    filter.resource_id.clone_from(&arguments.id);
    let mut request = PageRequest::default().limit(100);
    if let Some(cursor) = arguments.after {
        request = request.after(cursor);
    }
    let page = AuditLog::new(&db).list(&filter, &request).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        audit_events: page.items.iter().map(AuditView::of).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        exit: Exit::Done,
    });
    if page.items.is_empty() {
        printer.info("There is no such line in the audit log.");
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["TIME", "ACTOR", "ACTION", "RESOURCE"]);
    for event in &page.items {
        let actor = match &event.actor_id {
            Some(id) => format!("{} {id}", event.actor_kind),
            None => event.actor_kind.clone(),
        };
        grid.row([
            (time::rfc3339(event.occurred_at).as_str(), CellStyle::Faint),
            (actor.as_str(), CellStyle::Plain),
            (event.action.as_str(), CellStyle::Plain),
            (format!("{} {}", event.resource_kind, event.resource_id).as_str(), CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    if let Some(cursor) = page.next {
        printer.info(format!("More: {}", paint(COMMAND, format!("cgk audit:list --after {cursor}"))));
    }
    Ok(Exit::Done)
}
