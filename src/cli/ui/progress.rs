//! The output during a run.

use cgk::{
    TenantSlug,
    migrate::{Observer, Outcome, Rehearsal, RunStart, SchemaOutcome},
};
use serde::Serialize;

use super::{printer::Printer, progress_bar::ProgressBar, report::Report, time};

/// The output of a migration. In the JSON format, a record per schema.
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    bar: ProgressBar<'a>,
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
        Self { printer, bar: ProgressBar::new(printer, "migrating", 0) }
    }
}

impl Observer for Progress<'_> {
    fn started(&mut self, start: &RunStart) {
        self.bar = ProgressBar::new(self.printer, "migrating", start.tenants_to_visit);
    }

    fn rehearsing(&mut self) {
        self.bar.say("rehearsing the migrations in an empty schema");
    }

    fn rehearsed(&mut self, _: &Rehearsal) {
        self.bar.restart();
    }

    fn begun(&mut self, tenant: &TenantSlug) {
        self.bar.begun(tenant);
    }

    fn waiting(&mut self, tenant: &TenantSlug) {
        self.bar.waiting(tenant);
    }

    fn notice(&mut self, text: &str) {
        self.printer.warn(text);
    }

    fn schema(&mut self, outcome: &SchemaOutcome) {
        self.printer.record(&SchemaRecord::of(outcome));
        if let Some(slug) = &outcome.slug {
            let error = match &outcome.result {
                Outcome::Failed { error } => Some(error),
                _ => None,
            };
            self.bar.done(slug, error);
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
