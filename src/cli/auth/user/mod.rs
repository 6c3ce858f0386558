//! The commands about users.

pub(crate) mod create;
pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod list;
pub(crate) mod merge;

use anyhow::Result;
use cgk::auth::{AuthError, User, UserRole, UserStatus};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Target;
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{report::Refusal, style::sanitize, time},
};

/// One user of a tenant.
#[derive(Args, Debug)]
pub(crate) struct UserArguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// E-mail address or id of the user
    user: String,
}

/// A role, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleArg {
    Owner,
    Admin,
    Member,
}

impl From<RoleArg> for UserRole {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Owner => Self::Owner,
            RoleArg::Admin => Self::Admin,
            RoleArg::Member => Self::Member,
        }
    }
}

/// A user, as JSON.
#[derive(Serialize)]
struct UserView<'a> {
    id: String,
    email: &'a str,
    role: &'a str,
    status: &'a str,
    created_at: String,
}

impl<'a> UserView<'a> {
    fn of(user: &'a User) -> Self {
        Self {
            id: user.id.to_string(),
            email: &user.email,
            role: user.role.as_str(),
            status: user.status.as_str(),
            created_at: time::rfc3339(user.created_at),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    user: UserView<'a>,
    exit: Exit,
}

/// Writes the record of a command about one user.
fn record(session: &Session<'_>, target: &Target, user: &User) {
    session.printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: target.tenant.slug.as_str(),
        user: UserView::of(user),
        exit: Exit::Done,
    });
}

/// Sets the status of a user who was found by this text.
async fn set_status(target: &Target, user: &mut User, text: &str, status: UserStatus) -> Result<()> {
    let set = target.auth.users().set_status(target.tenant.id, user.id, &status).await;
    set.map_err(|error| match error {
        // The user was a member a moment ago.
        AuthError::NotFound { .. } => {
            let slug = &target.tenant.slug;
            let message =
                format!("user {} is a member of tenant {slug}, and another tenant decides about it", sanitize(text));
            let hint = format!("`cgk member:remove {slug} {}` removes it from this tenant alone.", sanitize(text));
            Refusal { message, hint, exit: Exit::Failed }.into()
        }
        other => anyhow::Error::from(other),
    })?;
    user.status = status;
    Ok(())
}
