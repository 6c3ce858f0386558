//! `cgk tenant:rename`

use anyhow::Result;
use cgk::{
    Operator, TenantSlug,
    ident::SchemaName,
    lifecycle::{self, RenameOptions},
};
use clap::Args;
use serde::Serialize;
use std::time::{Duration, SystemTime};

use crate::cli::{
    auth::span,
    exit::Exit,
    number,
    session::Session,
    ui::{
        style::{GOOD, WARNING, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:rename acme apex
  cgk tenant:rename acme apex --name \"Apex Inc.\"
  cgk tenant:rename acme apex --keep-alias 30d    services find it as acme too
  cgk tenant:rename apex --drop-alias acme        ends that now
  cgk tenant:rename acme --name \"Acme Ltd.\"

Schema, role and registry change together. Transactions in the tenant finish first, and logins keep their \
             access. Without --keep-alias the old slug is free at once: services must use the new one.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// New slug
    #[arg(value_name = "NEW", required_unless_present_any = ["name", "drop_alias"])]
    to: Option<String>,
    /// New display name
    #[arg(long, value_parser = number::name)]
    name: Option<String>,
    /// How long services still find the tenant by its old slug, for example 30d
    #[arg(long, value_name = "TIME", value_parser = span, requires = "to")]
    keep_alias: Option<Duration>,
    /// End a former slug of the tenant, which was kept with --keep-alias
    #[arg(long, value_name = "OLD", conflicts_with_all = ["to", "name", "wait"])]
    drop_alias: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    alias_until: Option<String>,
    exit: Exit,
}

#[derive(Serialize)]
struct AliasAnswer<'a> {
    v: u32,
    tenant: &'a str,
    alias: &'a str,
    dropped: bool,
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
    if let Some(time) = arguments.keep_alias {
        options = options.keep_alias(time);
    }
    let operator = session.operator().await?;
    session.say_database(&operator);
    if let Some(alias) = &arguments.drop_alias {
        return drop_alias(session, &operator, &slug, &alias.parse()?).await;
    }
    let until = arguments.keep_alias.map(|time| time::rfc3339(SystemTime::now() + time));
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
        alias_until: until.clone().filter(|_| now.slug != before.slug),
        exit: Exit::Done,
    });
    if now == before {
        printer.sentence(format!("tenant {slug} ({}) has this name already", sanitize(&now.name)));
        return Ok(Exit::Done);
    }
    let name = sanitize(&now.name);
    printer.sentence(format!("{} tenant {slug}: it is {} ({name})", paint(GOOD, "renamed"), now.slug));
    match until {
        _ if now.slug == before.slug => {}
        Some(until) => printer.info(format!("Services find it as {slug} too, until {until}.")),
        None => printer.info(paint(WARNING, format!("Services that ask for {slug} are refused from now on."))),
    }
    Ok(Exit::Done)
}

async fn drop_alias(session: &Session<'_>, operator: &Operator, slug: &TenantSlug, alias: &TenantSlug) -> Result<Exit> {
    let dropped = lifecycle::drop_alias(operator, slug, alias).await?;
    let (tenant, exit) = (slug.as_str(), Exit::Done);
    session.printer.record(&AliasAnswer { v: crate::cli::JSON_VERSION, tenant, alias: alias.as_str(), dropped, exit });
    session.printer.sentence(match dropped {
        true => format!("{} former slug {alias} of tenant {slug}", paint(GOOD, "dropped")),
        false => format!("tenant {slug} has no former slug {alias}"),
    });
    Ok(exit)
}
