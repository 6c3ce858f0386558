//! `cgk migrate:status`

use anyhow::Result;
use cgk::{
    Operator, TenantStatus,
    migrate::{self, FleetState, MigrationId, Migrations, SchemaState, Set, TenantState},
};
use clap::Args;
use serde::Serialize;
use std::{num::NonZeroU32, time::Duration};

use crate::cli::{
    exit::Exit,
    number,
    session::{Session, TargetView},
    tenant::view::{StartedView, StateView, StrangeView, TenantView, schema, status_style, warn_of_strange},
    ui::{
        style::{COMMAND, count, paint},
        table::{self, CellStyle, Grid, TenantRow},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate:status
  cgk migrate:status --all              list every tenant
  cgk migrate:status --check            exit code 3 if something is pending, 7 if there is drift
  cgk migrate:status --watch            refresh every 2 seconds, until Ctrl-C
  cgk migrate:status --watch=10 --check  refresh every 10 seconds until nothing is pending
  cgk migrate:status --json";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Exit with 3 if something is pending, 4 if a tenant lacks its schema or role, 7 if files and database differ
    #[arg(long)]
    check: bool,
    /// List every tenant, also in a large fleet
    #[arg(long)]
    all: bool,
    /// Refresh every N seconds until Ctrl-C; with --check until nothing is pending
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = number::seconds)]
    watch: Option<NonZeroU32>,
}

impl Arguments {
    /// Whether only Ctrl-C ends the command. With `--check`, it also ends by itself.
    pub(crate) fn runs_until_interrupted(&self) -> bool {
        self.watch.is_some() && !self.check
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: TargetView,
    files: FilesView,
    public: PublicView,
    tenants: Vec<TenantView<'a>>,
    strange: Vec<StrangeView<'a>>,
    exit: Exit,
}

/// The newest file of each set.
#[derive(Serialize)]
struct FilesView {
    public: Option<String>,
    tenant: Option<String>,
}

#[derive(Serialize)]
struct PublicView {
    head: Option<String>,
    #[serde(flatten)]
    state: StateView,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartedView>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let (_, migrations, operator) = session.open().await?;
    operator.read_only().await?;
    session.say_database(&operator);
    loop {
        let fleet = migrate::read_state(&operator, &migrations).await?;
        let exit = if arguments.check { checked(&fleet) } else { Exit::Done };
        if arguments.watch.is_some() {
            session.printer.clear_screen();
        }
        show(session, arguments, &operator, &migrations, &fleet, exit);
        match arguments.watch {
            Some(seconds) if !arguments.check || exit == Exit::Pending => {
                tokio::time::sleep(Duration::from_secs(seconds.get().into())).await;
            }
            _ => return Ok(exit),
        }
    }
}

fn show(
    session: &Session<'_>,
    arguments: &Arguments,
    operator: &Operator,
    migrations: &Migrations,
    fleet: &FleetState,
    exit: Exit,
) {
    let printer = session.printer;
    let newest = |set| migrations.set(set).head().map(ToString::to_string);
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: TargetView::of(operator),
        files: FilesView { public: newest(Set::Public), tenant: newest(Set::Tenant) },
        public: PublicView {
            head: fleet.public_head.as_ref().map(ToString::to_string),
            state: StateView::of(&fleet.public),
            started: fleet.public_started.as_ref().map(StartedView::of),
        },
        tenants: fleet.tenants.iter().map(TenantView::of).collect(),
        strange: StrangeView::all(&fleet.strange),
        exit,
    });
    warn_of_strange(printer, &fleet.strange);
    printer.output(grid(fleet, arguments.all || printer.is_verbose()));
    printer.output(format!("\n{}", totals(fleet)));
    if arguments.watch.is_some() {
        return;
    }
    let diverged = |state: &SchemaState| matches!(state, SchemaState::Diverged(_));
    if diverged(&fleet.public) || fleet.tenants.iter().any(|tenant| diverged(&tenant.state)) {
        printer.info(format!(
            "Next: {} says which files differ and what to do; nothing is applied before that.",
            paint(COMMAND, "cgk migrate --check")
        ));
    } else if pending(fleet) {
        printer.info(format!(
            "Next: {} shows what is pending, {} applies it.",
            paint(COMMAND, "cgk migrate --plan"),
            paint(COMMAND, "cgk migrate")
        ));
    } else if fleet.tenants.iter().any(|tenant| is_broken(&tenant.state) && is_to_be_whole(tenant)) {
        printer.info(format!("Next: {} says how to complete a tenant.", paint(COMMAND, "cgk doctor")));
    }
}

