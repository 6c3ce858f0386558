//! `cgk invite:list`

use anyhow::Result;
use cgk::platform::{Cursor, Invitation, InvitationState, PageRequest};
use clap::Args;
use serde::Serialize;

use super::{InvitationView, Target};
use crate::cli::{
    auth::short,
    exit::Exit,
    session::Session,
    ui::{
        style::{COMMAND, FAINT, count, paint},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk invite:list acme
  cgk invite:list acme --all --json

Lists the invitations that have not ended; --all lists those too that were accepted or revoked. 1000 at a time.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// List accepted and revoked invitations too
    #[arg(long)]
    all: bool,
    /// List what follows this place, which the page before names
    #[arg(long, value_name = "CURSOR")]
    after: Option<Cursor>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    invitations: Vec<InvitationView<'a>>,
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
    let page = target.invitations.list(target.tenant.id, &request).await?;
    let lives =
        |one: &&Invitation| arguments.all || matches!(one.state, InvitationState::Open | InvitationState::Expired);
    let shown: Vec<&Invitation> = page.items.iter().filter(lives).collect();
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        invitations: shown.iter().map(|one| InvitationView::of(one)).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
        exit: Exit::Done,
    });
    if page.items.is_empty() {
        let next = paint(COMMAND, format!("cgk invite:create {slug} <email>"));
        printer.info(format!("Tenant {slug} has no invitations here. Create one: {next}"));
        return Ok(Exit::Done);
    }
    if !shown.is_empty() {
        printer.output(table(&shown));
    }
    let hidden = page.items.len() - shown.len();
    if hidden > 0 {
        printer.output(paint(FAINT, format!("{}; --all lists them", count(hidden, "accepted or revoked invitation"))));
    }
    if let Some(cursor) = page.next {
        printer.info(format!("More: {}", paint(COMMAND, format!("cgk invite:list {slug} --after {cursor}"))));
    }
    Ok(Exit::Done)
}

fn table(shown: &[&Invitation]) -> Grid {
    let mut grid = Grid::new(&["INVITATION", "EMAIL", "ROLE", "STATE", "UNTIL"]);
    for one in shown {
        let style = match one.state {
            InvitationState::Open => CellStyle::Good,
            InvitationState::Expired => CellStyle::Warning,
            _ => CellStyle::Faint,
        };
        grid.row([
            (short(one.id).as_str(), CellStyle::Faint),
            (one.email.as_str(), CellStyle::Plain),
            (one.role.to_string().as_str(), CellStyle::Plain),
            (one.state.as_str(), style),
            (time::date(one.expires_at).as_str(), CellStyle::Faint),
        ]);
    }
    grid
}
