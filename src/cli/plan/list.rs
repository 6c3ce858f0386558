//! `cgk plan:list`

use anyhow::Result;
use cgk::platform::{Allowance, Entitlement, Issuance, Plan, Plans};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk plan:list
  cgk plan:list --all    plans that are withdrawn from sale too
  cgk plan:list --json

Lists the plans and what each of them includes, per period of the subscription or once.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Show plans that are withdrawn from sale too
    #[arg(long)]
    all: bool,
}

#[derive(Serialize)]
struct PlanView<'a> {
    plan: &'a str,
    name: &'a str,
    includes: Vec<EntitlementView<'a>>,
    archived_at: Option<String>,
}

#[derive(Serialize)]
struct EntitlementView<'a> {
    kind: &'a str,
    /// `period` or `once`.
    granted: &'static str,
    amount: Allowance,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    plans: Vec<PlanView<'a>>,
    exit: Exit,
}

impl<'a> PlanView<'a> {
    fn of(plan: &'a Plan) -> Self {
        let view = |entitlement: &'a Entitlement| EntitlementView {
            kind: entitlement.kind.as_str(),
            granted: entitlement.issuance.as_str(),
            amount: entitlement.amount,
        };
        Self {
            plan: plan.key.as_str(),
            name: &plan.name,
            includes: plan.entitlements.iter().map(view).collect(),
            archived_at: plan.archived_at.map(time::rfc3339),
        }
    }
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let plans = Plans::new(&session.connect().await?);
    let plans = if arguments.all { plans.list_all().await? } else { plans.list().await? };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        plans: plans.iter().map(PlanView::of).collect(),
        exit: Exit::Done,
    });
    if plans.is_empty() {
        printer.info("No plan is on sale.");
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["PLAN", "NAME", "STATE", "INCLUDES"]);
    for plan in &plans {
        let (state, style) = match plan.archived_at {
            Some(_) => ("archived", CellStyle::Faint),
            None => ("on sale", CellStyle::Good),
        };
        let includes: Vec<String> = plan.entitlements.iter().map(shown).collect();
        grid.row([
            (plan.key.as_str(), CellStyle::Plain),
            (plan.name.as_str(), CellStyle::Plain),
            (state, style),
            (includes.join(", ").as_str(), CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    Ok(Exit::Done)
}

fn shown(entitlement: &Entitlement) -> String {
    let once = if entitlement.issuance == Issuance::Once { " once" } else { "" };
    format!("{} {}{once}", entitlement.amount, entitlement.kind)
}
