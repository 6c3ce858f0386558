//! `cgk tenant:activate`

use anyhow::Result;
use cgk::{TenantSlug, lifecycle};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:activate acme
  cgk tenant:activate acme --json";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    status: &'a str,
    was_active: bool,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug: TenantSlug = arguments.slug.parse()?;
    let operator = session.operator().await?;
    session.say_database(&operator);
    let activated = lifecycle::activate(&operator, &slug).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        id: activated.tenant.id.to_string(),
        status: activated.tenant.status.as_str(),
        was_active: activated.was_active,
        exit: Exit::Done,
    });
    printer.sentence(match activated.was_active {
        true => format!("tenant {slug} is active, as before"),
        false => format!("{} tenant {slug}", paint(GOOD, "activated")),
    });
    Ok(Exit::Done)
}
