//! The output during a run.

use cgk::{
    TenantSlug,
    ident::SchemaName,
    migrate::{BlockingTransaction, Observer, Outcome, Rehearsal, RunStart, SchemaOutcome},
};
use serde::Serialize;
use std::collections::BTreeSet;

use super::{
    printer::Printer,
    progress_bar::ProgressBar,
    report::{Report, without_here},
    style::{COMMAND, paint, sanitize},
    time,
};

/// The output of a migration. In the JSON format, a record per schema.
pub(crate) struct Progress<'a> {
    printer: &'a Printer,
    bar: ProgressBar<'a>,
    /// The waits that were reported: the schema, and the process for which it waits.
    blocked: BTreeSet<(String, Option<i32>)>,
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
        Self { printer, bar: ProgressBar::new(printer, "migrating", 0), blocked: BTreeSet::new() }
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

    fn blocked(&mut self, schema: &SchemaName, by: &BlockingTransaction) {
        if !self.printer.is_json() && self.blocked.insert((schema.as_str().to_owned(), by.pid)) {
            self.printer.info(waits_for(schema, by));
        }
        self.bar.tick();
    }

    fn notice(&mut self, text: &str) {
        self.printer.warn(without_here(text));
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
            result if result.is_by_another_run() => ("by_another_run", Vec::new(), None, None),
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

/// Returns a text such as `tenant_acme waits for process 4242 of app (psql), idle in transaction for 12 s.`
fn waits_for(schema: &SchemaName, by: &BlockingTransaction) -> String {
    let schema = schema.as_str();
    let Some(pid) = by.pid else {
        let list = paint(COMMAND, "select * from pg_catalog.pg_prepared_xacts");
        return format!("{schema} waits for a prepared transaction: {list} lists them.");
    };
    let role = if by.role.is_empty() { String::new() } else { format!(" of {}", by.role) };
    let application = if by.application.is_empty() { String::new() } else { format!(" ({})", by.application) };
    let state = if by.state.is_empty() { String::new() } else { format!(", {}", by.state) };
    let age = by.age.map(|age| format!(" for {}", time::elapsed(age))).unwrap_or_default();
    let end = paint(COMMAND, format!("select pg_catalog.pg_terminate_backend({pid})"));
    let session = sanitize(&format!("process {pid}{role}{application}{state}{age}"));
    format!("{schema} waits for {session}. It continues when that transaction ends. {end} ends its session.")
}
