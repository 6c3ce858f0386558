//! `cgk org:show`

use anyhow::Result;
use cgk::{
    auth::UserRole,
    platform::{Member, Members, Organizations, PageRequest},
};
use clap::Args;
use serde::Serialize;

use super::OrganizationView;
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{style::FAINT, table, time},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk org:show acme
  cgk org:show acme --json

Shows the organization and its owners.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    organization: OrganizationView<'a>,
    owners: Vec<&'a str>,
    members: usize,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (db, tenant) = session.tenant(&arguments.slug).await?;
    let actor = session.actor(&db);
    let organization = Organizations::new(&db).acting_as(actor.clone()).get(tenant.id).await?;
    let members = every_member(&Members::new(&db).acting_as(actor), organization.id).await?;
    let owners: Vec<&str> =
        members.iter().filter(|one| one.role == UserRole::Owner).map(|one| one.email.as_str()).collect();
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        organization: OrganizationView::of(&organization),
        owners: owners.clone(),
        members: members.len(),
        exit: Exit::Done,
    });
    let facts = [
        ("tenant", organization.slug.clone()),
        ("name", organization.name.clone()),
        ("status", organization.status.to_string()),
        ("id", organization.id.to_string()),
        ("created", time::date(organization.created_at)),
        ("members", members.len().to_string()),
        ("owners", if owners.is_empty() { "none".to_owned() } else { owners.join(", ") }),
    ];
    printer.output(table::facts(FAINT, &facts.map(|(name, value)| (name.to_owned(), value))));
    Ok(Exit::Done)
}

async fn every_member(members: &Members, organization: cgk::OrganizationId) -> Result<Vec<Member>> {
    let (mut all, mut request) = (Vec::new(), PageRequest::default().limit(1000));
    loop {
        let page = members.list(organization, &request).await?;
        all.extend(page.items);
        match page.next {
            Some(cursor) => request = request.after(cursor),
            None => return Ok(all),
        }
    }
}
