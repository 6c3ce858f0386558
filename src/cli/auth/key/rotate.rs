//! `cgk key:rotate`

use anyhow::Result;
use cgk::auth::{ApiKeyRotation, TokenBrand};
use clap::Args;
use std::time::Duration;

use super::{described, id_of, show_new};
use crate::cli::{
    auth::{Target, brand, short, span},
    exit::Exit,
    session::Session,
    ui::{
        style::{GOOD, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk key:rotate acme 3f2a9c1d                   the old key ends now
  cgk key:rotate acme 3f2a9c1d --overlap 24h     both work for 24 hours
  cgk key:rotate acme 3f2a9c1d --overlap 24h --expires-in 90days
  TOKEN=$(cgk key:rotate acme 3f2a9c1d --overlap 24h -q)

The new key has the name and the scopes of the old one. Both changes are one transaction. The token is \
             printed once, as the only line of standard output.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Id of the key, or its first characters
    #[arg(value_name = "KEY")]
    id: String,
    /// How long the old key stays valid, for example 24h [default: it is revoked now]
    #[arg(long, value_name = "TIME", value_parser = span)]
    overlap: Option<Duration>,
    /// How long the new key is valid, for example 90days [default: no end]
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires_in: Option<Duration>,
    /// What the token starts with; the same as AuthSettings::brand in your service
    #[arg(long, value_name = "NAME", value_parser = brand, default_value = "cgk")]
    brand: TokenBrand,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let target = Target::open_branded(session, &arguments.slug, &arguments.brand).await?;
    let slug = &target.tenant.slug;
    let keys = target.auth.api_keys();
    let old = id_of(&target, &arguments.id).await?;
    let mut rotation = ApiKeyRotation::at_once();
    if let Some(overlap) = arguments.overlap {
        rotation = rotation.overlap(overlap);
    }
    if let Some(lifetime) = arguments.expires_in {
        rotation = rotation.lifetime(lifetime);
    }
    let rotated = keys.rotate(target.tenant.id, old, &rotation).await;
    let (key, token) = rotated.map_err(|error| target.missing(error, "live API key", &old.to_string()))?;
    let end = match arguments.overlap {
        Some(overlap) => format!("is valid for {} at most", time::span(overlap)),
        None => "is revoked".to_owned(),
    };
    let said = format!(
        "{} key {} ({}) of tenant {slug}: {}. The old key {} {end}.",
        paint(GOOD, "created"),
        short(key.id),
        sanitize(&key.name),
        described(&key),
        short(old),
    );
    show_new(session, &target, &key, &token, said);
    Ok(Exit::Done)
}
