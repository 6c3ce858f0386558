//! `cgk provision:retry`

use anyhow::Result;
use cgk::{
    TenantSlug,
    provisioning::{ProvisioningError, ProvisioningStatus},
};
use clap::Args;
use serde::Serialize;

use super::open;
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::Refusal,
        style::{GOOD, paint, sanitize},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk provision:retry acme
  cgk provision:retry --failed    all that have failed

Makes a failed request pending again, with all its attempts. A pending one is tried now instead of after its pause.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT", required_unless_present = "failed", conflicts_with = "failed")]
    slug: Option<String>,
    /// Retry every request that has failed
    #[arg(long)]
    failed: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    retried: Vec<&'a str>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug = arguments.slug.as_deref().map(str::parse::<TenantSlug>).transpose()?;
    let provisioning = open(session).await?;
    let requests = match &slug {
        Some(slug) => match provisioning.of_tenant(slug).await {
            Ok(request) if request.status != ProvisioningStatus::Done => vec![request],
            Ok(_) => return Err(nothing(format!("the request for tenant {slug} is done"))),
            Err(ProvisioningError::NotFound) => return Err(nothing(format!("there is no request for tenant {slug}"))),
            Err(error) => return Err(error.into()),
        },
        None => {
            let mut requests = provisioning.unfinished().await?;
            requests.retain(|request| request.status == ProvisioningStatus::Failed);
            requests
        }
    };
    let mut retried = Vec::new();
    for request in &requests {
        match provisioning.retry(request.id).await {
            Ok(()) => retried.push(request.slug.as_str()),
            // Another process has finished or deleted it meanwhile.
            Err(ProvisioningError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for slug in &retried {
        printer.output(format!("{} tenant {} again", paint(GOOD, "requested"), sanitize(slug)));
    }
    if retried.is_empty() {
        printer.info("No request has failed.");
    }
    printer.record(&Answer { v: crate::cli::JSON_VERSION, retried, exit: Exit::Done });
    Ok(Exit::Done)
}

fn nothing(message: String) -> anyhow::Error {
    Refusal { message, hint: "`cgk provision:list --all` lists the requests.".into(), exit: Exit::Failed }.into()
}
