//! `cgk key:create`

use anyhow::Result;
use cgk::auth::{NewApiKey, TokenBrand};
use clap::Args;
use std::time::Duration;

use super::{described, show_new};
use crate::cli::{
    auth::{Target, brand, short, span},
    exit::Exit,
    number,
    session::Session,
    ui::style::{GOOD, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk key:create acme --name deploy --scope orders:read --scope orders:write
  cgk key:create acme --name ci --expires-in 90days
  TOKEN=$(cgk key:create acme --name deploy -q)

The token is printed once, as the only line of standard output. cgk stores its hash. A key without \
             scopes may do nothing that your service asks a scope for.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Name of the key, for people
    #[arg(long, value_parser = number::name)]
    name: String,
    /// What the key may do; repeat it for several
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How long the key is valid, for example 90days [default: no end]
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires_in: Option<Duration>,
    /// What the token starts with; the same as AuthSettings::brand in your service
    #[arg(long, value_name = "NAME", value_parser = brand, default_value = "cgk")]
    brand: TokenBrand,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let target = Target::open_branded(session, &arguments.slug, &arguments.brand).await?;
    let slug = &target.tenant.slug;
    let mut new = NewApiKey::named(&arguments.name);
    for scope in &arguments.scopes {
        new = new.scope(scope);
    }
    if let Some(lifetime) = arguments.expires_in {
        new = new.lifetime(lifetime);
    }
    let (key, token) = target.auth.api_keys().create(target.tenant.id, &new).await?;
    let (id, name) = (short(key.id), sanitize(&key.name));
    let said = format!("{} key {id} ({name}) of tenant {slug}: {}", paint(GOOD, "created"), described(&key));
    show_new(session, &target, &key, &token, said);
    Ok(Exit::Done)
}
