//! The output of `cgk migrate` at its end.

use cgk::{
    StrangeRow,
    migrate::{MigrationId, Outcome, RunReport, SchemaOutcome, StopReason, Target},
};
use serde::Serialize;
use std::time::Instant;

use super::plan::reached;
use crate::cli::{
    exit::Exit,
    session::Session,
    setup::database::span,
    tenant::view::{StrangeView, warn_of_strange},
    ui::{
        report::Report,
        style::{BAD, COMMAND, GOOD, WARNING, count, paint},
        table::{self, CellStyle, Grid, TenantRow},
        time,
    },
};

#[derive(Serialize)]
struct Summary<'a> {
    event: &'static str,
    run: Option<String>,
    public_applied: usize,
    migrated: usize,
    by_another_run: usize,
    failed: usize,
    skipped: usize,
    at_head: usize,
    strange: Vec<StrangeView<'a>>,
    stopped: Option<&'static str>,
    left: usize,
    ms: u64,
    exit: Exit,
}

/// What a run was asked to do, for the text about its result.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) target: Target,
    /// Whether it executed a saved plan, which the next run refuses.
    pub(crate) saved_plan: bool,
}

/// Shows the result of a run.
pub(crate) fn show(
    session: &Session<'_>,
    report: &RunReport,
    asked: Asked,
    strange: &[StrangeRow],
    began: Instant,
) -> Exit {
    let printer = session.printer;
    let public = report.public.as_ref().map_or(&[][..], applied);
    let exit = exit(session, report);
    printer.record(&Summary {
        event: "summary",
        run: report.id.map(|id| id.to_string()),
        public_applied: public.len(),
        migrated: report.migrated(),
        by_another_run: report.by_another_run(),
        failed: report.failed(),
        skipped: report.skipped(),
        at_head: report.at_head,
        strange: StrangeView::all(strange),
        stopped: report.stopped.as_ref().map(|stop| stop.reason.as_str()),
        left: report.stopped.as_ref().map_or(0, |stop| stop.left),
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    warn_of_strange(printer, strange);
    if printer.is_json() {
        return exit;
    }
    if report.public.is_none() && report.tenants.is_empty() && report.stopped.is_none() {
        let fleet = match report.at_head {
            0 => String::new(),
            at_head => format!("; {} {}", count(at_head, "tenant"), reached(asked.target)),
        };
        printer.sentence(format!("Nothing to do{fleet}."));
        return exit;
    }
    if report.public.is_some() || !report.tenants.is_empty() {
        printer.output(outcomes(report, printer.is_verbose()));
        printer.output("");
    }
    printer.sentence(totals(report, asked.target, public.len(), began));
    let failures = report.tenants.iter().filter_map(|outcome| match (&outcome.result, &outcome.slug) {
        (Outcome::Failed { error }, Some(slug)) => Some((slug, error)),
        _ => None,
    });
    Report::tell_each_once(printer, failures);
    printer.info(next(report, asked));
    exit
}

fn exit(session: &Session<'_>, report: &RunReport) -> Exit {
    match report.stopped.as_ref().map(|stop| stop.reason) {
        Some(StopReason::Interrupted) => session.shutdown.exit(),
        Some(StopReason::Unavailable) => Exit::Unavailable,
        Some(StopReason::RolledBack) => rolled_back(report),
        Some(StopReason::Canary | StopReason::Failures) => Exit::Partial,
        None if report.failed() > 0 => Exit::Partial,
        None => Exit::Done,
    }
}

/// Returns the exit code of an all-or-nothing run, which depends on the error that ended it.
fn rolled_back(report: &RunReport) -> Exit {
    let error = report.tenants.iter().find_map(|outcome| match &outcome.result {
        Outcome::Failed { error } => Some(error),
        _ => None,
    });
    error.map_or(Exit::Failed, |error| error.kind().into())
}

/// Returns a text such as `1 migration applied to public, 2 tenants migrated, 1 tenant failed (34 ms).`
fn totals(report: &RunReport, target: Target, public: usize, began: Instant) -> String {
    let mut parts = Vec::new();
    if report.public.is_some() {
        parts.push(format!("{} applied to public", count(public, "migration")));
    }
    let left = report.stopped.as_ref().map_or(0, |stop| stop.left);
    let counts = [
        (report.migrated(), paint(GOOD, "migrated")),
        (report.by_another_run(), paint(GOOD, "migrated by another run")),
        (report.failed(), paint(BAD, "failed")),
        (report.skipped(), paint(WARNING, "skipped")),
        (left, paint(WARNING, "not migrated")),
    ];
    parts.extend(counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "tenant"))));
    if report.canaries > 0 {
        parts.push(format!("{} first", count(report.canaries, "canary tenant")));
    }
    if report.at_head > 0 {
        parts.push(format!("{} already {}", report.at_head, reached(target)));
    }
    if parts.is_empty() {
        parts.push("nothing was changed".into());
    }
    format!("{} ({}).", parts.join(", "), time::elapsed(began.elapsed()))
}

