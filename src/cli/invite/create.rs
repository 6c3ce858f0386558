//! `cgk invite:create`

use anyhow::Result;
use cgk::platform::NewInvitation;
use clap::Args;
use std::time::Duration;

use super::Target;
use crate::cli::{
    auth::{span, user::RoleArg},
    exit::Exit,
    session::Session,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk invite:create acme ben@example.com
  cgk invite:create acme ben@example.com --role admin --expires 24h

Prints the token, and nothing else, on standard output: cgk sends no mail. Whoever shows it to the service is a member then.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// E-mail address to invite
    email: String,
    /// Role in the tenant
    #[arg(long, value_enum, default_value = "member")]
    role: RoleArg,
    /// How long it may be accepted, for example 24h; seven days unless given
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires: Option<Duration>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let target = Target::open(session, &arguments.slug).await?;
    let mut new = NewInvitation::of_address(&arguments.email).role(arguments.role.into());
    if let Some(lifetime) = arguments.expires {
        new = new.lifetime(lifetime);
    }
    let created = target.invitations.create(target.tenant.id, &new).await;
    let (invitation, token) = created.map_err(|error| target.refused(error, &arguments.email))?;
    target.show_token(session, &invitation, token.reveal());
    Ok(Exit::Done)
}
