//! `cgk member:remove`

use anyhow::Result;
use serde::Serialize;

use super::{MemberArguments, Target};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk member:remove acme ada@example.com

Its sessions in the tenant end with the membership. The user stays, with its memberships in other tenants.";

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    removed: String,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &MemberArguments) -> Result<Exit> {
    let text = arguments.user.as_str();
    let target = Target::open(session, &arguments.slug).await?;
    let user = target.user(text).await?;
    let removed = target.members.remove(target.tenant.id, user).await;
    removed.map_err(|error| target.refused(error, text))?;
    let slug = target.tenant.slug.as_str();
    session.printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug,
        removed: user.to_string(),
        exit: Exit::Done,
    });
    session.printer.sentence(format!("{} {} from tenant {slug}", paint(GOOD, "removed"), sanitize(text)));
    Ok(Exit::Done)
}
