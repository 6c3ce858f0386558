//! `cgk migrate`

use anyhow::Result;
use cgk::{
    Error, ErrorKind, TenantSlug,
    migrate::{self, FleetPlan, MigrationFile, MigrationId, Outcome, RunReport, SchemaOutcome, Scope, Step, Target},
};
use clap::Args;
use serde::Serialize;
use std::{collections::BTreeMap, time::Instant};

use super::{
    exit::Exit,
    printer::Printer,
    progress::Progress,
    report::{Report, listed, shown},
    session::{Session, TargetView},
    setup_database::span,
    style::{BAD, COMMAND, FAINT, GOOD, HEADING, WARNING, count, harmless, paint},
    table::{Grid, Look},
    time,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate                            the shared schema first, then every tenant
  cgk migrate --plan                     say what would be done, and do nothing
  cgk migrate --plan -v                  with the SQL
  cgk migrate --check                    do nothing; exit code 3 if something is pending
  cgk migrate --public                   the shared schema alone
  cgk migrate --tenant acme globex       these tenants alone

Each schema is one transaction: all of its pending migrations or none. A tenant that fails is reported and the others go \
on; the next run goes on where this one stopped.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The shared schema alone
    #[arg(long, group = "scope")]
    public: bool,
    /// Every tenant, and not the shared schema
    #[arg(long, group = "scope")]
    tenants: bool,
    /// These tenants alone
    #[arg(long, group = "scope", value_name = "SLUG", num_args = 1.., allow_hyphen_values = false)]
    tenant: Vec<String>,
    /// Say what would be done, and do nothing; -v shows the SQL
    #[arg(long)]
    plan: bool,
    /// Do nothing; exit with 3 if something is pending, 7 if files and database do not agree
    #[arg(long)]
    check: bool,
}

/// Tenants of a run that are shown one by one; more are counted.
const ROWS_MAX: usize = 20;
/// Different errors that are told in full.
const ERRORS_MAX: usize = 10;

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let scope = scope(arguments)?;
    let (_, migrations, operator) = session.open().await?;
    let looking = arguments.plan || arguments.check;
    if !looking {
        session.introduce("migrate", &operator, &migrations);
    }
    let plan = migrate::plan_fleet(&operator, &migrations, &scope, Target::Head).await?;
    if looking {
        let exit = if arguments.check { checked(&plan) } else { Exit::Done };
        show_plan(printer, &plan, TargetView::of(&operator), exit);
        return Ok(exit);
    }
    let began = Instant::now();
    let mut progress = Progress::new(printer);
    let report = migrate::run(&operator, &migrations, plan, &mut progress).await?;
    drop(progress);
    let exit = if report.failed() > 0 { Exit::Partial } else { Exit::Done };
    show_report(printer, &report, began, exit);
    Ok(exit)
}

fn scope(arguments: &Arguments) -> Result<Scope> {
    Ok(match (arguments.public, arguments.tenants, arguments.tenant.as_slice()) {
        (true, ..) => Scope::Public,
        (_, true, _) => Scope::Tenants,
        (_, _, []) => Scope::Everything,
        (_, _, slugs) => Scope::Only(slugs.iter().map(|slug| slug.parse()).collect::<Result<Vec<TenantSlug>, _>>()?),
    })
}

/// What `--check` answers. What cannot be migrated at all counts before what only waits to be.
fn checked(plan: &FleetPlan<'_>) -> Exit {
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
    exit: Exit,
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

/// One migration of a plan, and in how many schemas it is pending.
struct PlannedFile<'a> {
    file: &'a MigrationFile,
    tenants: Vec<&'a str>,
}

