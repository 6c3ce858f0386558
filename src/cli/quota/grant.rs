//! `cgk quota:grant`

use anyhow::Result;
use cgk::platform::{Allowance, NewGrant, PlatformError, QuotaKind};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

use super::{GrantView, Target};
use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::Missing,
        style::{GOOD, paint},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk quota:grant acme credits 500
  cgk quota:grant acme runs 1000 --promocode --reference MAY --expires-in 30days
  cgk quota:grant acme runs unlimited

Grants a tenant more than its plan includes. A change of the plan leaves it as it is. With a reference it is granted \
             once, however often the command is run.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT")]
    slug: String,
    /// Kind of quota, for example credits
    kind: String,
    /// How much: a number, or unlimited
    amount: String,
    /// Grant it by a promocode instead of as a purchase
    #[arg(long)]
    promocode: bool,
    /// Id of the purchase or promocode
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,
    /// Let it expire after this time, for example 30days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    grant: GrantView<'a>,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let kind: QuotaKind = arguments.kind.parse()?;
    let amount: Allowance = arguments.amount.parse()?;
    let mut new = match arguments.promocode {
        true => NewGrant::promocode(kind.clone(), amount),
        false => NewGrant::purchase(kind.clone(), amount),
    };
    if let Some(reference) = &arguments.reference {
        new = new.reference(reference);
    }
    if let Some(after) = arguments.expires_in {
        new = new.expires_in(after);
    }
    let target = Target::open(session, &arguments.slug).await?;
    let slug = target.tenant.slug.as_str();
    let grant = match target.quota.grant(target.tenant.id, &new).await {
        Ok(grant) => grant,
        Err(PlatformError::NotFound { what: "kind of quota" }) => {
            let message = format!("there is no kind of quota {kind}");
            let hint =
                "`cgk plan:list` shows the kinds that plans include; a service defines others by Plans::define_kind.";
            return Err(Missing { message, hint: hint.into() }.into());
        }
        Err(error) => return Err(error.into()),
    };
    session.printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: slug,
        grant: GrantView::of(&grant),
        exit: Exit::Done,
    });
    let until = grant.expires_at.map(|at| format!(" until {}", time::date(at))).unwrap_or_default();
    let (granted, amount) = (paint(GOOD, "granted"), grant.amount);
    session.printer.output(format!("{granted} {amount} {kind} to tenant {slug} by {}{until}", grant.source));
    Ok(Exit::Done)
}
