//! `cgk session:list`

use anyhow::Result;
use cgk::auth::{SessionInfo, User};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    auth::{State, Target, note_hidden, short, warn_if_cut},
    exit::Exit,
    session::Session,
    ui::{
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk session:list acme
  cgk session:list acme --user ada@example.com
  cgk session:list acme --all     revoked and expired sessions too
  cgk session:list acme --json    always all

Lists the newest 1000 sessions of the tenant or of one of its users.";

/// The number of characters of a user agent in the table.
const CLIENT_CHARS_MAX: usize = 32;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// E-mail address or id of a user: only its sessions
    #[arg(long)]
    user: Option<String>,
    /// Show revoked and expired sessions too
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    sessions: Vec<SessionView<'a>>,
    exit: Exit,
}

/// A session, as JSON.
#[derive(Serialize)]
struct SessionView<'a> {
    id: String,
    user_id: String,
    email: Option<&'a str>,
    state: &'static str,
    created_at: String,
    expires_at: String,
    revoked_at: Option<String>,
    ip_address: Option<String>,
    user_agent: Option<&'a str>,
}

impl<'a> SessionView<'a> {
    fn of(session: &'a SessionInfo, users: &'a [User]) -> Self {
        Self {
            id: session.id.to_string(),
            user_id: session.user_id.to_string(),
            email: email(session, users),
            state: state(session).as_str(),
            created_at: time::rfc3339(session.created_at),
            expires_at: time::rfc3339(session.expires_at),
            revoked_at: session.revoked_at.map(time::rfc3339),
            ip_address: session.ip_address.map(|address| address.to_string()),
            user_agent: session.user_agent.as_deref(),
        }
    }
}

fn state(session: &SessionInfo) -> State {
    State::of(Some(session.expires_at), session.revoked_at)
}

/// Returns the user's address; `None` if the user is not in the list.
fn email<'a>(session: &SessionInfo, users: &'a [User]) -> Option<&'a str> {
    users.iter().find(|user| user.id == session.user_id).map(|user| user.email.as_str())
}

/// Returns address and user agent, cut.
fn client(session: &SessionInfo) -> String {
    let agent = session.user_agent.as_deref().unwrap_or_default();
    let mut shown: String = agent.chars().take(CLIENT_CHARS_MAX).collect();
    if shown.len() < agent.len() {
        shown.push('…');
    }
    match session.ip_address {
        Some(address) => format!("{address} {shown}").trim_end().to_owned(),
        None => shown,
    }
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let (slug, organization) = (&target.tenant.slug, target.tenant.id);
    let (users, user) = match &arguments.user {
        Some(text) => {
            let user = target.user(text).await?;
            let id = user.id;
            (vec![user], Some(id))
        }
        None => (target.auth.users().list(organization).await?, None),
    };
    let sessions = target.auth.sessions().list(organization, user).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        sessions: sessions.iter().map(|session| SessionView::of(session, &users)).collect(),
        exit: Exit::Done,
    });
    warn_if_cut(printer, sessions.len(), "session");
    if sessions.is_empty() {
        printer.info(format!("Tenant {slug} has no sessions."));
        return Ok(Exit::Done);
    }
    let shown: Vec<_> = sessions.iter().filter(|session| arguments.all || state(session) == State::Live).collect();
    if !shown.is_empty() {
        let mut grid = Grid::new(&["SESSION", "USER", "STATE", "CREATED", "EXPIRES", "CLIENT"]);
        for session in &shown {
            let user_id = short(session.user_id);
            grid.row([
                (short(session.id).as_str(), CellStyle::Plain),
                (email(session, &users).unwrap_or(&user_id), CellStyle::Plain),
                (state(session).as_str(), state(session).style()),
                (time::date(session.created_at).as_str(), CellStyle::Faint),
                (time::date(session.expires_at).as_str(), CellStyle::Faint),
                (client(session).as_str(), CellStyle::Faint),
            ]);
        }
        printer.output(grid);
    }
    note_hidden(printer, sessions.len() - shown.len(), "session");
    Ok(Exit::Done)
}
