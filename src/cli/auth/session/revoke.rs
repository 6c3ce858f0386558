//! `cgk session:revoke`

use anyhow::Result;
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::cli::{
    auth::{Target, short},
    exit::Exit,
    session::Session,
    ui::style::{GOOD, count, paint, sanitize},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk session:revoke acme 5b1c77de
  cgk session:revoke acme --user ada@example.com    all its sessions

The session's token is refused from now on. A session that is revoked already stays as it is.";

pub(crate) const USAGE: &str = "cgk session:revoke [OPTIONS] <TENANT> <SESSION|--user <USER>>";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("which").required(true))]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Id of the session, or its first characters
    #[arg(value_name = "SESSION", group = "which")]
    id: Option<String>,
    /// E-mail address or id of a user: all its sessions
    #[arg(long, group = "which")]
    user: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: Option<String>,
    user_id: Option<String>,
    revoked: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let (slug, organization, sessions) = (&target.tenant.slug, target.tenant.id, target.auth.sessions());
    let mut answer = Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        id: None,
        user_id: None,
        revoked: 1,
        exit: Exit::Done,
    };
    let text = if let Some(text) = &arguments.user {
        let user = target.user(text).await?;
        answer.user_id = Some(user.id.to_string());
        answer.revoked = sessions.revoke_all(organization, user.id, None).await?;
        let number = count(usize::try_from(answer.revoked).unwrap_or(usize::MAX), "session");
        format!("{} {number} of user {} of tenant {slug}", paint(GOOD, "revoked"), sanitize(&user.email))
    } else {
        let text = arguments.id.as_deref().unwrap_or_default();
        let listed: Vec<_> = sessions.list(organization, None).await?.iter().map(|session| session.id).collect();
        let id = target.whole_id(text, "session", &listed)?;
        let revoked = sessions.revoke(organization, id).await;
        revoked.map_err(|error| target.missing(error, "session", &id.to_string()))?;
        answer.id = Some(id.to_string());
        format!("{} session {} of tenant {slug}", paint(GOOD, "revoked"), short(id))
    };
    printer.record(&answer);
    printer.output(text);
    Ok(Exit::Done)
}
