//! `cgk migrate:repair`

use anyhow::Result;
use cgk::{
    TenantSlug,
    drift::{self, Difference, SchemaDrift},
    migrate::{self, Repair, RepairOutcome, Repaired, Scope, Version},
};
use clap::{ArgGroup, Args};
use serde::Serialize;

use crate::cli::{
    drift::DifferenceView,
    exit::Exit,
    session::Session,
    tenant::view::StartedView,
    ui::{
        report::{Refusal, Report, without_here},
        style::{BAD, FAINT, WARNING, count, paint, sanitize},
    },
};

pub(crate) const USAGE: &str = "cgk migrate:repair <--version N|--forget N|--comment>\n    <--public|--tenant SLUG...|--all> [--reason TEXT] [OPTIONS]";

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk migrate:repair --version 3 --all --reason \"a typo in a comment\"
  cgk migrate:repair --version 3 --tenant acme --reason \"as it was run by hand\"
  cgk migrate:repair --forget 9 --public --reason \"the file was withdrawn\"
  cgk migrate:repair --comment --all

No migration is run. The reason is stored in the ledger, schema_migrations.repairs. Remaining \
             differences are listed. Prefer to restore the file as it was applied and to put the change into a \
             new file.";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true), group = ArgGroup::new("scope").required(true))]
pub(crate) struct Arguments {
    /// Accept the edited file of this version as applied
    #[arg(long, group = "what", value_name = "VERSION", requires = "reason")]
    version: Option<Version>,
    /// Remove the row of this version from the ledger; its file no longer exists
    #[arg(long, group = "what", value_name = "VERSION", requires = "reason")]
    forget: Option<Version>,
    /// Rewrite the ledger's comment from its rows
    #[arg(long, group = "what")]
    comment: bool,
    /// The shared schema
    #[arg(long, group = "scope")]
    public: bool,
    /// These tenants
    #[arg(long, group = "scope", value_name = "SLUG", num_args = 1.., allow_hyphen_values = false)]
    tenant: Vec<String>,
    /// Every tenant
    #[arg(long, group = "scope")]
    all: bool,
    /// Reason; stored in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct SchemaRecord<'a> {
    event: &'static str,
    schema: &'a str,
    tenant: Option<&'a str>,
    result: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repaired: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started: Option<StartedView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remains: Vec<DifferenceView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    repaired: usize,
    unchanged: usize,
    failed: usize,
    drifted: usize,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (scope, repair) = (arguments.scope()?, arguments.repair()?);
    let (_, migrations, operator) = session.open().await?;
    session.introduce("migrate:repair", &operator, &migrations);
    let repaired = migrate::repair(&operator, &migrations, &scope, &repair).await?;
    let remaining = drift::verify(&operator, &migrations, &scope).await?;
    let (mut changed, mut unchanged, mut failed) = (0, 0, 0);
    for one in &repaired {
        let remains = remaining.schemas().find(|schema| schema.schema == one.schema);
        match &one.outcome {
            RepairOutcome::Repaired { .. } => changed += 1,
            RepairOutcome::Failed { .. } => failed += 1,
            _ => unchanged += 1,
        }
        printer.record(&record(one, remains));
        let telling = !matches!(one.outcome, RepairOutcome::NothingToDo | RepairOutcome::NotApplied);
        if telling
            || remains.is_some_and(|schema| !schema.differences.is_empty())
            || printer.is_verbose()
            || repaired.len() == 1
        {
            printer.sentence(lines(one, remains));
        }
    }
    let drifted = remaining.schemas().filter(|schema| !schema.differences.is_empty()).count();
    let exit = match (failed, drifted) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::Drift,
        (failed, _) if failed == repaired.len() => Exit::Failed,
        _ => Exit::Partial,
    };
    let still = if drifted > 0 { format!(", {drifted} still with differences") } else { String::new() };
    printer.sentence(format!("{} repaired, {unchanged} unchanged, {failed} failed{still}.", count(changed, "ledger")));
    printer.record(&Summary { event: "summary", repaired: changed, unchanged, failed, drifted, exit });
    Ok(exit)
}

impl Arguments {
    fn scope(&self) -> Result<Scope> {
        if self.public {
            return Ok(Scope::Public);
        }
        if self.all {
            return Ok(Scope::Tenants);
        }
        Ok(Scope::Only(self.tenant.iter().map(|slug| slug.parse()).collect::<Result<Vec<TenantSlug>, _>>()?))
    }

    fn repair(&self) -> Result<Repair> {
        let reason = || {
            self.reason.clone().filter(|reason| !reason.trim().is_empty()).ok_or_else(|| Refusal {
                message: "--reason is empty".into(),
                hint: "Write a reason: it is stored in the ledger.".into(),
                exit: Exit::Usage,
            })
        };
        Ok(match (self.version, self.forget) {
            (Some(version), _) => Repair::Accept { version, reason: reason()? },
            (_, Some(version)) => Repair::Forget { version, reason: reason()? },
            _ => Repair::Comment,
        })
    }
}

fn lines(one: &Repaired, remains: Option<&SchemaDrift>) -> String {
    let name = one.slug.as_ref().map_or("public", |slug| slug.as_str());
    let mut lines = vec![match &one.outcome {
        RepairOutcome::Repaired { what } => format!("{name}: {}", sanitize(&without_here(&what.join("; ")))),
        RepairOutcome::NothingToDo => format!("{name}: nothing to repair"),
        RepairOutcome::NotApplied => format!("{name}: {}", paint(FAINT, "not applied; nothing to repair")),
        RepairOutcome::Failed { error } => {
            format!("{name}: {}", paint(BAD, sanitize(Report::of_library(error).message())))
        }
    }];
    if let Some(started) = remains.and_then(|schema| schema.started.as_ref()) {
        let what = "what these statements did remains until `cgk migrate` finishes it";
        lines.push(format!("  {}", paint(WARNING, format!("{started}: {what}"))));
    }
    let differences = remains.map_or(&[][..], |schema| &schema.differences);
    let remains = |rest: &Difference| format!("  {} {}", paint(WARNING, "remains:"), sanitize(&rest.to_string()));
    lines.extend(differences.iter().map(remains));
    lines.join("\n")
}

fn record<'a>(one: &'a Repaired, remains: Option<&'a SchemaDrift>) -> impl Serialize + 'a {
    let (result, repaired, error) = match &one.outcome {
        RepairOutcome::Repaired { what } => ("repaired", what.iter().map(String::as_str).collect(), None),
        RepairOutcome::NothingToDo => ("nothing_to_do", Vec::new(), None),
        RepairOutcome::NotApplied => ("not_applied", Vec::new(), None),
        RepairOutcome::Failed { error } => ("failed", Vec::new(), Some(Report::of_library(error))),
    };
    SchemaRecord {
        event: "schema",
        schema: one.schema.as_str(),
        tenant: one.slug.as_ref().map(|slug| slug.as_str()),
        result,
        repaired,
        started: remains.and_then(|schema| schema.started.as_ref()).map(StartedView::of),
        remains: remains.map_or(&[][..], |schema| &schema.differences).iter().map(DifferenceView::of).collect(),
        error,
    }
}
