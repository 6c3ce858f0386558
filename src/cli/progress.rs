//! What a run shows while it is under way.

use cgk::{
    Error, TenantSlug,
    migrate::{Observer, Outcome, RunStart, SchemaOutcome},
};
use serde::Serialize;
use std::time::{Duration, Instant};

use super::{
    printer::Printer,
    report::Report,
    style::{BAD, FAINT, GOOD, count, harmless, paint},
    time,
};

/// Shorter runs draw nothing.
const QUIET_MAX: Duration = Duration::from_millis(250);
const REDRAW: Duration = Duration::from_millis(100);
/// How often a log gets a line.
const LINE: Duration = Duration::from_secs(10);
const BAR_WIDTH: usize = 24;

/// How far a piece of work over many tenants is: on a terminal, one line that is drawn over; elsewhere a line now and then.
pub(crate) struct Meter<'a> {
    printer: &'a Printer,
    verb: &'static str,
    began: Instant,
    said: Instant,
    total: usize,
    done: usize,
    failed: usize,
    drawn: bool,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(printer: &'a Printer, verb: &'static str, total: usize) -> Self {
        let now = Instant::now();
        Self { printer, verb, began: now, said: now, total, done: 0, failed: 0, drawn: false }
    }

    /// One tenant is done.
    pub(crate) fn done(&mut self, slug: &TenantSlug, error: Option<&Error>) {
        self.done += 1;
        if let Some(error) = error {
            self.failed += 1;
            // A short run is told at its end, all at once.
            if !self.printer.is_json() && self.total > 1 && self.began.elapsed() >= QUIET_MAX {
                self.clear();
                let message = harmless(&Report::of_library(error).short());
                self.printer.complain(format!("{} {slug}: {message}", paint(BAD, "failed")));
            }
        }
        self.show();
    }

    fn clear(&mut self) {
        if self.drawn {
            self.printer.redraw("");
            self.drawn = false;
        }
    }

    fn line(&self) -> String {
        let elapsed = self.began.elapsed().as_secs_f64();
        let rate = self.done as f64 / elapsed.max(0.001);
        let left = Duration::from_secs_f64(self.total.saturating_sub(self.done) as f64 / rate.max(0.001));
        let failed = if self.failed > 0 { paint(BAD, format!("  {} failed", self.failed)) } else { String::new() };
        let bar = if self.printer.animates() { format!("{}  ", self.bar()) } else { String::new() };
        format!(
            "{}  {bar}{} of {}  {}{failed}",
            self.verb,
            self.done,
            count(self.total, "tenant"),
            paint(FAINT, format!("{rate:.0} a second, {} left", time::elapsed(left))),
        )
    }

    fn bar(&self) -> String {
        let full = (self.done * BAR_WIDTH).checked_div(self.total).unwrap_or(0).min(BAR_WIDTH);
        format!("{}{}", paint(GOOD, "━".repeat(full)), paint(FAINT, "─".repeat(BAR_WIDTH - full)))
    }

    fn show(&mut self) {
        let since = self.said.elapsed();
        if self.done >= self.total || self.total < 2 {
            return;
        }
        if self.printer.animates() {
            if self.began.elapsed() >= QUIET_MAX && (!self.drawn || since >= REDRAW) {
                self.printer.redraw(&self.line());
                (self.drawn, self.said) = (true, Instant::now());
            }
        } else if !self.printer.is_json() && since >= LINE {
            self.printer.say(self.line());
            self.said = Instant::now();
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What a migration shows; for programs, a record for every schema.
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    meter: Meter<'a>,
}

/// One schema of a run.
#[derive(Serialize)]
struct SchemaRecord<'a> {
    event: &'static str,
    schema: &'a str,
    tenant: Option<&'a str>,
    result: &'static str,
    applied: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
    attempts: u32,
    ms: u64,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(printer: &'a Printer) -> Self {
        Self { printer, meter: Meter::new(printer, "migrating", 0) }
    }
}

impl Observer for Progress<'_> {
    fn started(&mut self, start: &RunStart) {
        self.meter = Meter::new(self.printer, "migrating", start.tenants_to_visit);
    }

    fn notice(&mut self, text: &str) {
        self.meter.clear();
        self.printer.warn(text);
    }

    fn schema(&mut self, outcome: &SchemaOutcome) {
        self.printer.record(&SchemaRecord::of(outcome));
        if let Some(slug) = &outcome.slug {
            let error = match &outcome.result {
                Outcome::Failed { error } => Some(error),
                _ => None,
            };
            self.meter.done(slug, error);
        }
    }
}

impl<'a> SchemaRecord<'a> {
    fn of(outcome: &'a SchemaOutcome) -> Self {
        let (result, applied, reason, error) = match &outcome.result {
            Outcome::Migrated { applied } => {
                ("migrated", applied.iter().map(ToString::to_string).collect(), None, None)
            }
            Outcome::Skipped { reason } => ("skipped", Vec::new(), Some(reason.as_str()), None),
            Outcome::Failed { error } => ("failed", Vec::new(), None, Some(Report::of_library(error))),
        };
        Self {
            event: "schema",
            schema: outcome.schema.as_str(),
            tenant: outcome.slug.as_ref().map(cgk::TenantSlug::as_str),
            result,
            applied,
            reason,
            error,
            attempts: outcome.attempts,
            ms: time::milliseconds(outcome.elapsed),
        }
    }
}
