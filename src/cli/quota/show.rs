//! `cgk quota:show`

use anyhow::Result;
use cgk::platform::{Allowance, QuotaBalance};
use clap::Args;
use serde::Serialize;

use super::{GrantView, Target};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        style::{COMMAND, paint},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk quota:show acme
  cgk quota:show acme --grants    each grant that counts, or will
  cgk quota:show acme --json      both

Shows what a tenant has left, by kind.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// List the grants
    #[arg(long)]
    grants: bool,
}

#[derive(Serialize)]
struct BalanceView<'a> {
    kind: &'a str,
    usage: &'static str,
    granted: Allowance,
    used: u64,
    left: Allowance,
    resets_at: Option<String>,
}

impl<'a> BalanceView<'a> {
    fn of(balance: &'a QuotaBalance) -> Self {
        Self {
            kind: balance.kind.as_str(),
            usage: balance.usage_type.as_str(),
            granted: balance.granted,
            used: balance.used,
            left: balance.left,
            resets_at: balance.resets_at.map(time::rfc3339),
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    quota: Vec<BalanceView<'a>>,
    grants: Vec<GrantView<'a>>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let target = Target::open(session, &arguments.slug).await?;
    let slug = target.tenant.slug.as_str();
    let balances = target.quota.left(target.tenant.id).await?;
    let grants = target.quota.grants(target.tenant.id).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug,
        quota: balances.iter().map(BalanceView::of).collect(),
        grants: grants.iter().map(GrantView::of).collect(),
        exit: Exit::Done,
    });
    if balances.is_empty() {
        let next = paint(COMMAND, format!("cgk subscription:change {slug} <plan>"));
        printer.info(format!("Tenant {slug} was granted nothing. Subscribe it to a plan: {next}"));
        return Ok(Exit::Done);
    }
    let number = |allowance: Allowance| allowance.to_string();
    if arguments.grants {
        let mut grid = Grid::new(&["KIND", "SOURCE", "AMOUNT", "LEFT", "STARTS", "EXPIRES", "REFERENCE"]);
        for grant in &grants {
            grid.row([
                (grant.kind.as_str(), CellStyle::Plain),
                (grant.source.as_str(), CellStyle::Plain),
                (number(grant.amount).as_str(), CellStyle::Plain),
                (number(grant.balance).as_str(), CellStyle::Plain),
                (time::date(grant.starts_at).as_str(), CellStyle::Faint),
                (grant.expires_at.map(time::date).unwrap_or_default().as_str(), CellStyle::Faint),
                (grant.reference.as_deref().unwrap_or_default(), CellStyle::Faint),
            ]);
        }
        printer.output(grid);
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["KIND", "GRANTED", "USED", "LEFT", "RESETS"]);
    for balance in &balances {
        let style = if balance.left == Allowance::Limited(0) { CellStyle::Warning } else { CellStyle::Plain };
        grid.row([
            (balance.kind.as_str(), CellStyle::Plain),
            (number(balance.granted).as_str(), CellStyle::Plain),
            (balance.used.to_string().as_str(), CellStyle::Plain),
            (number(balance.left).as_str(), style),
            (balance.resets_at.map(time::date).unwrap_or_default().as_str(), CellStyle::Faint),
        ]);
    }
    printer.output(grid);
    Ok(Exit::Done)
}
