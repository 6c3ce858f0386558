//! `cgk doctor`

use anyhow::Result;
use cgk::doctor::{self, Check, Diagnosis, DoctorOptions, Verdict};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

use crate::cli::{
    exit::Exit,
    session::{self, Session},
    ui::{
        style::{BAD, COMMAND, FAINT, GOOD, WARNING, count, paint, sanitize},
        wrap,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk doctor
  cgk doctor --json
  cgk doctor --deny-warnings    exit code 1 unless every check is ok

Checks the server, rights, objects, the fleet and the shared tables, and changes nothing. A check that the role may \
             not make is unknown. Exit code 1 if a check fails.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// End with exit code 1 if a check warns or could not look
    #[arg(long)]
    deny_warnings: bool,
    /// Age from which a transaction of another session is old [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    transaction_age: Option<Duration>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    target: session::TargetView,
    checks: Vec<CheckView<'a>>,
    exit: Exit,
}

#[derive(Serialize)]
struct CheckView<'a> {
    check: &'a str,
    /// `ok`, `unknown`, `warning` or `failed`.
    verdict: &'static str,
    found: &'a str,
    objects: &'a [String],
    fix: Option<&'a str>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (_, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    let mut options = DoctorOptions::default();
    if let Some(age) = arguments.transaction_age {
        options.transaction_age_max = age;
    }
    let diagnosis = doctor::examine(&operator, &migrations, &options).await?;
    let exit = match diagnosis.worst() {
        Verdict::Failed => Exit::Failed,
        Verdict::Warning | Verdict::Unknown if arguments.deny_warnings => Exit::Failed,
        _ => Exit::Done,
    };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        target: session::TargetView::of(&operator),
        checks: diagnosis.checks.iter().map(CheckView::of).collect(),
        exit,
    });
    for check in &diagnosis.checks {
        for line in lines(check) {
            printer.output(line);
        }
    }
    printer.info(summary(&diagnosis));
    Ok(exit)
}

impl<'a> CheckView<'a> {
    fn of(check: &'a Check) -> Self {
        Self {
            check: check.name,
            verdict: check.verdict.name(),
            found: &check.found,
            objects: &check.objects,
            fix: check.fix.as_deref(),
        }
    }
}

fn lines(check: &Check) -> Vec<String> {
    let style = match check.verdict {
        Verdict::Good => GOOD,
        Verdict::Unknown => FAINT,
        Verdict::Warning => WARNING,
        Verdict::Failed => BAD,
    };
    let width = wrap::width();
    let verdict = paint(style, format!("{:8}", check.verdict.name()));
    let mut lines = vec![wrap::hanging(&format!("{verdict} {:28} ", check.name), &sanitize(&check.found), width)];
    lines.extend(check.objects.iter().map(|object| wrap::hanging("           - ", &sanitize(object), width)));
    // This is one line, because users copy it.
    lines.extend(check.fix.iter().map(|fix| format!("           fix: {}", paint(COMMAND, sanitize(fix)))));
    lines
}

/// Returns a text such as "23 checks: 20 ok, 1 warning, 1 failed."
fn summary(diagnosis: &Diagnosis) -> String {
    let checks = &diagnosis.checks;
    let of = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let parts: Vec<String> = [Verdict::Good, Verdict::Unknown, Verdict::Warning, Verdict::Failed]
        .into_iter()
        .filter(|verdict| of(*verdict) > 0)
        .map(|verdict| match verdict {
            Verdict::Warning => count(of(verdict), "warning"),
            verdict => format!("{} {}", of(verdict), verdict.name()),
        })
        .collect();
    format!("{}: {}.", count(checks.len(), "check"), parts.join(", "))
}