fn grid(fleet: &FleetState, everything: bool) -> Grid {
    let head = |id: Option<&MigrationId>| (id.map(ToString::to_string).unwrap_or_default(), CellStyle::Plain);
    let (words, style) = StateView::words_of(&fleet.public, fleet.public_started.as_ref());
    let public = TenantRow {
        cells: [
            ("public".into(), CellStyle::Plain),
            (String::new(), CellStyle::Plain),
            head(fleet.public_head.as_ref()),
            (words, style),
        ],
        alike: String::new(),
        good: false,
        always: true,
    };
    let tenants = fleet.tenants.iter().map(|tenant| {
        let (words, style) = StateView::words_of(&tenant.state, tenant.started());
        let status = &tenant.tenant.status;
        let head = head(tenant.head.as_ref());
        TenantRow {
            alike: format!("{status} {} {words}", head.0),
            cells: [
                (schema(&tenant.tenant), CellStyle::Plain),
                (status.to_string(), status_style(status)),
                head,
                (words, style),
            ],
            good: tenant.state.is_at_head(),
            always: false,
        }
    });
    let rows: Vec<_> = std::iter::once(public).chain(tenants).collect();
    table::tenants(&["SCHEMA", "STATUS", "AT", "STATE"], &rows, everything, "--all")
}

fn totals(fleet: &FleetState) -> String {
    let number = |wanted: fn(&SchemaState) -> bool| fleet.tenants.iter().filter(|tenant| wanted(&tenant.state)).count();
    let parts = [
        (number(SchemaState::is_at_head), "at head"),
        (number(|state| matches!(state, SchemaState::Behind { .. })), "behind"),
        (number(|state| matches!(state, SchemaState::Diverged(_))), "diverged"),
        (number(is_broken), "incomplete"),
    ];
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let split = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{}{split}.", count(fleet.tenants.len(), "tenant"))
}

/// Whether a schema cannot be entered or migrated in its current state, and no migration fixes that.
fn is_broken(state: &SchemaState) -> bool {
    matches!(state, SchemaState::Missing | SchemaState::HalfProvisioned { .. } | SchemaState::OtherOrganization { .. })
}

/// Whether the tenant's status requires a schema. For a status that this version does not know, this is not known.
fn is_to_be_whole(tenant: &TenantState) -> bool {
    let belongs_to_another = matches!(tenant.state, SchemaState::OtherOrganization { .. });
    belongs_to_another || matches!(tenant.tenant.status, TenantStatus::Active | TenantStatus::Suspended)
}

fn pending(fleet: &FleetState) -> bool {
    let behind = |state: &SchemaState| matches!(state, SchemaState::Behind { .. });
    behind(&fleet.public) || fleet.tenants.iter().any(|tenant| behind(&tenant.state))
}

/// Returns the exit code of `--check`. Schemas that cannot be migrated have precedence over pending migrations.
fn checked(fleet: &FleetState) -> Exit {
    let drifted = |state: &SchemaState| matches!(state, SchemaState::Diverged(_));
    let broken = fleet.tenants.iter().any(|tenant| is_broken(&tenant.state) && is_to_be_whole(tenant));
    if drifted(&fleet.public) || fleet.tenants.iter().any(|tenant| drifted(&tenant.state)) {
        Exit::Drift
    } else if broken {
        Exit::Partial
    } else if pending(fleet) {
        Exit::Pending
    } else {
        Exit::Done
    }
}
