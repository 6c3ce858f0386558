//! The output of `cgk migrate --plan`.

use cgk::{
    ErrorKind,
    migrate::{
        Blocks, Finding, FleetPlan, MigrationFile, MigrationId, Migrations, PlannedTenant, StartedMigration, Step,
        TableLock, Target,
    },
};
use serde::Serialize;
use std::collections::BTreeMap;

use super::started;
use crate::cli::{
    exit::Exit,
    session::TargetView,
    tenant::view::{StartedView, StrangeView, warn_of_strange},
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
    #[serde(skip_serializing_if = "Option::is_none")]
    public_started: Option<StartedView>,
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
    /// How many of its first statements are executed in all of these schemas. Their locks and warnings are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    statements_done: Option<usize>,
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
    started: Option<StartedView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
}

/// One migration of a plan, and the schemas in which it is pending.
struct PlannedMigration<'a> {
    name: String,
    file: &'a MigrationFile,
    /// Empty for the shared schema.
    tenants: Vec<&'a str>,
    /// How many of its first statements are executed in all of these schemas.
    done: usize,
    /// The line of the statement after them.
    from_line: usize,
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
    let files = PlannedMigration::all(plan);
    printer.record(&PlanRecord {
        event: "plan",
        v: crate::cli::JSON_VERSION,
        target,
        public: plan.public.iter().flat_map(|public| public.pending.iter()).map(|file| file.id().to_string()).collect(),
        public_started: plan.public_started.as_ref().map(StartedView::of),
        tenants: plan.tenants.iter().map(PlannedView::of).collect(),
        at_head: plan.at_head,
        strange: StrangeView::all(&plan.strange),
        migrations: files.iter().map(|file| FileView::of(file, &warnings)).collect(),
        exit,
    });
    warn_of_strange(printer, &plan.strange);
    if plan.is_empty() {
        let at_head = if plan.at_head > 0 {
            format!("; {} {}", count(plan.at_head, "tenant"), reached(plan.target))
        } else {
            String::new()
        };
        printer.sentence(format!("Nothing is pending{at_head}."));
    } else {
        printer.output(pending_grid(&files));
        started::show(printer, plan);
        show_locks(printer, &files);
        show_warnings(printer, &files, &warnings);
    }
    if printer.is_verbose() {
        show_texts(printer, &files);
    }
    show_not_migrated(printer, plan);
    if !plan.is_empty() && next == Next::Migrate {
        printer.info(format!("Nothing was changed. Next: {}", paint(COMMAND, "cgk migrate")));
    }
}

impl<'a> PlannedMigration<'a> {
    /// Returns the files of the shared schema, and then those of the tenants.
    fn all(plan: &'a FleetPlan<'_>) -> Vec<Self> {
        let mut found = Vec::new();
        for file in plan.public.iter().flat_map(|public| public.pending.iter()) {
            let mut planned = Self::new("public", file);
            planned.note(plan.public_started.as_ref());
            found.push(planned);
        }
        let mut tenants: BTreeMap<&MigrationId, Self> = BTreeMap::new();
        for tenant in &plan.tenants {
            if let Step::Apply(pending) = &tenant.step {
                for file in pending.pending.iter() {
                    let planned = tenants.entry(file.id()).or_insert_with(|| Self::new("tenant", file));
                    planned.note(tenant.started.as_ref());
                    planned.tenants.push(tenant.slug.as_str());
                }
            }
        }
        found.extend(tenants.into_values());
        found
    }

    fn new(set: &str, file: &'a MigrationFile) -> Self {
        let name = format!("{set}/{}", file.id());
        Self { name, file, tenants: Vec::new(), done: usize::MAX, from_line: usize::MAX }
    }

    /// Adds what is done of the file in one more schema.
    fn note(&mut self, started: Option<&StartedMigration>) {
        let started = started.filter(|started| started.id == *self.file.id());
        self.done = self.done.min(started.map_or(0, |started| started.done));
        let line = started.map_or(1, |started| started.next.map_or(usize::MAX, |next| next.line));
        self.from_line = self.from_line.min(line);
    }

    /// Returns the warnings of the file, without those about executed statements.
    fn warnings<'w>(&self, warnings: &'w [Finding]) -> impl Iterator<Item = &'w Finding> {
        let own = warnings.iter().filter(|warning| warning.file == self.file.path());
        own.filter(|warning| warning.line.is_none_or(|line| line >= self.from_line))
    }
}

/// Returns the table of the pending files.
fn pending_grid(files: &[PlannedMigration<'_>]) -> Grid {
    let mut grid = Grid::new(&["MIGRATION", "PENDING IN", ""]);
    for planned in files {
        let pending = match planned.tenants.len() {
            0 => "the shared schema".to_owned(),
            tenants => count(tenants, "tenant"),
        };
        let slugs = listed(&planned.tenants);
        grid.row([
            (planned.name.as_str(), CellStyle::Plain),
            (pending.as_str(), CellStyle::Warning),
            (slugs.as_str(), CellStyle::Faint),
        ]);
    }
    grid
}

/// Returns where tenants are for which a run to this target does nothing.
pub(super) fn reached(target: Target) -> String {
    match target {
        Target::Head => "at head".into(),
        Target::Version(version) => format!("at {version} or later"),
    }
}

/// Prints the SQL of each file, without statements that are executed in all schemas.
fn show_texts(printer: &Printer, files: &[PlannedMigration<'_>]) {
    for PlannedMigration { file, done, .. } in files {
        let tool = file.tool().map(|tool| format!(" (written for {tool})")).unwrap_or_default();
        let after = match done {
            0 => String::new(),
            done => format!(" (after statement {done})"),
        };
        let heading = format!("{}{tool}{after}", paint(HEADING, display_path(file.path())));
        printer.output(format!("\n{heading}\n{}", sanitize(file.sql_after(*done).trim_end())));
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
fn show_locks(printer: &Printer, files: &[PlannedMigration<'_>]) {
    let mut grid = Grid::new(&["MIGRATION", "LOCKS", "MODE", "KEEPS WAITING", "BY"]);
    let mut any = false;
    for PlannedMigration { name, file, done, .. } in files {
        for lock in file.locks_after(*done) {
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

fn show_warnings(printer: &Printer, files: &[PlannedMigration<'_>], warnings: &[Finding]) {
    for warning in files.iter().flat_map(|file| file.warnings(warnings)) {
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
    fn of(planned: &PlannedMigration<'_>, warnings: &[Finding]) -> Self {
        let file = planned.file;
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
        Self {
            migration: planned.name.clone(),
            tenants: planned.tenants.len(),
            transaction: file.is_transactional(),
            tool: file.tool(),
            statements_done: Some(planned.done).filter(|done| *done > 0),
            locks: file.locks_after(planned.done).into_iter().map(lock).collect(),
            warnings: planned
                .warnings(warnings)
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
        let started = tenant.started.as_ref().map(StartedView::of);
        Self { tenant: tenant.slug.as_str(), step, pending, started, reason, error }
    }
}
