//! The partially applied files of a plan.

use cgk::migrate::{FleetPlan, MigrationFile, NextStatement, StartedMigration, Step};
use std::collections::BTreeMap;

use crate::cli::ui::{
    printer::{Annotation, Printer},
    report::{display_path, listed},
    style::{WARNING, paint, sanitize},
};

/// The schemas in which one file got equally far.
struct Standstill<'a> {
    name: String,
    file: &'a MigrationFile,
    started: &'a StartedMigration,
    /// Empty for the shared schema.
    tenants: Vec<&'a str>,
}

/// Prints which files of a plan are partially applied, in which schemas, and where a run continues.
pub(super) fn show(printer: &Printer, plan: &FleetPlan<'_>) {
    for standstill in standstills(plan) {
        let schemas = match standstill.tenants.is_empty() {
            true => "the shared schema".to_owned(),
            false => listed(&standstill.tenants),
        };
        let text = standstill.text();
        let path = display_path(standstill.file.path());
        printer.annotate(&Annotation {
            level: "warning",
            title: "partially applied",
            place: Some((&path, standstill.started.next.map_or(1, |next| next.line), 1)),
            message: &format!("{schemas}: {text}"),
        });
        printer.sentence(format!("{} {schemas}: {}", paint(WARNING, "started"), sanitize(&text)));
    }
}

fn standstills<'a>(plan: &'a FleetPlan<'_>) -> Vec<Standstill<'a>> {
    let mut found = Vec::new();
    if let (Some(public), Some(started)) = (&plan.public, &plan.public_started)
        && let Some(file) = first(&public.pending, started)
    {
        found.push(Standstill { name: format!("public/{}", file.id()), file, started, tenants: vec![] });
    }
    let mut groups: BTreeMap<_, Standstill<'a>> = BTreeMap::new();
    for tenant in &plan.tenants {
        if let (Step::Apply(steps), Some(started)) = (&tenant.step, &tenant.started)
            && let Some(file) = first(&steps.pending, started)
        {
            let name = format!("tenant/{}", file.id());
            let group = groups.entry((started.id.version, started.done, started.next));
            group
                .or_insert_with(|| Standstill { name, file, started, tenants: vec![] })
                .tenants
                .push(tenant.slug.as_str());
        }
    }
    found.extend(groups.into_values());
    found
}

/// Returns the file with which a run continues.
fn first<'a>(pending: &[&'a MigrationFile], started: &StartedMigration) -> Option<&'a MigrationFile> {
    pending.first().copied().filter(|file| *file.id() == started.id)
}

impl Standstill<'_> {
    /// Returns which statements are done, and with which one a run continues.
    fn text(&self) -> String {
        let Self { name, file, started, .. } = self;
        let of = started.statements.unwrap_or_default();
        let done = match started.done {
            0 => format!("{name} stopped in statement 1 of {of}"),
            1 => format!("{name} stopped after statement 1 of {of}, which is done"),
            done => format!("{name} stopped after statement {done} of {of}; statements 1 to {done} are done"),
        };
        let place = |next: NextStatement| format!("{} ({}:{})", next.number, display_path(file.path()), next.line);
        match started.next {
            Some(next) if next.is_unclear => {
                format!("{done}; a run checks whether statement {} is done, and continues there", place(next))
            }
            Some(next) => format!("{done}; a run continues with statement {}", place(next)),
            None => format!("{done}; a run only records it"),
        }
    }
}
