//! `cgk tenant:create` with several tenants.

use anyhow::Result;
use cgk::{
    Db,
    lifecycle::{self, CreateManyOptions, CreateManyReport, CreateObserver, CreateOutcome, Creation, NewTenant},
    migrate::StopReason,
};
use serde::Serialize;
use std::{num::NonZeroUsize, time::Instant};

use super::seed;
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        printer::Printer,
        progress_bar::ProgressBar,
        report::Report,
        style::{BAD, COMMAND, GOOD, WARNING, count, paint},
        table::{self, CellStyle, Grid, TenantRow},
        time,
    },
};

#[derive(Serialize)]
struct TenantRecord<'a> {
    event: &'static str,
    tenant: &'a str,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
    ms: u64,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    created: usize,
    finished: usize,
    existed: usize,
    failed: usize,
    stopped: Option<&'static str>,
    left: usize,
    ms: u64,
    exit: Exit,
}

/// Options for the creation of the tenants.
pub(crate) struct How {
    pub(crate) jobs: Option<NonZeroUsize>,
    pub(crate) failures_max: Option<NonZeroUsize>,
    /// Whether the tenants are seeded.
    pub(crate) seed: bool,
}

pub(crate) async fn run(session: &Session<'_>, tenants: &[NewTenant], how: How) -> Result<Exit> {
    let printer = session.printer;
    let (config, migrations, operator) = session.open().await?;
    let seeds = how.seed.then(|| seed::of_project(&config)).transpose()?;
    session.introduce("tenant:create", &operator, &migrations);
    let db = Db::connect(&config).await?;
    let mut options = CreateManyOptions::default().interrupt(&session.shutdown.interrupt);
    if let Some(jobs) = how.jobs {
        options = options.jobs(jobs);
    }
    if let Some(failures) = how.failures_max {
        options = options.failures_max(failures);
    }
    let began = Instant::now();
    let mut progress = Progress { printer, bar: ProgressBar::new(printer, "creating", tenants.len()) };
    let report = lifecycle::create_many(&operator, &db, &migrations, tenants, &options, &mut progress).await?;
    drop(progress);
    let mut exit = exit(session, &report);
    let is_created = |tenant: &&CreateOutcome| tenant.result.is_ok();
    let created: Vec<_> = report.tenants.iter().filter(is_created).map(|tenant| tenant.slug.clone()).collect();
    if let Some(seeds) = seeds.filter(|_| !created.is_empty() && report.stopped.is_none()) {
        let of_seeds = seed::of_new(session, &operator, &seeds, created).await?;
        exit = if exit == Exit::Done { of_seeds } else { exit };
    }
    printer.record(&Summary {
        event: "summary",
        created: report.count(Creation::New),
        finished: report.count(Creation::Finished),
        existed: report.count(Creation::Existed),
        failed: report.failed(),
        stopped: report.stopped.as_ref().map(|stop| stop.reason.as_str()),
        left: report.stopped.as_ref().map_or(0, |stop| stop.left),
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    if !printer.is_json() {
        printer.output(grid(&report, printer.is_verbose()));
        printer.sentence(format!("\n{}", totals(&report, began)));
        let failures = report.tenants.iter().filter_map(|tenant| Some((&tenant.slug, tenant.result.as_ref().err()?)));
        Report::tell_each_once(printer, failures);
        printer.info(next(&report));
    }
    Ok(exit)
}

struct Progress<'a> {
    printer: &'a Printer,
    bar: ProgressBar<'a>,
}

impl CreateObserver for Progress<'_> {
    fn tenant(&mut self, outcome: &CreateOutcome) {
        let (result, error) = match &outcome.result {
            Ok(creation) => (word(*creation), None),
            Err(error) => ("failed", Some(error)),
        };
        self.printer.record(&TenantRecord {
            event: "tenant",
            tenant: outcome.slug.as_str(),
            result,
            error: error.map(Report::of_library),
            ms: time::milliseconds(outcome.elapsed),
        });
        self.bar.done(&outcome.slug, error);
    }
}

fn word(creation: Creation) -> &'static str {
    match creation {
        Creation::New => "created",
        Creation::Finished => "finished",
        Creation::Existed => "existed",
    }
}

fn exit(session: &Session<'_>, report: &CreateManyReport) -> Exit {
    let last = report.tenants.iter().rev().find_map(|tenant| tenant.result.as_ref().err());
    session.exit_of_run(report.stopped.as_ref(), last, report.failed())
}

fn grid(report: &CreateManyReport, everything: bool) -> Grid {
    let row = |outcome: &CreateOutcome| {
        let (result, style, text) = match &outcome.result {
            Ok(creation) => (word(*creation), CellStyle::Good, String::new()),
            Err(error) => ("failed", CellStyle::Bad, Report::of_library(error).short()),
        };
        TenantRow {
            alike: format!("{result} {text}"),
            cells: [
                (outcome.slug.to_string(), CellStyle::Plain),
                (result.to_owned(), style),
                (text, CellStyle::Plain),
                (time::elapsed(outcome.elapsed), CellStyle::Faint),
            ],
            good: style == CellStyle::Good,
            always: false,
        }
    };
    let rows: Vec<_> = report.tenants.iter().map(row).collect();
    table::tenants(&["TENANT", "RESULT", "", "TIME"], &rows, everything, "-v")
}

/// Returns a text such as `3 tenants created, 1 tenant failed (212 ms, 14 a second).`
fn totals(report: &CreateManyReport, began: Instant) -> String {
    let left = report.stopped.as_ref().map_or(0, |stop| stop.left);
    let counts = [
        (report.count(Creation::New), paint(GOOD, "created")),
        (report.count(Creation::Finished), paint(GOOD, "finished")),
        (report.count(Creation::Existed), "existed already".to_owned()),
        (report.failed(), paint(BAD, "failed")),
        (left, paint(WARNING, "left")),
    ];
    let parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "tenant"))).collect();
    let made = report.count(Creation::New) + report.count(Creation::Finished);
    let elapsed = began.elapsed();
    let rate = match made {
        0..=1 => String::new(),
        _ => format!(", {:.0} a second", made as f64 / elapsed.as_secs_f64().max(0.001)),
    };
    format!("{} ({}{rate}).", parts.join(", "), time::elapsed(elapsed))
}

fn next(report: &CreateManyReport) -> String {
    let again = "run the same command again: complete tenants are skipped";
    match report.stopped.as_ref().map(|stop| stop.reason) {
        Some(StopReason::Interrupted) => format!("Interrupted. To continue, {again}."),
        Some(_) => format!("Stopped early. Fix the cause and {again}."),
        None if report.failed() > 0 => format!("Fix the cause and {again}."),
        None => format!("Next: {}", paint(COMMAND, "cgk tenant:list")),
    }
}
