//! `cgk tenant:rename`

use anyhow::Result;
use cgk::{
    TenantSlug,
    ident::SchemaName,
    lifecycle::{self, RenameOptions},
};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

use crate::cli::{
    auth::span,
    exit::Exit,
    number,
    session::Session,
    ui::style::{GOOD, WARNING, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:rename acme apex
  cgk tenant:rename acme apex --name \"Apex Inc.\"
  cgk tenant:rename acme --name \"Acme Ltd.\"

Schema, role and registry change together. Transactions in the tenant finish first, and logins keep their \
             access. The old slug is free at once: services must use the new one.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// New slug
    #[arg(value_name = "NEW", required_unless_present = "name")]
    to: Option<String>,
    /// New display name
    #[arg(long, value_parser = number::name)]
    name: Option<String>,
    /// How long to wait for transactions in the tenant, for example 10s [default: session.migration_wait]
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    name: &'a str,
    status: &'a str,
    schema: String,
    was_tenant: &'a str,
    was_name: &'a str,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug: TenantSlug = arguments.slug.parse()?;
    let mut options = RenameOptions::default();
    if let Some(to) = &arguments.to {
        options = options.slug(to.parse()?);
    }
    if let Some(name) = &arguments.name {
        options = options.name(name);
    }
    if let Some(wait) = arguments.wait {
        options = options.wait(wait);
    }
    let operator = session.operator().await?;
    session.say_database(&operator);
    let renamed = lifecycle::rename(&operator, &slug, &options).await?;
    let (before, now) = (&renamed.before, &renamed.tenant);
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: now.slug.as_str(),
        id: now.id.to_string(),
        name: &now.name,
        status: now.status.as_str(),
        schema: SchemaName::of_tenant(&now.slug).as_str().to_owned(),
        was_tenant: before.slug.as_str(),
        was_name: &before.name,
        exit: Exit::Done,
    });
    if now == before {
        printer.output(format!("tenant {slug} ({}) has this name already", sanitize(&now.name)));
        return Ok(Exit::Done);
    }
    let name = sanitize(&now.name);
    printer.output(format!("{} tenant {slug}: it is {} ({name})", paint(GOOD, "renamed"), now.slug));
    if now.slug != before.slug {
        printer.info(paint(WARNING, format!("Services that ask for {slug} are refused from now on.")));
    }
    Ok(Exit::Done)
}
