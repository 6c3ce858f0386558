//! `cgk tenant:suspend`

use anyhow::Result;
use cgk::{
    TenantSlug,
    lifecycle::{self, RemainingSessions, SuspendOptions},
};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

use super::SessionView;
use crate::cli::{
    auth::span,
    exit::Exit,
    session::Session,
    ui::{
        style::{COMMAND, GOOD, count, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:suspend acme
  cgk tenant:suspend acme --wait 10s --terminate
  cgk tenant:suspend acme --json

Every entry is refused at once. The command then waits for the transactions that are \
             inside. With exit code 0 none is left; with 6 some are, and the tenant is suspended. `cgk tenant:activate` \
             lets services in again.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// How long to wait for transactions in the tenant, for example 10s [default: session.migration_wait]
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
    /// End sessions that are still in the tenant after that; their transactions roll back
    #[arg(long)]
    terminate: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    status: &'a str,
    was_suspended: bool,
    waited_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_after: Option<String>,
    terminated: Vec<SessionView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug: TenantSlug = arguments.slug.parse()?;
    let operator = session.operator().await?;
    session.say_database(&operator);
    let mut options = SuspendOptions::default();
    if let Some(wait) = arguments.wait {
        options = options.wait(wait);
    }
    if arguments.terminate {
        options = options.remaining(RemainingSessions::Terminate);
    }
    let suspended = lifecycle::suspend(&operator, &slug, &options).await?;
    for ended in &suspended.terminated {
        printer.warn(format!("ended {}", sanitize(&ended.to_string())));
    }
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        id: suspended.tenant.id.to_string(),
        status: suspended.tenant.status.as_str(),
        was_suspended: suspended.was_suspended,
        waited_ms: time::milliseconds(suspended.waited),
        drop_after: suspended.drop_after.map(time::rfc3339),
        terminated: SessionView::all(&suspended.terminated),
        exit: Exit::Done,
    });
    let ended = match suspended.terminated.len() {
        0 => String::new(),
        number => format!("; {} ended", count(number, "session")),
    };
    printer.sentence(match suspended.was_suspended {
        true => format!("tenant {slug} is suspended, as before; no transaction is in it{ended}"),
        false => format!("{} tenant {slug}; no transaction is in it{ended}", paint(GOOD, "suspended")),
    });
    let undo = match suspended.drop_after {
        Some(after) => {
            printer.info(format!("`cgk tenant:drop --due` drops it after {}.", time::rfc3339(after)));
            "undrop"
        }
        None => "activate",
    };
    printer.info(format!("Undo: {}", paint(COMMAND, format!("cgk tenant:{undo} {slug}"))));
    Ok(Exit::Done)
}