fn show_plan(printer: &Printer, plan: &FleetPlan<'_>, target: TargetView, exit: Exit) {
    printer.record(&PlanRecord {
        event: "plan",
        v: super::JSON_VERSION,
        target,
        public: plan.public.iter().flat_map(|public| &public.pending).map(|file| file.id().to_string()).collect(),
        tenants: plan.tenants.iter().map(PlannedView::of).collect(),
        at_head: plan.at_head,
        exit,
    });
    let public: Vec<&MigrationFile> = plan.public.iter().flat_map(|public| public.pending.iter().copied()).collect();
    let mut tenants: BTreeMap<&MigrationId, PlannedFile<'_>> = BTreeMap::new();
    for tenant in &plan.tenants {
        if let Step::Apply(pending) = &tenant.step {
            for file in &pending.pending {
                let entry = tenants.entry(file.id()).or_insert_with(|| PlannedFile { file, tenants: Vec::new() });
                entry.tenants.push(tenant.slug.as_str());
            }
        }
    }
    if plan.is_empty() {
        let at_head =
            if plan.at_head > 0 { format!("; {} at head", count(plan.at_head, "tenant")) } else { String::new() };
        printer.answer(format!("Nothing is pending{at_head}."));
    } else {
        let mut grid = Grid::new(&["MIGRATION", "PENDING IN", ""]);
        for file in &public {
            let name = format!("public/{}", file.id());
            grid.row([(name.as_str(), Look::Plain), ("the shared schema", Look::Warning), ("", Look::Plain)]);
        }
        for planned in tenants.values() {
            let name = format!("tenant/{}", planned.file.id());
            let pending = count(planned.tenants.len(), "tenant");
            let slugs = listed(&planned.tenants);
            grid.row([(name.as_str(), Look::Plain), (pending.as_str(), Look::Warning), (slugs.as_str(), Look::Faint)]);
        }
        printer.answer(grid);
    }
    if printer.is_verbose() {
        for file in public.iter().copied().chain(tenants.values().map(|planned| planned.file)) {
            printer.answer(format!("\n{}\n{}", paint(HEADING, shown(file.path())), harmless(file.sql().trim_end())));
        }
    }
    for tenant in &plan.tenants {
        match &tenant.step {
            Step::Apply(_) => {}
            Step::Skip { reason } => {
                printer.answer(format!("{} {}: {}", paint(WARNING, "skipped"), tenant.slug, harmless(reason)));
            }
            Step::Refuse(error) => {
                let report = Report::of_library(error);
                printer.answer(format!("{} {}: {}", paint(BAD, "refused"), tenant.slug, harmless(report.message())));
                for problem in report.problems() {
                    printer.answer(format!("  {}", harmless(problem)));
                }
            }
        }
    }
    if !plan.is_empty() {
        printer.say(format!("Nothing has been changed. Next: {}", paint(COMMAND, "cgk migrate")));
    }
}

impl<'a> PlannedView<'a> {
    fn of(tenant: &'a migrate::PlannedTenant<'_>) -> Self {
        let (step, pending, reason, error) = match &tenant.step {
            Step::Apply(plan) => ("apply", plan.pending.iter().map(|file| file.id().to_string()).collect(), None, None),
            Step::Skip { reason } => ("skip", Vec::new(), Some(reason.as_str()), None),
            Step::Refuse(error) => ("refuse", Vec::new(), None, Some(Report::of_library(error))),
        };
        Self { tenant: tenant.slug.as_str(), step, pending, reason, error }
    }
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    public_applied: usize,
    migrated: usize,
    failed: usize,
    skipped: usize,
    at_head: usize,
    ms: u64,
    exit: Exit,
}

