//! `cgk domain:remove`

use anyhow::Result;
use serde::Serialize;

use super::{Arguments, Target, name};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk domain:remove acme shop.example.com

Services that listen for changes stop finding the tenant by this domain at once.";

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    removed: &'a str,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let name = name(&arguments.domain)?;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    target.domains.remove(target.tenant.id, &name).await.map_err(|error| target.missing(error, &name))?;
    session.printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        removed: name.as_str(),
        exit: Exit::Done,
    });
    session.printer.output(format!("{} domain {name} of tenant {slug}", paint(GOOD, "removed")));
    Ok(Exit::Done)
}
