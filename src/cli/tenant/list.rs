//! `cgk tenant:list`

use anyhow::Result;
use cgk::{
    StrangeRow, TenantStatus,
    lifecycle::{
        self, ListContents, ListDirection, ListOptions, ListSort, ListedTenant, SchemaContents, SizeSource,
        StateFilter, TenantAlias,
    },
    migrate::{SchemaState, TenantState},
};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::{self, Session},
    ui::{
        printer::Printer,
        size,
        style::{COMMAND, count, paint, sanitize},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:list
  cgk tenant:list --status suspended
  cgk tenant:list --state behind --state broken
  cgk tenant:list --wide --sort size     with schema, tables, rows, size
  cgk tenant:list --json";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Only tenants with this status, for example suspended; can be repeated
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Only tenants whose schemas are in this state; can be repeated
    #[arg(long, value_name = "STATE")]
    state: Vec<StateArg>,
    /// Order: by slug, name, time of creation, or size (the largest first)
    #[arg(long, value_name = "KEY", default_value = "slug", hide_possible_values = true)]
    sort: SortArg,
    /// Reverse the order
    #[arg(long)]
    reverse: bool,
    /// Show schema, tables, rows (estimate), size and organization id as well
    #[arg(long)]
    wide: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StateArg {
    AtHead,
    Behind,
    Broken,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortArg {
    Slug,
    Name,
    Created,
    Size,
}

impl Arguments {
    fn options(&self) -> ListOptions {
        let mut options = ListOptions::default();
        options.statuses = self.status.iter().map(|status| TenantStatus::from(status.as_str())).collect();
        let state = |state: &StateArg| match state {
            StateArg::AtHead => StateFilter::AtHead,
            StateArg::Behind => StateFilter::Behind,
            StateArg::Broken => StateFilter::Broken,
        };
        options.states = self.state.iter().map(state).collect();
        options.sort = match self.sort {
            SortArg::Slug => ListSort::Slug,
            SortArg::Name => ListSort::Name,
            SortArg::Created => ListSort::Created,
            SortArg::Size => ListSort::Size,
        };
        if self.reverse {
            options.direction = ListDirection::Backward;
        }
        if self.wide {
            options.contents = ListContents::Included;
        }
        options
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: session::TargetView,
    tenants: Vec<TenantView<'a>>,
    strange: Vec<StrangeView<'a>>,
    exit: Exit,
}

/// A row of the registry that is not a valid tenant.
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

/// Prints one warning for each row of the registry that is not a valid tenant.
pub(crate) fn warn_of_strange(printer: &Printer, rows: &[StrangeRow]) {
    for row in rows {
        printer.warn(format!("ignored a row of public.organizations: {}", sanitize(&row.to_string())));
    }
}

/// One tenant of the registry, and the state of its schema.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_after: Option<String>,
    #[serde(flatten)]
    contents: Option<ContentsView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<AliasView<'a>>,
}

/// A former slug by which services still find the tenant.
#[derive(Serialize)]
pub(crate) struct AliasView<'a> {
    slug: &'a str,
    expires_at: String,
}

impl<'a> AliasView<'a> {
    pub(crate) fn all(aliases: &'a [TenantAlias]) -> Vec<Self> {
        let view =
            |alias: &'a TenantAlias| Self { slug: alias.slug.as_str(), expires_at: time::rfc3339(alias.expires_at) };
        aliases.iter().map(view).collect()
    }
}

/// The contents of a schema, if they were read.
#[derive(Serialize)]
struct ContentsView {
    tables: u64,
    rows_estimated: u64,
    bytes: u64,
    size_source: SizeSource,
}

/// The state of a schema.
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
        let (pending, detail) = match state {
            SchemaState::AtHead => (Some(0), None),
            SchemaState::Behind { pending } => (Some(*pending), None),
            SchemaState::Diverged(divergence) => (None, Some(divergence.summary())),
            SchemaState::HalfProvisioned { missing } => (None, Some(missing.clone())),
            SchemaState::OtherOrganization { found } => (None, Some(belongs_to(found))),
            _ => (None, None),
        };
        Self { state: state.name(), pending, detail }
    }

    /// Returns the text of a state, and its style.
    pub(crate) fn words(state: &SchemaState) -> (String, CellStyle) {
        match state {
            SchemaState::AtHead => ("at head".into(), CellStyle::Good),
            SchemaState::Behind { pending } => (format!("{pending} pending"), CellStyle::Warning),
            SchemaState::Diverged(divergence) => (format!("diverged: {}", divergence.summary()), CellStyle::Bad),
            SchemaState::Missing => ("no schema".into(), CellStyle::Bad),
            SchemaState::HalfProvisioned { missing } => (format!("lacks {missing}"), CellStyle::Bad),
            SchemaState::OtherOrganization { found } => (belongs_to(found), CellStyle::Bad),
            SchemaState::BeingDropped => ("being dropped".into(), CellStyle::Bad),
            _ => ("unknown".into(), CellStyle::Warning),
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
            drop_after: tenant.drop_after().map(time::rfc3339),
            contents: None,
            aliases: Vec::new(),
        }
    }

    fn with_contents(tenant: &'a ListedTenant) -> Self {
        let view = |contents: SchemaContents| ContentsView {
            tables: contents.tables,
            rows_estimated: contents.rows_estimated,
            bytes: contents.bytes,
            size_source: contents.size_source,
        };
        let aliases = AliasView::all(&tenant.aliases);
        Self { contents: tenant.contents.map(view), aliases, ..Self::of(&tenant.state) }
    }
}

