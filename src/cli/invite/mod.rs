//! The commands about invitations to one tenant's organization.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod resend;
pub(crate) mod revoke;

use anyhow::Result;
use cgk::{
    Tenant,
    platform::{Invitation, InvitationId, InvitationState, Invitations, PageRequest, PlatformError},
};
use clap::Args;
use serde::Serialize;

use super::{
    exit::Exit,
    session::Session,
    ui::{
        report::{Missing, Refusal},
        style::sanitize,
        time,
    },
};

/// One invitation of a tenant.
#[derive(Args, Debug)]
pub(crate) struct InvitationArguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Id of the invitation, or the address of the open one
    invitation: String,
}

/// An invitation, as JSON.
#[derive(Serialize)]
struct InvitationView<'a> {
    id: String,
    email: &'a str,
    role: &'a str,
    state: &'static str,
    expires_at: String,
    invited_by: Option<String>,
    accepted_by: Option<String>,
    created_at: String,
}

impl<'a> InvitationView<'a> {
    fn of(invitation: &'a Invitation) -> Self {
        Self {
            id: invitation.id.to_string(),
            email: &invitation.email,
            role: invitation.role.as_str(),
            state: invitation.state.as_str(),
            expires_at: time::rfc3339(invitation.expires_at),
            invited_by: invitation.invited_by.map(|user| user.to_string()),
            accepted_by: invitation.accepted_by.map(|user| user.to_string()),
            created_at: time::rfc3339(invitation.created_at),
        }
    }
}

/// The result of a command that creates a token.
#[derive(Serialize)]
struct TokenAnswer<'a> {
    v: u32,
    tenant: &'a str,
    invitation: InvitationView<'a>,
    token: &'a str,
    exit: Exit,
}

/// The operations, and the tenant of the command.
struct Target {
    invitations: Invitations,
    tenant: Tenant,
}

impl Target {
    async fn open(session: &Session<'_>, slug: &str) -> Result<Self> {
        let (db, tenant) = session.tenant(slug).await?;
        Ok(Self { invitations: Invitations::new(&db).acting_as(session.actor(&db)), tenant })
    }

    /// Returns the invitation with this id, or the open one for this address.
    async fn find(&self, text: &str) -> Result<InvitationId> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let mut request = PageRequest::default().limit(1000);
        loop {
            let page = self.invitations.list(self.tenant.id, &request).await?;
            let lives = |one: &&Invitation| matches!(one.state, InvitationState::Open | InvitationState::Expired);
            let found = page.items.iter().filter(lives).find(|one| one.email.eq_ignore_ascii_case(text));
            match (found, page.next) {
                (Some(invitation), _) => return Ok(invitation.id),
                (None, Some(cursor)) => request = request.after(cursor),
                (None, None) => return Err(self.missing(text)),
            }
        }
    }

    /// Returns the error of a command about this invitation, with a hint.
    fn refused(&self, error: PlatformError, text: &str) -> anyhow::Error {
        let slug = &self.tenant.slug;
        let (message, hint) = match error {
            PlatformError::NotFound { what: "invitation" } => return self.missing(text),
            PlatformError::AlreadyMember => (
                format!("{} is a member of tenant {slug} already", sanitize(text)),
                format!("`cgk member:list {slug}` lists the members."),
            ),
            PlatformError::AlreadyInvited => (
                format!("{} is invited to tenant {slug} already", sanitize(text)),
                format!("`cgk invite:resend {slug} {}` makes another token.", sanitize(text)),
            ),
            PlatformError::InvitationUsed | PlatformError::InvitationRevoked => {
                (error.to_string(), format!("`cgk invite:list {slug} --all` lists the invitations."))
            }
            other => return other.into(),
        };
        Refusal { message, hint, exit: Exit::Failed }.into()
    }

    fn missing(&self, text: &str) -> anyhow::Error {
        let slug = &self.tenant.slug;
        let message = format!("tenant {slug} has no invitation {}", sanitize(text));
        Missing { message, hint: format!("`cgk invite:list {slug}` lists them.") }.into()
    }

    /// Shows a token. Only the token is written to standard output.
    fn show_token(&self, session: &Session<'_>, invitation: &Invitation, token: &str) {
        session.printer.record(&TokenAnswer {
            v: crate::cli::JSON_VERSION,
            tenant: self.tenant.slug.as_str(),
            invitation: InvitationView::of(invitation),
            token,
            exit: Exit::Done,
        });
        session.printer.output(token);
        let (email, until) = (sanitize(&invitation.email), time::date(invitation.expires_at));
        session.printer.info(format!(
            "Invitation of {email} to tenant {}: {}, until {until}. The token is shown only now; cgk stores its hash.",
            self.tenant.slug, invitation.role
        ));
    }
}
