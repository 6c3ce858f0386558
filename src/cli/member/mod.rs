//! The commands about the members of one tenant's organization.

pub(crate) mod add;
pub(crate) mod list;
pub(crate) mod remove;
pub(crate) mod role;

use anyhow::Result;
use cgk::{
    Db, Tenant, UserId,
    auth::{Auth, AuthError, AuthSettings},
    platform::{Member, Members, PlatformError},
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

/// One member of a tenant.
#[derive(Args, Debug)]
pub(crate) struct MemberArguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// E-mail address or id of the user
    user: String,
}

/// A member, as JSON.
#[derive(Serialize)]
struct MemberView<'a> {
    id: String,
    user: String,
    email: &'a str,
    role: &'a str,
    status: &'a str,
    confirmed_at: Option<String>,
    created_at: String,
}

impl<'a> MemberView<'a> {
    fn of(member: &'a Member) -> Self {
        Self {
            id: member.id.to_string(),
            user: member.user_id.to_string(),
            email: &member.email,
            role: member.role.as_str(),
            status: member.status.as_str(),
            confirmed_at: member.confirmed_at.map(time::rfc3339),
            created_at: time::rfc3339(member.created_at),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    member: MemberView<'a>,
    exit: Exit,
}

/// The operations, and the tenant of the command.
struct Target {
    db: Db,
    members: Members,
    tenant: Tenant,
}

impl Target {
    async fn open(session: &Session<'_>, slug: &str) -> Result<Self> {
        let (db, tenant) = session.tenant(slug).await?;
        let members = Members::new(&db).acting_as(session.actor(&db));
        Ok(Self { db, members, tenant })
    }

    /// Returns the member with this address or id.
    async fn user(&self, text: &str) -> Result<UserId> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let auth = Auth::new(&self.db, AuthSettings::default());
        match auth.users().find_by_email(self.tenant.id, text).await {
            Ok(user) => Ok(user.id),
            Err(AuthError::NotFound { .. }) => Err(self.missing(text)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the record of a command about one member.
    fn record(&self, session: &Session<'_>, member: &Member) {
        session.printer.record(&Answer {
            v: crate::cli::JSON_VERSION,
            tenant: self.tenant.slug.as_str(),
            member: MemberView::of(member),
            exit: Exit::Done,
        });
    }

    /// Returns the error of a command about this member, with a hint.
    fn refused(&self, error: PlatformError, text: &str) -> anyhow::Error {
        let slug = &self.tenant.slug;
        let (message, hint) = match error {
            PlatformError::NotFound { what: "member" } => return self.missing(text),
            PlatformError::NotFound { what: "user" } => {
                let message = format!("there is no user {}", sanitize(text));
                let hint = format!("Give an e-mail address: `cgk member:add {slug} <address>` also creates the user.");
                return Missing { message, hint }.into();
            }
            PlatformError::LastOwner => (
                format!("{} is the last owner of tenant {slug}", sanitize(text)),
                format!("Make another member an owner first: `cgk member:role {slug} <user> owner`."),
            ),
            PlatformError::AlreadyMember => (
                format!("{} is a member of tenant {slug} already", sanitize(text)),
                format!("`cgk member:role {slug} <user> <role>` changes the role. Nothing was changed."),
            ),
            other => return other.into(),
        };
        Refusal { message, hint, exit: Exit::Failed }.into()
    }

    fn missing(&self, text: &str) -> anyhow::Error {
        let slug = &self.tenant.slug;
        let message = format!("tenant {slug} has no member {}", sanitize(text));
        Missing { message, hint: format!("`cgk member:list {slug}` lists them.") }.into()
    }
}
