//! The output of `cgk migrate --plan`.

use cgk::{
    ErrorKind,
    migrate::{Blocks, Finding, FleetPlan, MigrationFile, MigrationId, Migrations, PlannedTenant, Step, TableLock},
};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::cli::{
    exit::Exit,
    session::TargetView,
    tenant::view::{StrangeView, warn_of_strange},
    ui::{
        printer::{Annotation, Printer},
        report::{Report, display_path, listed},
        style::{BAD, COMMAND, HEADING, WARNING, count, paint, sanitize},
        table::{CellStyle, Grid},
    },
};

/// Returns the exit code of `--check`. Schemas that cannot be migrated have precedence over pending migrations.
pub(crate) fn checked(plan: &FleetPlan<'_>) -> Exit {
    let refused = || {
        plan.tenants.iter().filter_map(|tenant| match &tenant.step {
            Step::Refuse(error) => Some(error.kind()),
            _ => None,
        })
    };
    if refused().any(|kind| kind == ErrorKind::Drift) {
        Exit::Drift
    } else if refused().next().is_some() {
        Exit::Partial
    } else if plan.is_empty() {
        Exit::Done
    } else {
        Exit::Pending
    }
}

#[derive(Serialize)]
struct PlanRecord<'a> {
    event: &'static str,
    v: u32,
    target: TargetView,
    public: Vec<String>,
    tenants: Vec<PlannedView<'a>>,
    at_head: usize,
    strange: Vec<StrangeView<'a>>,
    migrations: Vec<FileView>,
    exit: Exit,
}

/// A pending migration: the number of tenants, what it blocks, and its risks.
#[derive(Serialize)]
struct FileView {
    migration: String,
    tenants: usize,
    transaction: bool,
    /// The tool whose directives divide the file into the part that runs and the part that does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'static str>,
    locks: Vec<LockView>,
    warnings: Vec<WarningView>,
}

#[derive(Serialize)]
struct LockView {
    relation: String,
    mode: &'static str,
    blocks: &'static str,
    line: usize,
    reason: String,
}

#[derive(Serialize)]
struct WarningView {
    line: Option<usize>,
    lint: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct PlannedView<'a> {
    tenant: &'a str,
    step: &'static str,
    pending: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
}

/// One migration of a plan, and the number of schemas in which it is pending.
struct PlannedFile<'a> {
    file: &'a MigrationFile,
    tenants: Vec<&'a str>,
}

/// Whether this output or its caller prints the next command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Migrate,
    Unsaid,
}

pub(crate) fn show(
    printer: &Printer,
    migrations: &Migrations,
    plan: &FleetPlan<'_>,
    target: TargetView,
    exit: Exit,
    next: Next,
) {
    let warnings = migrations.warnings();
    let public: Vec<&MigrationFile> = plan.public.iter().flat_map(|public| public.pending.iter().copied()).collect();
    let mut tenants: BTreeMap<&MigrationId, PlannedFile<'_>> = BTreeMap::new();
    for tenant in &plan.tenants {
        if let Step::Apply(pending) = &tenant.step {
            for file in pending.pending.iter() {
                let entry = tenants.entry(file.id()).or_insert_with(|| PlannedFile { file, tenants: Vec::new() });
                entry.tenants.push(tenant.slug.as_str());
            }
        }
    }
    let shared = public.iter().map(|file| (format!("public/{}", file.id()), *file, 0));
    let each =
        tenants.values().map(|planned| (format!("tenant/{}", planned.file.id()), planned.file, planned.tenants.len()));
    let files: Vec<(String, &MigrationFile, usize)> = shared.chain(each).collect();
    printer.record(&PlanRecord {
        event: "plan",
        v: crate::cli::JSON_VERSION,
        target,
        public: plan.public.iter().flat_map(|public| public.pending.iter()).map(|file| file.id().to_string()).collect(),
        tenants: plan.tenants.iter().map(PlannedView::of).collect(),
        at_head: plan.at_head,
        strange: StrangeView::all(&plan.strange),
        migrations: files.iter().map(|(name, file, tenants)| FileView::of(name, file, *tenants, &warnings)).collect(),
        exit,
    });
    warn_of_strange(printer, &plan.strange);
    if plan.is_empty() {
        let at_head =
            if plan.at_head > 0 { format!("; {} at head", count(plan.at_head, "tenant")) } else { String::new() };
        printer.sentence(format!("Nothing is pending{at_head}."));
    } else {
        printer.output(pending_grid(&public, tenants.values()));
        show_locks(printer, &files);
        show_warnings(printer, &files, &warnings);
    }
    if printer.is_verbose() {
        show_texts(printer, public.iter().copied().chain(tenants.values().map(|planned| planned.file)));
    }
    show_not_migrated(printer, plan);
    if !plan.is_empty() && next == Next::Migrate {
        printer.info(format!("Nothing was changed. Next: {}", paint(COMMAND, "cgk migrate")));
    }
}

