//! `cgk tenant:list`

use anyhow::Result;
use cgk::{
    TenantStatus,
    lifecycle::{
        self, ListContents, ListDirection, ListOptions, ListSort, ListedTenant, SchemaContents, SizeSource, StateFilter,
    },
    migrate::{SchemaState, TenantState},
};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    list_csv,
    view::{StateView, StrangeView, TenantView, schema, status_style, warn_of_strange},
};
use crate::cli::{
    exit::Exit,
    session::{self, Session},
    ui::{
        size,
        style::{COMMAND, count, paint},
        table::{self, CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:list
  cgk tenant:list --status suspended
  cgk tenant:list --state behind --state broken
  cgk tenant:list --wide --sort size     with schema, tables, rows, size
  cgk tenant:list --csv > tenants.csv
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
    /// List every tenant, also in a large fleet
    #[arg(long)]
    all: bool,
    /// Print every tenant as CSV; the columns have the names of the JSON keys
    #[arg(long, conflicts_with_all = ["json", "format"])]
    csv: bool,
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
    if arguments.csv {
        printer.data(&list_csv::text(&fleet.tenants, arguments.wide));
        return Ok(Exit::Done);
    }
    if fleet.registered == 0 {
        printer.info(format!("There are no tenants yet. Create one: {}", paint(COMMAND, "cgk tenant:create <slug>")));
        return Ok(Exit::Done);
    }
    if fleet.tenants.is_empty() {
        printer.info("No tenant matches.");
        return Ok(Exit::Done);
    }
    let is_bounded = !(arguments.all || printer.is_verbose()) && fleet.tenants.len() > table::ROWS_MAX;
    let shown = if is_bounded { &fleet.tenants[..table::ROWS_MAX] } else { &fleet.tenants };
    printer.output(grid(shown, arguments.wide));
    if is_bounded {
        let all = paint(COMMAND, "--all");
        printer.info(format!(
            "The first {} of {}. {all} lists every tenant.",
            shown.len(),
            count(fleet.tenants.len(), "tenant")
        ));
    }
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

fn grid(tenants: &[ListedTenant], wide: bool) -> Grid {
    let has_aliases = tenants.iter().any(|tenant| !tenant.aliases.is_empty());
    let mut headings = vec!["TENANT", "NAME", "STATUS", "MIGRATIONS", "CREATED"];
    if wide {
        headings.extend(["SCHEMA", "TABLES", "ROWS (ESTIMATE)", "SIZE", "ORGANIZATION"]);
        headings.extend(has_aliases.then_some("FORMER SLUGS"));
    }
    let mut grid = Grid::new(&headings);
    for tenant in tenants {
        let row = &tenant.state.tenant;
        let (words, style) = StateView::words_of(&tenant.state.state, tenant.state.started());
        let mut cells = vec![
            (row.slug.to_string(), CellStyle::Plain),
            (row.name.clone(), CellStyle::Plain),
            (status(&tenant.state), status_style(&row.status)),
            (words, style),
            (time::date(row.created_at), CellStyle::Faint),
        ];
        if wide {
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
    grid
}
