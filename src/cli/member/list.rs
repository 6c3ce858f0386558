//! `cgk member:list`

use anyhow::Result;
use cgk::{
    auth::UserStatus,
    platform::{Cursor, PageRequest},
};
use clap::Args;
use serde::Serialize;

use super::{MemberView, Target};
use crate::cli::{
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
  cgk member:list acme
  cgk member:list acme --json

Lists the members in the order in which they came, 1000 at a time.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// List what follows this place, which the page before names
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    members: Vec<MemberView<'a>>,
    next: Option<String>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = &target.tenant.slug;
    let mut request = PageRequest::default().limit(1000);
    if let Some(cursor) = arguments.after {
        request = request.after(cursor);
    }
    let page = target.members.list(target.tenant.id, &request).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        members: page.items.iter().map(MemberView::of).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        exit: Exit::Done,
    });
    if page.items.is_empty() {
        let next = paint(COMMAND, format!("cgk member:add {slug} <email>"));
        printer.info(format!("Tenant {slug} has no members here. Add one: {next}"));
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["USER", "EMAIL", "ROLE", "STATE", "SINCE"]);
    for member in &page.items {
        let (state, style) = match (&member.status, member.confirmed_at) {
            (UserStatus::Active, Some(_)) => ("confirmed".to_owned(), CellStyle::Good),
            (UserStatus::Active | UserStatus::Invited, _) => ("invited".to_owned(), CellStyle::Warning),
            (status, _) => (status.to_string(), CellStyle::Faint),
        };
        grid.row([
            (crate::cli::auth::short(member.user_id).as_str(), CellStyle::Faint),
            (member.email.as_str(), CellStyle::Plain),
            (member.role.to_string().as_str(), CellStyle::Plain),
            (state.as_str(), style),
            (time::date(member.confirmed_at.unwrap_or(member.created_at)).as_str(), CellStyle::Faint),
        ]);
    }
    printer.output(grid);
    if let Some(cursor) = page.next {
        printer.info(format!("More: {}", paint(COMMAND, format!("cgk member:list {slug} --after {cursor}"))));
    }
    Ok(Exit::Done)
}
