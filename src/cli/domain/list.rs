//! `cgk domain:list`

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{DomainView, Target};
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
  cgk domain:list acme
  cgk domain:list acme --json

Lists the tenant's domains, with the token that the owner of each publishes to prove it.";

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    domains: Vec<DomainView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &ListArguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let domains = target.domains.list(target.tenant.id).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        domains: domains.iter().map(DomainView::of).collect(),
        exit: Exit::Done,
    });
    if domains.is_empty() {
        let next = paint(COMMAND, format!("cgk domain:add {slug} <domain>"));
        printer.info(format!("Tenant {slug} has no domains yet. Add one: {next}"));
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["DOMAIN", "STATE", "SINCE", "TOKEN"]);
    for domain in &domains {
        let (state, style, since) = match domain.verified_at {
            Some(at) => ("verified", CellStyle::Good, at),
            None => ("claimed", CellStyle::Warning, domain.created_at),
        };
        grid.row([
            (domain.name.as_str(), CellStyle::Plain),
            (state, style),
            (time::date(since).as_str(), CellStyle::Faint),
            (domain.verification_token.as_str(), CellStyle::Faint),
        ]);
    }
    printer.output(grid);
    Ok(Exit::Done)
}
