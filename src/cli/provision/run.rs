//! `cgk provision`

use anyhow::Result;
use cgk::{
    Operator,
    lifecycle::Creation,
    provisioning::{self, Attempt, AttemptOutcome, ServeOptions, ServeReport},
};
use clap::Args;
use serde::Serialize;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::{Duration, Instant},
};

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        printer::Printer,
        report::Report,
        style::{BAD, COMMAND, GOOD, WARNING, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk provision             create the tenants that are requested now
  cgk provision --watch     keep creating them, until Ctrl-C or SIGTERM
  cgk provision --watch --json

Creates the tenants that services have requested, as `cgk tenant:create` does. Several processes can serve one \
             queue. A request that fails is tried again after a pause that doubles; `cgk provision:list` shows the \
             cause. The first signal ends it after the tenant in progress, the second one at once.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Wait for further requests until Ctrl-C or SIGTERM
    #[arg(long)]
    watch: bool,
    /// Number of attempts before a request counts as failed
    #[arg(long, value_name = "N", default_value = "10", value_parser = number::at_least_one)]
    attempts: NonZeroUsize,
    /// Look at the queue every N seconds, also without a notice
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "watch", value_parser = number::seconds)]
    poll: NonZeroU32,
}

#[derive(Serialize)]
struct AttemptRecord<'a> {
    event: &'static str,
    request: String,
    tenant: &'a str,
    attempt: u32,
    /// `created`, `finished`, `existed`, `postponed` or `failed`.
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
    /// The minimum time until the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_ms: Option<u64>,
    ms: u64,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    done: usize,
    postponed: usize,
    failed: usize,
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let config = session.config()?;
    let migrations = session.migrations(&config)?;
    let operator = Operator::connect(&config).await?;
    session.warn_of_service_login(&operator);
    session.introduce("provision", &operator, &migrations);
    drop(operator);
    let mut options = ServeOptions::default().interrupt(&session.shutdown.interrupt);
    options.attempts_max = u32::try_from(arguments.attempts.get()).unwrap_or(u32::MAX);
    options.poll_interval = Duration::from_secs(arguments.poll.get().into());
    let began = Instant::now();
    let mut attempted = |attempt: &Attempt| show(printer, attempt);
    let report = match arguments.watch {
        true => provisioning::serve(&config, &migrations, &options, &mut attempted).await?,
        false => provisioning::serve_due(&config, &migrations, &options, &mut attempted).await?,
    };
    let exit = match (arguments.watch, report) {
        (true, _) => Exit::Done,
        (false, ServeReport { interrupted: true, .. }) => session.shutdown.exit(),
        (false, ServeReport { postponed: 0, failed: 0, .. }) => Exit::Done,
        (false, _) => Exit::Partial,
    };
    printer.record(&Summary {
        event: "summary",
        done: report.done,
        postponed: report.postponed,
        failed: report.failed,
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    printer.output(totals(&report));
    if report.postponed + report.failed > 0 {
        printer.info(format!("Next: {} shows what has failed.", paint(COMMAND, "cgk provision:list")));
    }
    Ok(exit)
}

fn totals(report: &ServeReport) -> String {
    let counts = [
        (report.done, paint(GOOD, "provisioned")),
        (report.postponed, paint(WARNING, "postponed")),
        (report.failed, paint(BAD, "failed")),
    ];
    let parts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if parts.is_empty() { "No request was due.".into() } else { format!("Requests: {}.", parts.join(", ")) }
}

fn show(printer: &Printer, attempt: &Attempt) {
    let (result, error, pause) = match &attempt.outcome {
        AttemptOutcome::Done(created) => {
            let result = match created.creation {
                // Only the row existed: the first attempt has created everything else.
                Creation::New | Creation::Finished => "created",
                Creation::Existed => "existed",
            };
            (result, None, None)
        }
        AttemptOutcome::Postponed { error, pause } => ("postponed", Some(error), Some(*pause)),
        AttemptOutcome::Failed { error } => ("failed", Some(error), None),
        _ => ("unknown", None, None),
    };
    printer.record(&AttemptRecord {
        event: "attempt",
        request: attempt.id.to_string(),
        tenant: &attempt.slug,
        attempt: attempt.number,
        result,
        error: error.map(Report::of_library),
        pause_ms: pause.map(time::milliseconds),
        ms: time::milliseconds(attempt.elapsed),
    });
    let slug = sanitize(&attempt.slug);
    let elapsed = time::elapsed(attempt.elapsed);
    let (style, more) = match (result, error, pause) {
        ("created" | "existed", ..) => (GOOD, format!(" in {elapsed}")),
        (_, Some(error), Some(pause)) => {
            let next = format!("next attempt in {} at the earliest", time::elapsed(pause));
            (WARNING, format!(" (attempt {}; {next}): {}", attempt.number, Report::of_library(error).short()))
        }
        (_, Some(error), None) => {
            (BAD, format!(" (attempt {}): {}", attempt.number, Report::of_library(error).short()))
        }
        _ => (WARNING, String::new()),
    };
    printer.output(format!("{} tenant {slug}{more}", paint(style, result)));
}
