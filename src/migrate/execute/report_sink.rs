//! Passes the results of a run to the observer, the history and the report.

use super::{
    observer::Observer,
    report::{Outcome, RunReport, SchemaOutcome},
};
use crate::{
    ident::{Ident, SchemaName},
    migrate::{
        history::writer::HistoryWriter,
        plan::{
            SchemaPlan,
            fleet::{PlannedTenant, Step},
        },
    },
    slug::TenantSlug,
};
use std::time::Duration;

/// Collects worker results.
pub(crate) struct ReportSink<'o> {
    pub(crate) observer: &'o mut dyn Observer,
    pub(crate) report: RunReport,
    pub(crate) recorder: &'o HistoryWriter<'o>,
}

impl ReportSink<'_> {
    /// Records a result: notifies the observer and adds it to the history and the report.
    pub(crate) fn settled(&mut self, outcome: SchemaOutcome, plan: Option<&SchemaPlan<'_>>) {
        self.observer.schema(&outcome);
        self.recorder.note(&outcome, plan);
        match outcome.slug {
            Some(_) => self.report.tenants.push(outcome),
            None => self.report.public = Some(outcome),
        }
    }

    /// Returns the tenant's plan, or records it as skipped or failed.
    pub(crate) fn sort<'a>(
        &mut self,
        tenant: PlannedTenant<'a>,
    ) -> Option<(TenantSlug, SchemaPlan<'a>, Option<Ident>)> {
        let slug = &tenant.slug;
        if tenant.is_onboarding && matches!(tenant.step, Step::Apply(_)) {
            self.observer.notice(&format!(
                "tenant {slug} is onboarding and stays closed after its migrations; `cgk tenant:create {slug}` completes it"
            ));
        }
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
