//! What `cgk migrate --plan` shows.

use cgk::{
    ErrorKind,
    migrate::{FleetPlan, MigrationFile, MigrationId, PlannedTenant, Step},
};
use serde::Serialize;
use std::collections::BTreeMap;

use super::{
    exit::Exit,
    printer::Printer,
    report::{Report, listed, shown},
    session::TargetView,
    style::{BAD, COMMAND, HEADING, WARNING, count, harmless, paint},
    table::{Grid, Look},
};

/// What `--check` answers. What cannot be migrated at all counts before what only waits to be.
pub(crate) fn checked(plan: &FleetPlan<'_>) -> Exit {
    let refused = || {
        plan.tenants.iter().filter_map(|tenant| match &tenant.step {
            Step::Refuse(error) => Some(error.kind()),
            _ => None,
        })
    };
    if refused().any(|kind| kind == ErrorKind::Drift) {
        Exit::Drift
    } else if refused().next().is_some() {
        Exit::Partial
    } else if plan.is_empty() {
        Exit::Done
    } else {
        Exit::Pending
    }
}

#[derive(Serialize)]
struct PlanRecord<'a> {
    event: &'static str,
    v: u32,
    target: TargetView,
    public: Vec<String>,
    tenants: Vec<PlannedView<'a>>,
    at_head: usize,
    exit: Exit,
}

#[derive(Serialize)]
struct PlannedView<'a> {
    tenant: &'a str,
    step: &'static str,
    pending: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
}

/// One migration of a plan, and in how many schemas it is pending.
struct PlannedFile<'a> {
    file: &'a MigrationFile,
    tenants: Vec<&'a str>,
}

pub(crate) fn show(printer: &Printer, plan: &FleetPlan<'_>, target: TargetView, exit: Exit) {
    printer.record(&PlanRecord {
        event: "plan",
        v: super::JSON_VERSION,
        target,
        public: plan.public.iter().flat_map(|public| public.pending.iter()).map(|file| file.id().to_string()).collect(),
        tenants: plan.tenants.iter().map(PlannedView::of).collect(),
        at_head: plan.at_head,
        exit,
    });
    let public: Vec<&MigrationFile> = plan.public.iter().flat_map(|public| public.pending.iter().copied()).collect();
    let mut tenants: BTreeMap<&MigrationId, PlannedFile<'_>> = BTreeMap::new();
    for tenant in &plan.tenants {
        if let Step::Apply(pending) = &tenant.step {
            for file in pending.pending.iter() {
                let entry = tenants.entry(file.id()).or_insert_with(|| PlannedFile { file, tenants: Vec::new() });
                entry.tenants.push(tenant.slug.as_str());
            }
        }
    }
    if plan.is_empty() {
        let at_head =
            if plan.at_head > 0 { format!("; {} at head", count(plan.at_head, "tenant")) } else { String::new() };
        printer.answer(format!("Nothing is pending{at_head}."));
    } else {
        let mut grid = Grid::new(&["MIGRATION", "PENDING IN", ""]);
        for file in &public {
            let name = format!("public/{}", file.id());
            grid.row([(name.as_str(), Look::Plain), ("the shared schema", Look::Warning), ("", Look::Plain)]);
        }
        for planned in tenants.values() {
            let name = format!("tenant/{}", planned.file.id());
            let pending = count(planned.tenants.len(), "tenant");
            let slugs = listed(&planned.tenants);
            grid.row([(name.as_str(), Look::Plain), (pending.as_str(), Look::Warning), (slugs.as_str(), Look::Faint)]);
        }
        printer.answer(grid);
    }
    if printer.is_verbose() {
        for file in public.iter().copied().chain(tenants.values().map(|planned| planned.file)) {
            printer.answer(format!("\n{}\n{}", paint(HEADING, shown(file.path())), harmless(file.sql().trim_end())));
        }
    }
    for tenant in &plan.tenants {
        match &tenant.step {
            Step::Apply(_) => {}
            Step::Skip { reason } => {
                printer.answer(format!("{} {}: {}", paint(WARNING, "skipped"), tenant.slug, harmless(reason)));
            }
            Step::Refuse(error) => {
                let report = Report::of_library(error);
                printer.answer(format!("{} {}: {}", paint(BAD, "refused"), tenant.slug, harmless(report.message())));
                for problem in report.problems() {
                    printer.answer(format!("  {}", harmless(problem)));
                }
            }
        }
    }
    if !plan.is_empty() {
        printer.say(format!("Nothing has been changed. Next: {}", paint(COMMAND, "cgk migrate")));
    }
}

impl<'a> PlannedView<'a> {
    fn of(tenant: &'a PlannedTenant<'_>) -> Self {
        let (step, pending, reason, error) = match &tenant.step {
            Step::Apply(plan) => ("apply", plan.pending.iter().map(|file| file.id().to_string()).collect(), None, None),
            Step::Skip { reason } => ("skip", Vec::new(), Some(reason.as_str()), None),
            Step::Refuse(error) => ("refuse", Vec::new(), None, Some(Report::of_library(error))),
        };
        Self { tenant: tenant.slug.as_str(), step, pending, reason, error }
    }
}
