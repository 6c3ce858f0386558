//! `cgk user:list`

use anyhow::Result;
use cgk::auth::UserStatus;
use clap::Args;
use serde::Serialize;

use super::UserView;
use crate::cli::{
    auth::{Target, short, warn_if_cut},
    exit::Exit,
    session::Session,
    ui::{
        style::{COMMAND, paint},
        table::{Grid, Look},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk user:list acme
  cgk user:list acme --json

Lists the newest 1000 users of the tenant, of every status.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    users: Vec<UserView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let users = target.auth.users().list(target.tenant.id).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        users: users.iter().map(UserView::of).collect(),
        exit: Exit::Done,
    });
    warn_if_cut(printer, users.len(), "user");
    if users.is_empty() {
        let next = paint(COMMAND, format!("cgk user:create {slug} <email>"));
        printer.info(format!("Tenant {slug} has no users yet. Create one: {next}"));
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["USER", "EMAIL", "ROLE", "STATUS", "CREATED"]);
    for user in &users {
        let look = match user.status {
            UserStatus::Active => Look::Good,
            UserStatus::Invited => Look::Warning,
            _ => Look::Faint,
        };
        grid.row([
            (short(user.id).as_str(), Look::Faint),
            (user.email.as_str(), Look::Plain),
            (user.role.to_string().as_str(), Look::Plain),
            (user.status.to_string().as_str(), look),
            (time::date(user.created_at).as_str(), Look::Faint),
        ]);
    }
    printer.output(grid);
    Ok(Exit::Done)
}
