//! `cgk member:add`

use anyhow::Result;
use cgk::platform::NewMember;
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
  cgk member:add acme ada@example.com --role owner

Adds the user at once, without an invitation. A user of another tenant is a member of both then; an address that no user \
             has gets one, without a password.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    member: MemberArguments,
    /// Role in the tenant
    #[arg(long, value_enum, default_value = "member")]
    role: RoleArg,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let text = arguments.member.user.as_str();
    let target = Target::open(session, &arguments.member.slug).await?;
    let new = match text.parse() {
        Ok(id) => NewMember::user(id),
        Err(_) => NewMember::of_address(text),
    };
    let added = target.members.add(target.tenant.id, &new.role(arguments.role.into())).await;
    let member = added.map_err(|error| target.refused(error, text))?;
    target.record(session, &member);
    let (email, slug) = (sanitize(&member.email), &target.tenant.slug);
    session.printer.sentence(format!("{} {email} to tenant {slug}: {}", paint(GOOD, "added"), member.role));
    Ok(Exit::Done)
}
