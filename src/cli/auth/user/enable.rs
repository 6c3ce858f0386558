//! `cgk user:enable`

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
  cgk user:enable acme ada@example.com

The user can sign in again. Sessions that `cgk user:disable` revoked stay revoked; API keys were not revoked.";

pub(crate) async fn run(session: &Session<'_>, arguments: &UserArguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let mut user = target.user(&arguments.user).await?;
    let was_active = user.status == UserStatus::Active;
    if !was_active {
        set_status(&target, &mut user, &arguments.user, UserStatus::Active).await?;
    }
    record(session, &target, &user);
    let email = sanitize(&user.email);
    match was_active {
        true => printer.sentence(format!("user {email} of tenant {slug} is active")),
        false => printer.sentence(format!("{} user {email} of tenant {slug}", paint(GOOD, "enabled"))),
    }
    Ok(Exit::Done)
}
