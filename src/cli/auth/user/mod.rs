//! The commands about users.

pub(crate) mod create;
pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod list;

use cgk::auth::User;
use serde::Serialize;

use super::Target;
use crate::cli::{exit::Exit, session::Session, ui::time};

/// A user, as programs see it.
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

/// The record of a command about one user.
fn record(session: &Session<'_>, target: &Target, user: &User) {
    session.printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: target.tenant.slug.as_str(),
        user: UserView::of(user),
        exit: Exit::Done,
    });
}
