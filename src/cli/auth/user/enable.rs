//! `cgk user:enable`

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
  cgk user:enable acme ada@example.com

The user can sign in again. Sessions that `cgk user:disable` revoked stay revoked; API keys were not revoked.";

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
    let was_active = user.status == UserStatus::Active;
    if !was_active {
        let set = target.auth.users().set_status(target.tenant.id, user.id, &UserStatus::Active).await;
        set.map_err(|error| target.missing(error, "user", &arguments.user))?;
    }
    user.status = UserStatus::Active;
    record(session, &target, &user);
    let email = sanitize(&user.email);
    match was_active {
        true => printer.output(format!("user {email} of tenant {slug} is active")),
        false => printer.output(format!("{} user {email} of tenant {slug}", paint(GOOD, "enabled"))),
    }
    Ok(Exit::Done)
}
