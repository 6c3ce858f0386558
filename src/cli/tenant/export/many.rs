//! `cgk tenant:export --all`

use super::{Arguments, contents, existing, warn_of_left_out};
use crate::cli::{
    exit::Exit,
    session::{Session, TargetView, isolation},
    ui::{
        printer::Printer,
        progress_bar::ProgressBar,
        report::{Refusal, Report},
        style::{BAD, FAINT, GOOD, WARNING, count, paint},
        time,
    },
};
use anyhow::Result;
use cgk::{
    lifecycle::{self, ExportManyOptions, ExportObserver, ExportOutcome, ExportReport, ExportResult},
    migrate::{Scope, Selection},
};
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct Start {
    event: &'static str,
    v: u32,
    command: &'static str,
    target: TargetView,
    isolation: &'static str,
    path: String,
}

#[derive(Serialize)]
struct TenantRecord<'a> {
    event: &'static str,
    tenant: &'a str,
    result: &'static str,
    path: String,
    tables: usize,
    rows: u64,
    text_bytes: u64,
    file_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
    ms: u64,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    exported: usize,
    skipped: usize,
    failed: usize,
    stopped: Option<&'static str>,
    left: usize,
    ms: u64,
    exit: Exit,
}

pub(super) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let operator = session.operator().await?;
    std::fs::create_dir_all(&arguments.to).map_err(|error| Refusal::file("create", &arguments.to, &error))?;
    printer.record(&Start {
        event: "start",
        v: crate::cli::JSON_VERSION,
        command: "tenant:export",
        target: TargetView::of(&operator),
        isolation: isolation(operator.config()),
        path: arguments.to.display().to_string(),
    });
    session.say_database(&operator);
    let mut options = ExportManyOptions::default().existing(existing(arguments)).interrupt(&session.shutdown.interrupt);
    if let Some(jobs) = arguments.jobs {
        options = options.jobs(jobs);
    }
    let selection = Selection::from(Scope::Tenants);
    let began = Instant::now();
    let mut told = ExportProgress { session, bar: None };
    let report = lifecycle::export_many(&operator, &selection, &arguments.to, &options, &mut told).await?;
    drop(told);
    Ok(show(session, &report, began))
}

struct ExportProgress<'a> {
    session: &'a Session<'a>,
    bar: Option<ProgressBar<'a>>,
}

impl ExportObserver for ExportProgress<'_> {
    fn selected(&mut self, tenants: usize) {
        self.bar = Some(ProgressBar::new(self.session.printer, "exporting", tenants));
    }

    fn tenant(&mut self, outcome: &ExportOutcome) {
        record(self.session.printer, outcome);
        if let Ok(result) = &outcome.result {
            let line = match result {
                ExportResult::Exported(exported) => {
                    let elapsed = time::elapsed(outcome.elapsed);
                    format!("{} {}: {} in {elapsed}", paint(GOOD, "exported"), outcome.slug, contents(exported))
                }
                ExportResult::Skipped => format!("{} {}: its file is whole", paint(FAINT, "skipped "), outcome.slug),
            };
            self.session.printer.output(line);
        }
        if let Ok(ExportResult::Exported(exported)) = &outcome.result {
            warn_of_left_out(self.session, &outcome.slug, exported);
        }
        if let Some(bar) = &mut self.bar {
            bar.done(&outcome.slug, outcome.result.as_ref().err());
        }
    }
}

fn record(printer: &Printer, outcome: &ExportOutcome) {
    let exported = match &outcome.result {
        Ok(ExportResult::Exported(exported)) => Some(exported),
        _ => None,
    };
    printer.record(&TenantRecord {
        event: "tenant",
        tenant: outcome.slug.as_str(),
        result: match &outcome.result {
            Ok(ExportResult::Exported(_)) => "exported",
            Ok(ExportResult::Skipped) => "skipped",
            Err(_) => "failed",
        },
        path: outcome.path.display().to_string(),
        tables: exported.map_or(0, |exported| exported.tables),
        rows: exported.map_or(0, |exported| exported.rows),
        text_bytes: exported.map_or(0, |exported| exported.text_bytes),
        file_bytes: exported.map_or(0, |exported| exported.file_bytes),
        error: outcome.result.as_ref().err().map(Report::of_library),
        ms: time::milliseconds(outcome.elapsed),
    });
}

fn show(session: &Session<'_>, report: &ExportReport, began: Instant) -> Exit {
    let printer = session.printer;
    let number = |wanted: fn(&ExportResult) -> bool| {
        report.tenants.iter().filter(|tenant| tenant.result.as_ref().is_ok_and(wanted)).count()
    };
    let exported = number(|result| matches!(result, ExportResult::Exported(_)));
    let skipped = number(|result| matches!(result, ExportResult::Skipped));
    let failed = report.failures().count();
    let left = report.stopped.as_ref().map_or(0, |stop| stop.left);
    let exit = session.exit_of_run(report.stopped.as_ref(), None, failed);
    printer.record(&Summary {
        event: "summary",
        exported,
        skipped,
        failed,
        stopped: report.stopped.as_ref().map(|stop| stop.reason.as_str()),
        left,
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    if printer.is_json() {
        return exit;
    }
    let counts = [
        (exported, paint(GOOD, "exported")),
        (skipped, paint(FAINT, "skipped")),
        (failed, paint(BAD, "failed")),
        (left, paint(WARNING, "left")),
    ];
    let mut parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "tenant"))).collect();
    if parts.is_empty() {
        parts.push("there is no tenant".to_owned());
    }
    printer.info(format!("\n{} ({}).", parts.join(", "), time::elapsed(began.elapsed())));
    Report::tell_each_once(printer, report.failures());
    exit
}
