//! `cgk org:list`

use anyhow::Result;
use cgk::{
    TenantStatus,
    platform::{Cursor, Organizations, PageRequest},
};
use clap::Args;
use serde::Serialize;

use super::OrganizationView;
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
  cgk org:list
  cgk org:list --json

Lists the organizations in the order in which they came, 1000 at a time. `cgk tenant:list` shows the state of their schemas.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// List what follows this place, which the page before names
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    organizations: Vec<OrganizationView<'a>>,
    next: Option<String>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let db = session.connect().await?;
    let mut request = PageRequest::default().limit(1000);
    if let Some(cursor) = arguments.after {
        request = request.after(cursor);
    }
    let page = Organizations::new(&db).acting_as(session.actor(&db)).list(&request).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        organizations: page.items.iter().map(OrganizationView::of).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        exit: Exit::Done,
    });
    if page.items.is_empty() {
        printer.info(format!(
            "There are no organizations here. Create one: {}",
            paint(COMMAND, "cgk tenant:create <slug>")
        ));
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["TENANT", "NAME", "STATUS", "CREATED"]);
    for one in &page.items {
        let style = match one.status {
            TenantStatus::Active => CellStyle::Good,
            TenantStatus::Suspended => CellStyle::Bad,
            _ => CellStyle::Warning,
        };
        grid.row([
            (one.slug.as_str(), CellStyle::Plain),
            (one.name.as_str(), CellStyle::Plain),
            (one.status.as_str(), style),
            (time::date(one.created_at).as_str(), CellStyle::Faint),
        ]);
    }
    printer.output(grid);
    if let Some(cursor) = page.next {
        printer.info(format!("More: {}", paint(COMMAND, format!("cgk org:list --after {cursor}"))));
    }
    Ok(Exit::Done)
}
