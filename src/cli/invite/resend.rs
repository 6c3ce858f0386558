//! `cgk invite:resend`

use anyhow::Result;

use super::{InvitationArguments, Target};
use crate::cli::{exit::Exit, session::Session};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk invite:resend acme ben@example.com

Gives the invitation another token and seven days, and prints the token: cgk sends no mail. The token before is unknown then.";

pub(crate) async fn run(session: &Session<'_>, arguments: &InvitationArguments) -> Result<Exit> {
    let text = arguments.invitation.as_str();
    let target = Target::open(session, &arguments.slug).await?;
    let id = target.find(text).await?;
    let sent = target.invitations.resend(target.tenant.id, id).await;
    let (invitation, token) = sent.map_err(|error| target.refused(error, text))?;
    target.show_token(session, &invitation, token.reveal());
    Ok(Exit::Done)
}
