//! `cgk report`

mod address;
mod request;
mod serve;

use address::Loopback;
use anyhow::Result;
use cgk::{
    Operator,
    migrate::Migrations,
    report::{self, DriftMode, EarlierReport, FleetReport, ReportOptions},
};
use clap::Args;
use serde::Serialize;
use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::cli::{
    exit::Exit,
    session::{Session, TargetView},
    ui::{
        printer::Printer,
        report::{Refusal, display_path},
        style::count,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk report                                     write fleet.html
  cgk report --out status.html --data status.json
  cgk report --compare last-week.json            with growth since then
  cgk report --drift                             compare every schema first
  cgk report --json                              the data, and no page
  cgk report --serve                             on a free port of 127.0.0.1

Writes nothing to the database; a login that may only read and a standby suffice. The page is one file without \
             scripts. It names tenants and sizes: keep it as private as the registry.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// File for the page, - for standard output [default: fleet.html; with --json none]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// File for the same data as JSON, - for standard output
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Show growth since an earlier report, a file that --data wrote
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Compare every schema with the migrations, also in a large fleet
    #[arg(long)]
    drift: bool,
    /// How many tenants a list names
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    top: u16,
    /// Serve the page to browsers on this machine until Ctrl-C [default: a free port]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, require_equals = true, default_missing_value = "127.0.0.1:0", conflicts_with_all = ["out", "data"])]
    serve: Option<Loopback>,
}

impl Arguments {
    /// Whether the command serves the page until a signal.
    pub(crate) fn serves(&self) -> bool {
        self.serve.is_some()
    }
}

/// The result, which `--data` also writes.
#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: TargetView,
    #[serde(flatten)]
    report: &'a FleetReport,
    exit: Exit,
}

impl<'a> Answer<'a> {
    fn of(operator: &Operator, report: &'a FleetReport) -> Self {
        Self { v: crate::cli::JSON_VERSION, target: TargetView::of(operator), report, exit: Exit::Done }
    }

    fn text(&self) -> String {
        serde_json::to_string(self).expect("a record has text keys and no failing parts")
    }
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let options = arguments.options()?;
    let page = match &arguments.out {
        None if printer.is_json() => None,
        out => Some(out.clone().unwrap_or_else(|| "fleet.html".into())),
    };
    refuse_shared(page.as_deref(), arguments.data.as_deref(), printer.is_json())?;
    let (config, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    if let Some(address) = arguments.serve {
        return serve::run(session, address, serve::Source::new(config, migrations, operator, options)).await;
    }
    let report = report::examine(&operator, &migrations, &options).await?;
    let answer = Answer::of(&operator, &report);
    if let Some(file) = &page {
        write(printer, file, &report::html(&report))?;
    }
    if let Some(file) = &arguments.data {
        write(printer, file, &format!("{}\n", answer.text()))?;
    }
    printer.record(&answer);
    let files = || page.iter().chain(&arguments.data);
    // Standard output contains the names of the files, or only one of the results.
    let holds_answer = files().any(|file| is_standard_output(file));
    for file in files().filter(|file| !is_standard_output(file)) {
        match holds_answer {
            true => printer.info(display_path(file)),
            false => printer.output(display_path(file)),
        }
    }
    printer.info(format!("Report about {}.", count(report.tenants.len(), "tenant")));
    for unread in &report.unread {
        printer.warn(format!("{} not in the report: {}", unread.part, unread.reason));
    }
    Ok(Exit::Done)
}

impl Arguments {
    fn options(&self) -> Result<ReportOptions> {
        let mut options = ReportOptions::default();
        options.named_max = self.top.into();
        if self.drift {
            options.drift = DriftMode::Compared;
        }
        if let Some(file) = &self.compare {
            let json = fs::read_to_string(file).map_err(|error| Refusal::file("read", file, &error))?;
            options.earlier = Some(EarlierReport::parse(&json)?);
        }
        Ok(options)
    }
}

fn is_standard_output(file: &Path) -> bool {
    file == Path::new("-")
}

/// Refuses two results for one destination: one of them would be lost or unreadable.
fn refuse_shared(page: Option<&Path>, data: Option<&Path>, is_json: bool) -> Result<(), Refusal> {
    let answers =
        [page, data].into_iter().flatten().filter(|file| is_standard_output(file)).count() + usize::from(is_json);
    let place = |file: &Path| std::path::absolute(file).ok();
    let shared = match (page, data) {
        (Some(page), Some(data)) if place(page) == place(data) => display_path(page),
        (page, data) if answers > 1 && (page.is_some() || data.is_some()) => "standard output".into(),
        _ => return Ok(()),
    };
    Err(Refusal {
        message: format!("page, data and --json need a place each, and {shared} is named twice"),
        hint: "Name different files with --out and --data. Nothing was changed.".into(),
        exit: Exit::Usage,
    })
}

fn write(printer: &Printer, file: &Path, text: &str) -> Result<()> {
    if is_standard_output(file) {
        printer.data(text);
        return Ok(());
    }
    Ok(fs::write(file, text).map_err(|error| Refusal::file("write", file, &error))?)
}

/// The page and the JSON of one report.
struct Rendered {
    page: String,
    json: String,
}

impl Rendered {
    async fn of(operator: &Operator, migrations: &Migrations, options: &ReportOptions) -> cgk::Result<Self> {
        let report = report::examine(operator, migrations, options).await?;
        Ok(Self { page: report::html(&report), json: Answer::of(operator, &report).text() })
    }
}
