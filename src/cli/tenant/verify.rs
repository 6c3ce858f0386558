//! `cgk tenant:verify`

use anyhow::Result;
use cgk::{TenantSlug, migrate::Scope};
use clap::{ArgGroup, Args};

use crate::cli::{drift, exit::Exit, session::Session};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:verify acme globex
  cgk tenant:verify --all        exit code 7 if a tenant differs
  cgk tenant:verify acme --sql   the statements that would bring the schema back, to be read
  cgk tenant:verify --all --json

A tenant that is behind is compared with what its own migrations give. One that is being migrated is waited for, up to \
session.lock_timeout. No tenant is changed. `cgk drift` looks at the shared schema as well, and for what belongs to no tenant.";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("scope").required(true))]
pub(crate) struct Arguments {
    /// The tenants
    #[arg(group = "scope")]
    slug: Vec<String>,
    /// Every tenant of the registry
    #[arg(long, group = "scope")]
    all: bool,
    /// Print the statements that would bring the schemas back, as a script to be read; nothing is run
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
