//! `cgk tenant:undrop`

use anyhow::Result;
use cgk::{
    TenantSlug,
    lifecycle::{self, DropOptions},
};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

use crate::cli::{
    auth::span,
    exit::Exit,
    session::Session,
    ui::{
        style::{GOOD, paint},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:undrop acme
  cgk tenant:undrop acme --json

The tenant has the status again that it had before `cgk tenant:drop --after`.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// How long to wait for a migration of the tenant, for example 10s [default: session.migration_wait]
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    status: &'a str,
    was_drop_after: Option<String>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug: TenantSlug = arguments.slug.parse()?;
    let operator = session.operator().await?;
    session.say_database(&operator);
    let mut options = DropOptions::default();
    if let Some(wait) = arguments.wait {
        options = options.wait(wait);
    }
    let kept = lifecycle::undrop(&operator, &slug, &options).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        id: kept.tenant.id.to_string(),
        status: kept.tenant.status.as_str(),
        was_drop_after: kept.was_after.map(time::rfc3339),
        exit: Exit::Done,
    });
    printer.sentence(match kept.was_after {
        Some(_) => format!("{} tenant {slug}: it is {}", paint(GOOD, "kept"), kept.tenant.status),
        None => format!("no drop of tenant {slug} is planned; it is {}", kept.tenant.status),
    });
    Ok(Exit::Done)
}
