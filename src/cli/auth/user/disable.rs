//! `cgk user:disable`

use anyhow::Result;
use cgk::auth::UserStatus;
use clap::Args;

use super::record;
use crate::cli::{
    auth::Target,
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk user:disable acme ada@example.com

The user cannot sign in, and all its sessions are revoked, in one transaction. Its API keys belong to the tenant \
             and stay: `cgk key:revoke`.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// E-mail address or id of the user
    user: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let mut user = target.user(&arguments.user).await?;
    let set = target.auth.users().set_status(target.tenant.id, user.id, &UserStatus::Disabled).await;
    set.map_err(|error| target.missing(error, "user", &arguments.user))?;
    user.status = UserStatus::Disabled;
    record(session, &target, &user);
    let email = sanitize(&user.email);
    printer.output(format!("{} user {email} of tenant {slug} and revoked its sessions", paint(GOOD, "disabled")));
    Ok(Exit::Done)
}