/// Returns the next step.
fn next(report: &RunReport, asked: Asked) -> String {
    let again = paint(COMMAND, "cgk migrate");
    let (go_on, run_again) = match asked.saved_plan {
        true => {
            let new_plan = paint(COMMAND, "cgk migrate --plan-out FILE");
            let text = format!("The saved plan is out of date: make one of the rest with {new_plan}.");
            (text.clone(), text)
        }
        false => {
            (format!("Run {again} to continue: finished tenants are skipped."), format!("Then run {again} again."))
        }
    };
    match report.stopped.as_ref().map(|stop| stop.reason) {
        Some(StopReason::Interrupted) => format!("Interrupted. {go_on}"),
        Some(StopReason::Unavailable) => format!("Stopped: the server cannot continue at the moment. {go_on}"),
        Some(StopReason::RolledBack) => {
            format!(
                "Rolled back because of --all-or-nothing: nothing was changed. Fix the cause and run {again} again."
            )
        }
        Some(StopReason::Canary) => {
            format!("Stopped: a canary failed, and no other tenant was started. Fix the cause. {run_again}")
        }
        Some(StopReason::Failures) => {
            format!("Stopped: the limit of failed tenants is reached. Fix the cause. {go_on}")
        }
        None if report.failed() > 0 => {
            // A run without anything to apply is not in the history.
            let retry = if report.id.is_some() { paint(COMMAND, "cgk migrate --retry-failed") } else { again };
            format!("Fix the cause and run {retry}: finished tenants are skipped.")
        }
        None => format!("Next: {} shows every schema.", paint(COMMAND, "cgk migrate:status")),
    }
}

fn outcomes(report: &RunReport, everything: bool) -> Grid {
    let row = |outcome: &SchemaOutcome| {
        let (result, style, text) = match &outcome.result {
            result if result.is_by_another_run() => ("done", CellStyle::Good, "by another run".to_owned()),
            Outcome::Migrated { applied } => ("done", CellStyle::Good, span(applied)),
            Outcome::Skipped { reason } => ("skipped", CellStyle::Warning, reason.clone()),
            Outcome::Failed { error } => ("failed", CellStyle::Bad, Report::of_library(error).short()),
        };
        TenantRow {
            alike: format!("{result} {}", if style == CellStyle::Good { "" } else { &text }),
            cells: [
                (outcome.schema.as_str().to_owned(), CellStyle::Plain),
                (result.to_owned(), style),
                (text, CellStyle::Plain),
                (time::elapsed(outcome.elapsed), CellStyle::Faint),
            ],
            good: style == CellStyle::Good,
            always: outcome.slug.is_none(),
        }
    };
    let rows: Vec<_> = report.public.iter().chain(&report.tenants).map(row).collect();
    table::tenants(&["SCHEMA", "RESULT", "MIGRATIONS", "TIME"], &rows, everything, "-v")
}

fn applied(outcome: &SchemaOutcome) -> &[MigrationId] {
    match &outcome.result {
        Outcome::Migrated { applied } => applied,
        _ => &[],
    }
}
