//! `cgk tenant:list`

use anyhow::Result;
use cgk::{
    StrangeRow, TenantStatus,
    migrate::{self, SchemaState, TenantState},
};
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::{self, Session},
    ui::{
        printer::Printer,
        style::{COMMAND, count, paint, sanitize},
        table::{Grid, Look},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:list
  cgk tenant:list --json";

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: session::TargetView,
    tenants: Vec<TenantView<'a>>,
    strange: Vec<StrangeView<'a>>,
    exit: Exit,
}

/// A row of the registry that is no tenant.
#[derive(Serialize)]
pub(crate) struct StrangeView<'a> {
    id: Option<&'a str>,
    slug: Option<&'a str>,
    status: Option<&'a str>,
    why: &'a str,
}

impl<'a> StrangeView<'a> {
    pub(crate) fn all(rows: &'a [StrangeRow]) -> Vec<Self> {
        let view = |row: &'a StrangeRow| Self {
            id: row.id.as_deref(),
            slug: row.slug.as_deref(),
            status: row.status.as_deref(),
            why: &row.why,
        };
        rows.iter().map(view).collect()
    }
}

/// One warning for each row of the registry that is no tenant.
pub(crate) fn warn_of_strange(printer: &Printer, rows: &[StrangeRow]) {
    for row in rows {
        printer.warn(format!("ignored a row of public.organizations: {}", sanitize(&row.to_string())));
    }
}

/// One tenant of the registry, and where its schema stands.
#[derive(Serialize)]
pub(crate) struct TenantView<'a> {
    tenant: &'a str,
    id: String,
    name: &'a str,
    status: &'a str,
    schema: String,
    head: Option<String>,
    #[serde(flatten)]
    state: StateView,
    created_at: String,
}

/// Where a schema stands.
#[derive(Serialize)]
pub(crate) struct StateView {
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

impl StateView {
    pub(crate) fn of(state: &SchemaState) -> Self {
        let view = |state, pending, detail| Self { state, pending, detail };
        match state {
            SchemaState::AtHead => view("at_head", Some(0), None),
            SchemaState::Behind { pending } => view("behind", Some(*pending), None),
            SchemaState::Diverged(divergence) => view("diverged", None, Some(divergence.summary())),
            SchemaState::Missing => view("missing", None, None),
            SchemaState::HalfProvisioned { missing } => view("half_provisioned", None, Some(missing.clone())),
            SchemaState::OtherOrganization { found } => view("other_organization", None, Some(belongs_to(found))),
            SchemaState::BeingDropped => view("being_dropped", None, None),
            _ => view("unknown", None, None),
        }
    }

    /// The state in words, and how it looks.
    pub(crate) fn words(state: &SchemaState) -> (String, Look) {
        match state {
            SchemaState::AtHead => ("at head".into(), Look::Good),
            SchemaState::Behind { pending } => (format!("{pending} pending"), Look::Warning),
            SchemaState::Diverged(divergence) => (format!("diverged: {}", divergence.summary()), Look::Bad),
            SchemaState::Missing => ("no schema".into(), Look::Bad),
            SchemaState::HalfProvisioned { missing } => (format!("lacks {missing}"), Look::Bad),
            SchemaState::OtherOrganization { found } => (belongs_to(found), Look::Bad),
            SchemaState::BeingDropped => ("being dropped".into(), Look::Bad),
            _ => ("unknown".into(), Look::Warning),
        }
    }
}

impl<'a> TenantView<'a> {
    pub(crate) fn of(tenant: &'a TenantState) -> Self {
        let row = &tenant.tenant;
        Self {
            tenant: row.slug.as_str(),
            id: row.id.to_string(),
            name: &row.name,
            status: row.status.as_str(),
            schema: schema(row),
            head: tenant.head.as_ref().map(ToString::to_string),
            state: StateView::of(&tenant.state),
            created_at: time::rfc3339(row.created_at),
        }
    }
}

fn belongs_to(organization: &str) -> String {
    format!("belongs to organization {}", sanitize(organization))
}

pub(crate) fn schema(tenant: &cgk::Tenant) -> String {
    cgk::ident::SchemaName::of_tenant(&tenant.slug).as_str().to_owned()
}

pub(crate) fn status_look(status: &TenantStatus) -> Look {
    match status {
        TenantStatus::Active => Look::Plain,
        _ => Look::Warning,
    }
}

pub(crate) async fn run(session: &Session<'_>) -> Result<Exit> {
    let printer = session.printer;
    let (_, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    let fleet = migrate::look(&operator, &migrations).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: session::TargetView::of(&operator),
        tenants: fleet.tenants.iter().map(TenantView::of).collect(),
        strange: StrangeView::all(&fleet.strange),
        exit: Exit::Done,
    });
    warn_of_strange(printer, &fleet.strange);
    if fleet.tenants.is_empty() {
        printer.info(format!("There are no tenants yet. Create one: {}", paint(COMMAND, "cgk tenant:create <slug>")));
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["TENANT", "NAME", "STATUS", "SCHEMA", "MIGRATIONS", "CREATED"]);
    for tenant in &fleet.tenants {
        let row = &tenant.tenant;
        let (words, look) = StateView::words(&tenant.state);
        grid.row([
            (row.slug.as_str(), Look::Plain),
            (row.name.as_str(), Look::Plain),
            (row.status.to_string().as_str(), status_look(&row.status)),
            (schema(row).as_str(), Look::Faint),
            (words.as_str(), look),
            (time::date(row.created_at).as_str(), Look::Faint),
        ]);
    }
    printer.output(grid);
    let behind = fleet.tenants.iter().filter(|tenant| matches!(tenant.state, SchemaState::Behind { .. })).count();
    if behind > 0 {
        let next = paint(COMMAND, "cgk migrate");
        printer.info(format!("{} behind. Next: {next}", count(behind, "tenant")));
    }
    Ok(Exit::Done)
}
