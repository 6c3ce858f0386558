//! `cgk tenant:show`

use anyhow::Result;
use cgk::{
    TenantSlug,
    lifecycle::{self, LastComparison, SizeSource, TenantDetails},
};
use clap::Args;
use serde::Serialize;

use super::{
    SessionView,
    view::{AliasView, StartedView, StateView},
};
use crate::cli::{
    exit::Exit,
    session::{self, Session},
    ui::{
        size,
        style::{FAINT, count, paint, sanitize},
        time, wrap,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:show acme
  cgk tenant:show acme --json

Rows are the server's estimate. `compared` is clean if the last `cgk drift` of a fleet of more than 20 tenants \
             found no difference and the schema has not changed since.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: session::TargetView,
    tenant: &'a str,
    id: String,
    name: &'a str,
    status: &'a str,
    schema: &'a str,
    head: Option<String>,
    #[serde(flatten)]
    state: StateView,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartedView>,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_after: Option<String>,
    last_migration: Option<MigrationView<'a>>,
    owner: Option<&'a str>,
    role: Option<&'a str>,
    tables: Option<u64>,
    rows_estimated: Option<u64>,
    bytes: Option<u64>,
    size_source: Option<SizeSource>,
    compared: &'static str,
    aliases: Vec<AliasView<'a>>,
    sessions: Vec<SessionView<'a>>,
    exit: Exit,
}

#[derive(Serialize)]
struct MigrationView<'a> {
    migration: String,
    applied_at: String,
    applied_by: &'a str,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug: TenantSlug = arguments.slug.parse()?;
    let (_, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    let found = lifecycle::show(&operator, &migrations, &slug).await?;
    let tenant = &found.tenant;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: session::TargetView::of(&operator),
        tenant: tenant.slug.as_str(),
        id: tenant.id.to_string(),
        name: &tenant.name,
        status: tenant.status.as_str(),
        schema: found.schema.as_str(),
        head: found.head.as_ref().map(ToString::to_string),
        state: StateView::of(&found.state),
        started: found.started.as_ref().map(StartedView::of),
        created_at: time::rfc3339(tenant.created_at),
        drop_after: found.drop_after.map(time::rfc3339),
        last_migration: found.last_migration.as_ref().map(|last| MigrationView {
            migration: last.id.to_string(),
            applied_at: time::rfc3339(last.applied_at),
            applied_by: &last.applied_by,
        }),
        owner: found.owner.as_deref(),
        role: found.role.as_ref().map(cgk::ident::RoleName::as_str),
        tables: found.contents.map(|contents| contents.tables),
        rows_estimated: found.contents.map(|contents| contents.rows_estimated),
        bytes: found.contents.map(|contents| contents.bytes),
        size_source: found.contents.map(|contents| contents.size_source),
        compared: compared(&found),
        aliases: AliasView::all(&found.aliases),
        sessions: SessionView::all(&found.sessions),
        exit: Exit::Done,
    });
    let width = wrap::width();
    for (label, text) in lines(&found) {
        let lead = format!("{} ", paint(FAINT, format!("{label:14}")));
        printer.output(wrap::hanging(&lead, &sanitize(&text), width));
    }
    Ok(Exit::Done)
}

fn compared(found: &TenantDetails) -> &'static str {
    match found.comparison {
        LastComparison::Clean => "clean",
        LastComparison::Outdated => "outdated",
    }
}

fn lines(found: &TenantDetails) -> Vec<(&'static str, String)> {
    let tenant = &found.tenant;
    let (state, _) = StateView::words_of(&found.state, found.started.as_ref());
    let head = found.head.as_ref().map(|head| format!("{head}, ")).unwrap_or_default();
    let mut lines = vec![
        ("tenant", tenant.slug.to_string()),
        ("name", tenant.name.clone()),
        ("status", tenant.status.to_string()),
        ("organization", tenant.id.to_string()),
        ("created", time::rfc3339(tenant.created_at)),
        ("schema", found.schema.as_str().to_owned()),
        ("owner", found.owner.clone().unwrap_or_else(|| "none".into())),
        ("role", found.role.as_ref().map_or("none", cgk::ident::RoleName::as_str).to_owned()),
        ("migrations", format!("{head}{state}")),
    ];
    for alias in &found.aliases {
        lines.push(("former slug", format!("{} until {}", alias.slug, time::rfc3339(alias.expires_at))));
    }
    if let Some(after) = found.drop_after {
        lines.push(("dropped after", time::rfc3339(after)));
    }
    if let Some(last) = &found.last_migration {
        let at = time::rfc3339(last.applied_at);
        lines.push(("last migration", format!("{} at {at} by {}", last.id, last.applied_by)));
    }
    if let Some(contents) = found.contents {
        lines.push(("tables", contents.tables.to_string()));
        lines.push(("rows", format!("{} (estimate)", contents.rows_estimated)));
        let bytes = size::of(contents.bytes);
        lines.push(match contents.size_source {
            SizeSource::Measured => ("size", bytes),
            SizeSource::Estimated => {
                ("size", format!("{bytes} (estimate: a table is locked, or measuring took too long)"))
            }
        });
    }
    lines.push(("compared", compared(found).to_owned()));
    lines.push(("in it now", count(found.sessions.len(), "transaction")));
    lines.extend(found.sessions.iter().map(|session| ("", session.to_string())));
    lines
}
