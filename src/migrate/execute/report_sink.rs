//! Where the outcomes of a run go: to the observer, into the history and into the report.

use super::{
    observer::Observer,
    report::{Outcome, RunReport, SchemaOutcome},
};
use crate::{
    ident::{Ident, SchemaName},
    migrate::{
        history::writer::HistoryWriter,
        plan::{
            Plan,
            fleet::{PlannedTenant, Step},
        },
    },
    slug::TenantSlug,
};
use std::time::Duration;

/// Where the workers hand in what they did.
pub(crate) struct ReportSink<'o> {
    pub(crate) observer: &'o mut dyn Observer,
    pub(crate) report: RunReport,
    pub(crate) recorder: &'o HistoryWriter<'o>,
}

impl ReportSink<'_> {
    /// Takes an outcome: tells the observer, takes note for the history, puts it into the report.
    pub(crate) fn settled(&mut self, outcome: SchemaOutcome, plan: Option<&Plan<'_>>) {
        self.observer.schema(&outcome);
        self.recorder.note(&outcome, plan);
        match outcome.slug {
            Some(_) => self.report.tenants.push(outcome),
            None => self.report.public = Some(outcome),
        }
    }

    /// Sorts out a tenant: what is to be applied to it; one that is skipped or refused is settled at once.
    pub(crate) fn sort<'a>(&mut self, tenant: PlannedTenant<'a>) -> Option<(TenantSlug, Plan<'a>, Option<Ident>)> {
        let result = match tenant.step {
            Step::Apply(plan) => return Some((tenant.slug, plan, tenant.owner)),
            Step::Skip { reason } => Outcome::Skipped { reason },
            Step::Refuse(error) => Outcome::Failed { error },
        };
        let (schema, slug) = (SchemaName::of_tenant(&tenant.slug), Some(tenant.slug));
        self.settled(SchemaOutcome { schema, slug, result, elapsed: Duration::ZERO, attempts: 0 }, None);
        None
    }
}
