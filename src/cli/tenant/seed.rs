//! `cgk tenant:seed`, and the seeds of `cgk tenant:create --seed`

use anyhow::Result;
use cgk::{
    Config, Operator, TenantSlug,
    config::MigrationsFrom,
    lifecycle::{self, SeedObserver, SeedOptions, SeedOutcome, SeedReport, SeedSet},
    migrate::{Scope, Selection},
};
use clap::Args;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{pace::Pace, slugs};
use crate::cli::{
    exit::Exit,
    session::{Session, TargetView, isolation},
    ui::{
        printer::Printer,
        report::Report,
        style::{BAD, FAINT, GOOD, WARNING, count, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:seed acme
  cgk tenant:seed --all --canary 1 --max-failures 3
  cgk tenant:seed acme --again demo        run seeds/tenant/demo.sql once more
  cgk tenant:create acme --seed

Each file runs once per tenant, in the order of the names, as the tenant's role. Rows and the record that the file \
             has run are one transaction per tenant. A file that was changed after it ran is named and not run \
             again. Ctrl-C lets tenants in progress finish and starts no other; a second Ctrl-C cancels them.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Tenants
    #[arg(value_name = "SLUG", required_unless_present = "all", conflicts_with = "all")]
    slugs: Vec<String>,
    /// Every tenant
    #[arg(long)]
    all: bool,
    /// All tenants except these
    #[arg(long, value_name = "SLUG", requires = "all", num_args = 1.., value_delimiter = ',', allow_hyphen_values = false)]
    exclude: Vec<String>,
    /// Folder of the seeds [default: seeds/tenant, next to the migrations]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run this seed also in tenants that have had it
    #[arg(long, value_name = "NAME")]
    again: Vec<String>,
    #[command(flatten)]
    pace: Pace,
}

#[derive(Serialize)]
struct Start<'a> {
    event: &'static str,
    v: u32,
    command: &'static str,
    target: TargetView,
    isolation: &'static str,
    seeds: Vec<&'a str>,
}

#[derive(Serialize)]
struct TenantRecord<'a> {
    event: &'static str,
    tenant: &'a str,
    result: &'static str,
    seeds: &'a [String],
    changed: &'a [String],
    affected: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_seed: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_statement: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
    ms: u64,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    seeded: usize,
    unchanged: usize,
    failed: usize,
    stopped: Option<&'static str>,
    left: usize,
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let config = session.config()?;
    let seeds = SeedSet::read(&folder(&config, arguments.dir.as_deref()))?;
    let scope = if arguments.all { Scope::Tenants } else { Scope::Only(slugs::parsed(&arguments.slugs)?) };
    let selection = Selection::from(scope).excluding(slugs::parsed(&arguments.exclude)?);
    let options = options(arguments)?.interrupt(&session.shutdown.interrupt);
    let operator = Operator::connect(&config).await?;
    session.warn_of_service_login(&operator);
    printer.record(&Start {
        event: "start",
        v: crate::cli::JSON_VERSION,
        command: "tenant:seed",
        target: TargetView::of(&operator),
        isolation: isolation(operator.config()),
        seeds: seeds.files().iter().map(|file| file.name()).collect(),
    });
    session.say_database(&operator);
    let began = Instant::now();
    let report = work(session, &operator, &seeds, (&selection, &options), "tenant").await?;
    let exit = exit(session, &report);
    printer.record(&Summary {
        event: "summary",
        seeded: seeded(&report),
        unchanged: report.tenants.len() - report.failures().count() - seeded(&report),
        failed: report.failures().count(),
        stopped: report.stopped.as_ref().map(|stop| stop.reason.as_str()),
        left: report.stopped.as_ref().map_or(0, |stop| stop.left),
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    Ok(exit)
}

/// Runs the seeds in tenants that were just created. Their records have a different event.
pub(super) async fn of_new(
    session: &Session<'_>,
    operator: &Operator,
    seeds: &SeedSet,
    tenants: Vec<TenantSlug>,
) -> Result<Exit> {
    let options = SeedOptions::default().interrupt(&session.shutdown.interrupt);
    let report = work(session, operator, seeds, (&Scope::Only(tenants).into(), &options), "seed").await?;
    Ok(exit(session, &report))
}

/// Returns the seeds of the project, if no argument names another folder.
pub(super) fn of_project(config: &Config) -> Result<SeedSet> {
    Ok(SeedSet::read(&folder(config, None))?)
}

fn folder(config: &Config, named: Option<&Path>) -> PathBuf {
    let project = match config.migrations() {
        MigrationsFrom::Directory(migrations) => migrations.parent(),
        _ => None,
    };
    named.map_or_else(|| project.unwrap_or(Path::new("")).join("seeds/tenant"), Path::to_owned)
}

fn options(arguments: &Arguments) -> Result<SeedOptions> {
    let mut options = SeedOptions::default();
    for name in &arguments.again {
        options = options.again(name.strip_suffix(".sql").unwrap_or(name));
    }
    if let Some(jobs) = arguments.pace.jobs {
        options = options.jobs(jobs);
    }
    if let Some(canary) = arguments.pace.canary()? {
        options = options.canary(canary);
    }
    if let Some(failures) = arguments.pace.failures_max() {
        options = options.failures_max(failures);
    }
    Ok(options)
}

async fn work(
    session: &Session<'_>,
    operator: &Operator,
    seeds: &SeedSet,
    (selection, options): (&Selection, &SeedOptions),
    event: &'static str,
) -> Result<SeedReport> {
    let began = Instant::now();
    let mut lines = Lines { printer: session.printer, seeds, event };
    let report = lifecycle::seed(operator, seeds, selection, options, &mut lines).await?;
    show(session.printer, &report, began);
    Ok(report)
}

fn seeded(report: &SeedReport) -> usize {
    let done = report.tenants.iter().filter_map(|tenant| tenant.result.as_ref().ok());
    done.filter(|done| !done.ran.is_empty()).count()
}

fn exit(session: &Session<'_>, report: &SeedReport) -> Exit {
    let last = report.tenants.iter().rev().find_map(|tenant| tenant.result.as_ref().err());
    session.exit_of_run(report.stopped.as_ref(), last, report.failures().count())
}

struct Lines<'a> {
    printer: &'a Printer,
    seeds: &'a SeedSet,
    event: &'static str,
}

impl SeedObserver for Lines<'_> {
    fn tenant(&mut self, outcome: &SeedOutcome) {
        let (printer, slug) = (self.printer, &outcome.slug);
        let done = outcome.result.as_ref().ok();
        let ran = done.map(|done| done.ran.as_slice()).unwrap_or_default();
        let changed = done.map(|done| done.changed.as_slice()).unwrap_or_default();
        let affected = done.map_or(0, |done| done.affected);
        let (failed_seed, failed_statement) = match &outcome.failed_at {
            Some((name, statement)) => (Some(name.as_str()), Some(*statement)),
            None => (None, None),
        };
        let file = self.seeds.files().iter().find(|file| Some(file.name()) == failed_seed);
        let failed_line = file.zip(failed_statement).and_then(|(file, statement)| file.line(statement));
        printer.record(&TenantRecord {
            event: self.event,
            tenant: slug.as_str(),
            result: match done {
                None => "failed",
                Some(_) if ran.is_empty() => "unchanged",
                Some(_) => "seeded",
            },
            seeds: ran,
            changed,
            affected,
            failed_seed,
            failed_statement,
            failed_line,
            error: outcome.result.as_ref().err().map(Report::of_library),
            ms: time::milliseconds(outcome.elapsed),
        });
        match (&outcome.failed_at, done) {
            (Some((name, statement)), None) => printer.sentence(format!(
                "{} tenant {slug}: statement {statement} of {}.sql{}",
                paint(BAD, "failed"),
                sanitize(name),
                failed_line.map(|line| format!(", line {line}")).unwrap_or_default()
            )),
            (None, None) => printer.sentence(format!("{} tenant {slug}", paint(BAD, "failed"))),
            _ if ran.is_empty() => {
                printer.sentence(format!("{} tenant {slug}: it has had every seed", paint(FAINT, "unchanged")));
            }
            _ => {
                let rows = count(usize::try_from(affected).unwrap_or(usize::MAX), "row");
                let names = sanitize(&ran.join(", "));
                printer.sentence(format!("{} tenant {slug}: {names} ({rows})", paint(GOOD, "seeded")));
            }
        }
        for name in changed {
            let name = sanitize(name);
            printer
                .warn(format!("seed {name} was changed after it ran in tenant {slug}; --again {name} runs it again"));
        }
    }
}

/// Prints the result as text.
fn show(printer: &Printer, report: &SeedReport, began: Instant) {
    if printer.is_json() {
        return;
    }
    let (seeded, failed) = (seeded(report), report.failures().count());
    let counts = [
        (seeded, paint(GOOD, "seeded")),
        (report.tenants.len() - failed - seeded, paint(FAINT, "unchanged")),
        (failed, paint(BAD, "failed")),
        (report.stopped.as_ref().map_or(0, |stop| stop.left), paint(WARNING, "left")),
    ];
    let mut parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "tenant"))).collect();
    if parts.is_empty() {
        parts.push("no tenant is selected".to_owned());
    }
    printer.info(format!("\n{} ({}).", parts.join(", "), time::elapsed(began.elapsed())));
    Report::tell_each_once(printer, report.failures());
}
