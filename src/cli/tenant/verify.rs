//! `cgk tenant:verify`

use anyhow::Result;
use cgk::{TenantSlug, migrate::Scope};
use clap::{ArgGroup, Args};

use crate::cli::{drift, exit::Exit, session::Session};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:verify acme globex
  cgk tenant:verify --all        exit code 7 if a tenant differs
  cgk tenant:verify acme --sql   print the statements that would fix it
  cgk tenant:verify --all --json

Nothing is changed. A tenant that is behind is compared with its own migrations. If a tenant is \
             being migrated, the command waits up to session.lock_timeout. `cgk drift` also compares the shared \
             schema and lists orphans.";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("scope").required(true))]
pub(crate) struct Arguments {
    /// Slugs of the tenants
    #[arg(group = "scope")]
    slug: Vec<String>,
    /// Every tenant of the registry
    #[arg(long, group = "scope")]
    all: bool,
    /// Print a script that would fix the differences, for review; nothing is run
    #[arg(long)]
    sql: bool,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let scope = if arguments.all {
        Scope::Tenants
    } else {
        Scope::Only(arguments.slug.iter().map(|slug| slug.parse()).collect::<Result<Vec<TenantSlug>, _>>()?)
    };
    let shown = if arguments.sql { drift::Shown::Script } else { drift::Shown::Lines };
    drift::compare(session, "tenant:verify", &scope, shown).await
}
