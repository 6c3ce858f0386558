//! `cgk tenant:verify`

use anyhow::Result;
use cgk::{TenantSlug, migrate::Scope};
use clap::Args;

use super::{drift, exit::Exit, session::Session};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:verify acme globex
  cgk tenant:verify --all        exit code 7 if a tenant differs
  cgk tenant:verify --all --json

A tenant that is behind is compared with what its own migrations give. One that is being migrated is waited for, up to \
session.lock_timeout. Nothing is changed. `cgk drift` looks at the shared schema as well, and for what belongs to no tenant.";

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Arguments {
    /// The tenants
    slug: Vec<String>,
    /// Every tenant of the registry
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let scope = if arguments.all {
        Scope::Tenants
    } else {
        Scope::Only(arguments.slug.iter().map(|slug| slug.parse()).collect::<Result<Vec<TenantSlug>, _>>()?)
    };
    drift::compare(session, "tenant:verify", &scope, drift::Shown::Lines).await
}
