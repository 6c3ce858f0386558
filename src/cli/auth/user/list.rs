//! `cgk user:list`

use anyhow::Result;
use cgk::{
    auth::UserStatus,
    platform::{Duplicate, DuplicateUsers, PageRequest},
};
use clap::Args;
use serde::Serialize;

use super::UserView;
use crate::cli::{
    auth::{Target, short, warn_if_cut},
    exit::Exit,
    session::Session,
    ui::{
        style::{COMMAND, paint},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk user:list acme
  cgk user:list acme --json
  cgk user:list --duplicates

Lists the newest 1000 users who are members of the tenant, of every status. --duplicates lists the users of all tenants \
             whose address another user has: `cgk user:merge` joins them.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT", required_unless_present = "duplicates")]
    slug: Option<String>,
    /// List the users of all tenants who are one person with another user
    #[arg(long, conflicts_with = "slug")]
    duplicates: bool,
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
    let Some(slug) = &arguments.slug else { return duplicates(session).await };
    let target = Target::open(session, slug).await?;
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
        let style = match user.status {
            UserStatus::Active => CellStyle::Good,
            UserStatus::Invited => CellStyle::Warning,
            _ => CellStyle::Faint,
        };
        grid.row([
            (short(user.id).as_str(), CellStyle::Faint),
            (user.email.as_str(), CellStyle::Plain),
            (user.role.to_string().as_str(), CellStyle::Plain),
            (user.status.to_string().as_str(), style),
            (time::date(user.created_at).as_str(), CellStyle::Faint),
        ]);
    }
    printer.output(grid);
    Ok(Exit::Done)
}

/// A user who is the same person as another one, as JSON.
#[derive(Serialize)]
struct DuplicateView<'a> {
    id: String,
    tenant: &'a str,
    email: &'a str,
    merge_into: String,
}

impl<'a> DuplicateView<'a> {
    fn of(one: &'a Duplicate) -> Self {
        Self { id: one.id.to_string(), tenant: &one.slug, email: &one.email, merge_into: one.person.to_string() }
    }
}

#[derive(Serialize)]
struct DuplicatesAnswer<'a> {
    v: u32,
    duplicates: Vec<DuplicateView<'a>>,
    exit: Exit,
}

async fn duplicates(session: &Session<'_>) -> Result<Exit> {
    let printer = session.printer;
    let db = session.connect().await?;
    let users = DuplicateUsers::new(&db).acting_as(session.actor(&db));
    let found: Vec<Duplicate> = users.list(&PageRequest::default().limit(1000)).await?.items;
    printer.record(&DuplicatesAnswer {
        v: crate::cli::JSON_VERSION,
        duplicates: found.iter().map(DuplicateView::of).collect(),
        exit: Exit::Done,
    });
    if found.is_empty() {
        printer.info("No two users have the same address.");
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["USER", "TENANT", "EMAIL", "MERGE INTO"]);
    for one in &found {
        grid.row([
            (one.id.to_string().as_str(), CellStyle::Plain),
            (one.slug.as_str(), CellStyle::Plain),
            (one.email.as_str(), CellStyle::Plain),
            (one.person.to_string().as_str(), CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    if found.len() >= 1000 {
        printer.warn("only the oldest 1000 are listed");
    }
    printer.info(format!("Next: {}", paint(COMMAND, "cgk user:merge <user> <merge into>")));
    Ok(Exit::Done)
}
