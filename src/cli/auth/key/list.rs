//! `cgk key:list`

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{KeyView, state};
use crate::cli::{
    auth::{State, Target, note_hidden, short, warn_if_cut},
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
  cgk key:list acme
  cgk key:list acme --all     revoked and expired keys too
  cgk key:list acme --json    always all

Lists the newest 1000 keys of the tenant. A token cannot be shown again. LAST USED is exact to the minute.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Show revoked and expired keys too
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    keys: Vec<KeyView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let keys = target.auth.api_keys().list(target.tenant.id).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        keys: keys.iter().map(KeyView::of).collect(),
        exit: Exit::Done,
    });
    warn_if_cut(printer, keys.len(), "key");
    if keys.is_empty() {
        let next = paint(COMMAND, format!("cgk key:create {slug} --name <name>"));
        printer.info(format!("Tenant {slug} has no keys yet. Create one: {next}"));
        return Ok(Exit::Done);
    }
    let shown: Vec<_> = keys.iter().filter(|key| arguments.all || state(key) == State::Live).collect();
    if !shown.is_empty() {
        let mut grid = Grid::new(&["KEY", "NAME", "STATE", "SCOPES", "LAST USED", "EXPIRES"]);
        for key in &shown {
            let date = |at: Option<_>| at.map_or_else(|| "never".to_owned(), time::date);
            grid.row([
                (short(key.id).as_str(), CellStyle::Plain),
                (key.name.as_str(), CellStyle::Plain),
                (state(key).as_str(), state(key).style()),
                (key.scopes.join(", ").as_str(), CellStyle::Plain),
                (date(key.last_used_at).as_str(), CellStyle::Faint),
                (date(key.expires_at).as_str(), CellStyle::Faint),
            ]);
        }
        printer.output(grid);
    }
    note_hidden(printer, keys.len() - shown.len(), "key");
    Ok(Exit::Done)
}
