//! `cgk key:revoke`

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::id_of;
use crate::cli::{
    auth::{Target, short},
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk key:revoke acme 3f2a9c1d

The key is refused from now on. A key that is revoked already stays as it is.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Id of the key, or its first characters
    #[arg(value_name = "KEY")]
    id: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let id = id_of(&target, &arguments.id).await?;
    let revoked = target.auth.api_keys().revoke(target.tenant.id, id).await;
    revoked.map_err(|error| target.missing(error, "API key", &id.to_string()))?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        id: id.to_string(),
        exit: Exit::Done,
    });
    printer.sentence(format!("{} key {} of tenant {slug}", paint(GOOD, "revoked"), short(id)));
    Ok(Exit::Done)
}