fn show_report(printer: &Printer, report: &RunReport, began: Instant, exit: Exit) {
    let public = report.public.as_ref().map_or(&[][..], applied);
    printer.record(&Summary {
        event: "summary",
        public_applied: public.len(),
        migrated: report.migrated(),
        failed: report.failed(),
        skipped: report.skipped(),
        at_head: report.at_head,
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    if printer.is_json() {
        return;
    }
    if report.public.is_none() && report.tenants.is_empty() {
        let fleet = match report.at_head {
            0 => String::new(),
            at_head => format!("; {} at head", count(at_head, "tenant")),
        };
        printer.answer(format!("Nothing to do{fleet}."));
        return;
    }
    printer.answer(outcomes(report, printer.is_verbose()));
    let mut parts = Vec::new();
    if report.public.is_some() {
        parts.push(format!("{} applied to public", count(public.len(), "migration")));
    }
    let counts = [
        (report.migrated(), paint(GOOD, "migrated")),
        (report.failed(), paint(BAD, "failed")),
        (report.skipped(), paint(WARNING, "skipped")),
    ];
    parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "tenant"))));
    if report.at_head > 0 {
        parts.push(format!("{} at head already", report.at_head));
    }
    printer.answer(format!("\n{} ({}).", parts.join(", "), time::elapsed(began.elapsed())));
    tell_failures(printer, report);
    if report.failed() > 0 {
        let next = paint(COMMAND, "cgk migrate");
        printer.say(format!("Mend the cause and run {next} again: tenants that are done are not visited twice."));
    } else {
        printer.say(format!("Next: {} shows every schema.", paint(COMMAND, "cgk migrate:status")));
    }
}

/// A row a schema; of a large fleet only what did not go well.
fn outcomes(report: &RunReport, everything: bool) -> Grid {
    let all = everything || report.tenants.len() <= ROWS_MAX;
    let mut grid = Grid::new(&["SCHEMA", "RESULT", "MIGRATIONS", "TIME"]);
    let mut folded = 0;
    for outcome in report.public.iter().chain(&report.tenants) {
        let elapsed = time::elapsed(outcome.elapsed);
        let (result, look, text) = match &outcome.result {
            Outcome::Migrated { applied } if applied.is_empty() => {
                ("done", Look::Good, "by another run meanwhile".to_owned())
            }
            Outcome::Migrated { applied } => ("done", Look::Good, span(applied)),
            Outcome::Skipped { reason } => ("skipped", Look::Warning, reason.clone()),
            Outcome::Failed { error } => ("failed", Look::Bad, Report::of_library(error).short()),
        };
        if !all && outcome.slug.is_some() && look == Look::Good {
            folded += 1;
            continue;
        }
        grid.row([
            (outcome.schema.as_str(), Look::Plain),
            (result, look),
            (text.as_str(), Look::Plain),
            (elapsed.as_str(), Look::Faint),
        ]);
    }
    if folded > 0 {
        let text = count(folded, "tenant");
        grid.row([
            (text.as_str(), Look::Faint),
            ("done", Look::Good),
            ("-v lists them", Look::Faint),
            ("", Look::Plain),
        ]);
    }
    grid
}

/// Tells each error once, with the tenants that met it.
fn tell_failures(printer: &Printer, report: &RunReport) {
    let mut groups: Vec<(String, &Error, Vec<&str>)> = Vec::new();
    for outcome in &report.tenants {
        let (Outcome::Failed { error }, Some(slug)) = (&outcome.result, &outcome.slug) else { continue };
        let key = Report::of_library(error).likeness(slug);
        match groups.iter_mut().find(|(other, ..)| *other == key) {
            Some((_, _, slugs)) => slugs.push(slug.as_str()),
            None => groups.push((key, error, vec![slug.as_str()])),
        }
    }
    for (_, error, slugs) in groups.iter().take(ERRORS_MAX) {
        printer.complain(format!("\n{}", Report::of_library(error).render(slugs)));
    }
    if let Some(more) = groups.len().checked_sub(ERRORS_MAX).filter(|more| *more > 0) {
        let text = format!("and {more} other errors; `cgk migrate --json` lists all of them");
        printer.complain(paint(FAINT, text));
    }
    if !groups.is_empty() {
        printer.say("");
    }
}

fn applied(outcome: &SchemaOutcome) -> &[MigrationId] {
    match &outcome.result {
        Outcome::Migrated { applied } => applied,
        _ => &[],
    }
}
