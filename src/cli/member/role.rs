//! `cgk member:role`

use anyhow::Result;
use clap::Args;

use super::{MemberArguments, Target};
use crate::cli::{
    auth::user::RoleArg,
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk member:role acme ada@example.com admin

The last owner who is confirmed and active keeps the role: make another member an owner first.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    member: MemberArguments,
    /// New role in the tenant
    #[arg(value_enum)]
    role: RoleArg,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let text = arguments.member.user.as_str();
    let target = Target::open(session, &arguments.member.slug).await?;
    let user = target.user(text).await?;
    let changed = target.members.set_role(target.tenant.id, user, &arguments.role.into()).await;
    let member = changed.map_err(|error| target.refused(error, text))?;
    target.record(session, &member);
    let (email, slug) = (sanitize(&member.email), &target.tenant.slug);
    session.printer.sentence(format!("{email} of tenant {slug} is {}", paint(GOOD, &member.role)));
    Ok(Exit::Done)
}
