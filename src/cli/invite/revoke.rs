//! `cgk invite:revoke`

use anyhow::Result;
use serde::Serialize;

use super::{InvitationArguments, Target};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk invite:revoke acme ben@example.com

The invitation cannot be accepted any more.";

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    revoked: String,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &InvitationArguments) -> Result<Exit> {
    let text = arguments.invitation.as_str();
    let target = Target::open(session, &arguments.slug).await?;
    let id = target.find(text).await?;
    let revoked = target.invitations.revoke(target.tenant.id, id).await;
    revoked.map_err(|error| target.refused(error, text))?;
    let tenant = target.tenant.slug.as_str();
    session.printer.record(&Answer { v: crate::cli::JSON_VERSION, tenant, revoked: id.to_string(), exit: Exit::Done });
    session.printer.output(format!("{} invitation {} to tenant {tenant}", paint(GOOD, "revoked"), sanitize(text)));
    Ok(Exit::Done)
}