fn belongs_to(organization: &str) -> String {
    format!("belongs to organization {}", sanitize(organization))
}

pub(crate) fn schema(tenant: &cgk::Tenant) -> String {
    cgk::ident::SchemaName::of_tenant(&tenant.slug).as_str().to_owned()
}

pub(crate) fn status_look(status: &TenantStatus) -> CellStyle {
    match status {
        TenantStatus::Active => CellStyle::Plain,
        _ => CellStyle::Warning,
    }
}

/// Returns the text of the status, with the time of a planned drop.
fn status(tenant: &TenantState) -> String {
    let status = &tenant.tenant.status;
    match tenant.drop_after() {
        Some(after) => format!("{status}, dropped after {}", time::date(after)),
        None => status.to_string(),
    }
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (_, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    let fleet = lifecycle::list(&operator, &migrations, &arguments.options()).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: session::TargetView::of(&operator),
        tenants: fleet.tenants.iter().map(TenantView::with_contents).collect(),
        strange: StrangeView::all(&fleet.strange),
        exit: Exit::Done,
    });
    warn_of_strange(printer, &fleet.strange);
    if fleet.registered == 0 {
        printer.info(format!("There are no tenants yet. Create one: {}", paint(COMMAND, "cgk tenant:create <slug>")));
        return Ok(Exit::Done);
    }
    if fleet.tenants.is_empty() {
        printer.info("No tenant matches.");
        return Ok(Exit::Done);
    }
    let has_aliases = fleet.tenants.iter().any(|tenant| !tenant.aliases.is_empty());
    let mut headings = vec!["TENANT", "NAME", "STATUS", "MIGRATIONS", "CREATED"];
    if arguments.wide {
        headings.extend(["SCHEMA", "TABLES", "ROWS (ESTIMATE)", "SIZE", "ORGANIZATION"]);
        headings.extend(has_aliases.then_some("FORMER SLUGS"));
    }
    let mut grid = Grid::new(&headings);
    for tenant in &fleet.tenants {
        let row = &tenant.state.tenant;
        let (words, style) = StateView::words(&tenant.state.state);
        let mut cells = vec![
            (row.slug.to_string(), CellStyle::Plain),
            (row.name.clone(), CellStyle::Plain),
            (status(&tenant.state), status_look(&row.status)),
            (words, style),
            (time::date(row.created_at), CellStyle::Faint),
        ];
        if arguments.wide {
            let contents = tenant.contents.unwrap_or_default();
            let aliases: Vec<&str> = tenant.aliases.iter().map(|alias| alias.slug.as_str()).collect();
            cells.extend([
                (schema(row), CellStyle::Faint),
                (contents.tables.to_string(), CellStyle::Plain),
                (contents.rows_estimated.to_string(), CellStyle::Plain),
                (size::of(contents.bytes), CellStyle::Plain),
                (row.id.to_string(), CellStyle::Faint),
            ]);
            cells.extend(has_aliases.then(|| (aliases.join(" "), CellStyle::Plain)));
        }
        grid.row(cells.iter().map(|(text, style)| (text.as_str(), *style)));
    }
    printer.output(grid);
    let is_estimated = |contents: SchemaContents| contents.size_source == SizeSource::Estimated;
    if fleet.tenants.iter().any(|tenant| tenant.contents.is_some_and(is_estimated)) {
        printer.info("Sizes are estimates: a table is locked, or measuring took too long.");
    }
    let is_behind = |tenant: &&ListedTenant| matches!(tenant.state.state, SchemaState::Behind { .. });
    let behind = fleet.tenants.iter().filter(is_behind).count();
    if behind > 0 {
        let next = paint(COMMAND, "cgk migrate");
        printer.info(format!("{} behind. Next: {next}", count(behind, "tenant")));
    }
    Ok(Exit::Done)
}
