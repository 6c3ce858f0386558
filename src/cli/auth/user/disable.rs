//! `cgk user:disable`

use anyhow::Result;
use cgk::auth::UserStatus;

use super::{UserArguments, record, set_status};
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

pub(crate) async fn run(session: &Session<'_>, arguments: &UserArguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let mut user = target.user(&arguments.user).await?;
    set_status(&target, &mut user, &arguments.user, UserStatus::Disabled).await?;
    record(session, &target, &user);
    let email = sanitize(&user.email);
    printer.sentence(format!("{} user {email} of tenant {slug} and revoked its sessions", paint(GOOD, "disabled")));
    Ok(Exit::Done)
}