/// Returns the table of the pending files.
fn pending_grid<'a>(public: &[&MigrationFile], tenants: impl Iterator<Item = &'a PlannedFile<'a>>) -> Grid {
    let mut grid = Grid::new(&["MIGRATION", "PENDING IN", ""]);
    for file in public {
        let name = format!("public/{}", file.id());
        grid.row([
            (name.as_str(), CellStyle::Plain),
            ("the shared schema", CellStyle::Warning),
            ("", CellStyle::Plain),
        ]);
    }
    for planned in tenants {
        let name = format!("tenant/{}", planned.file.id());
        let pending = count(planned.tenants.len(), "tenant");
        let slugs = listed(&planned.tenants);
        grid.row([
            (name.as_str(), CellStyle::Plain),
            (pending.as_str(), CellStyle::Warning),
            (slugs.as_str(), CellStyle::Faint),
        ]);
    }
    grid
}

/// Prints the SQL of each file.
fn show_texts<'a>(printer: &Printer, files: impl Iterator<Item = &'a MigrationFile>) {
    for file in files {
        let tool = file.tool().map(|tool| format!(" (written for {tool})")).unwrap_or_default();
        let heading = format!("{}{tool}", paint(HEADING, display_path(file.path())));
        printer.output(format!("\n{heading}\n{}", sanitize(file.sql().trim_end())));
    }
}

/// Prints the tenants that a run skips or refuses, each with the reason.
fn show_not_migrated(printer: &Printer, plan: &FleetPlan<'_>) {
    for tenant in &plan.tenants {
        match &tenant.step {
            Step::Apply(_) => {}
            Step::Skip { reason } => {
                printer.sentence(format!("{} {}: {}", paint(WARNING, "skipped"), tenant.slug, sanitize(reason)));
            }
            Step::Refuse(error) => {
                let report = Report::of_library(error);
                printer.sentence(format!("{} {}: {}", paint(BAD, "refused"), tenant.slug, sanitize(report.message())));
                for problem in report.problems() {
                    printer.sentence(format!("  {}", sanitize(problem)));
                }
            }
        }
    }
}

/// Prints what the locks block. -v also prints the locks that block nothing.
fn show_locks(printer: &Printer, files: &[(String, &MigrationFile, usize)]) {
    let mut grid = Grid::new(&["MIGRATION", "LOCKS", "MODE", "KEEPS WAITING", "BY"]);
    let mut any = false;
    for (name, file, _) in files {
        for lock in file.locks() {
            if lock.blocks() == Blocks::Nothing && !printer.is_verbose() {
                continue;
            }
            any = true;
            let (who, style) = match lock.blocks() {
                Blocks::Nothing => ("nothing", CellStyle::Good),
                Blocks::Writes => ("writers", CellStyle::Warning),
                _ => ("readers and writers", CellStyle::Bad),
            };
            grid.row([
                (format!("{name}:{}", lock.line).as_str(), CellStyle::Plain),
                (lock.relation.as_str(), CellStyle::Plain),
                (lock.mode.name(), CellStyle::Faint),
                (who, style),
                (lock.reason.as_str(), CellStyle::Plain),
            ]);
        }
    }
    if any {
        printer.output(format!("\n{grid}"));
    }
}

fn show_warnings(printer: &Printer, files: &[(String, &MigrationFile, usize)], warnings: &[Finding]) {
    for warning in warnings.iter().filter(|warning| files.iter().any(|(_, file, _)| file.path() == warning.file)) {
        let line = warning.line.unwrap_or(1);
        let file = display_path(&warning.file);
        let text = format!("{} [{}]", warning.reason, warning.lint.name());
        printer.annotate(&Annotation {
            level: "warning",
            title: warning.lint.name(),
            place: Some((&file, line, 1)),
            message: &warning.reason,
        });
        printer.sentence(format!("{} {file}:{line}: {}", paint(WARNING, "warning"), sanitize(&text)));
    }
}

impl FileView {
    fn of(name: &str, file: &MigrationFile, tenants: usize, warnings: &[Finding]) -> Self {
        let lock = |lock: TableLock| LockView {
            mode: lock.mode.name(),
            blocks: match lock.blocks() {
                Blocks::Nothing => "nothing",
                Blocks::Writes => "writes",
                _ => "reads_and_writes",
            },
            relation: lock.relation,
            line: lock.line,
            reason: lock.reason,
        };
        let own = warnings.iter().filter(|warning| warning.file == file.path());
        Self {
            migration: name.to_owned(),
            tenants,
            transaction: file.is_transactional(),
            tool: file.tool(),
            locks: file.locks().into_iter().map(lock).collect(),
            warnings: own
                .map(|warning| WarningView {
                    line: warning.line,
                    lint: warning.lint.name(),
                    reason: warning.reason.clone(),
                })
                .collect(),
        }
    }
}

impl<'a> PlannedView<'a> {
    fn of(tenant: &'a PlannedTenant<'_>) -> Self {
        let (step, pending, reason, error) = match &tenant.step {
            Step::Apply(plan) => ("apply", plan.pending.iter().map(|file| file.id().to_string()).collect(), None, None),
            Step::Skip { reason } => ("skip", Vec::new(), Some(reason.as_str()), None),
            Step::Refuse(error) => ("refuse", Vec::new(), None, Some(Report::of_library(error))),
        };
        Self { tenant: tenant.slug.as_str(), step, pending, reason, error }
    }
}
