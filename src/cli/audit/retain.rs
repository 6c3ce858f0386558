//! `cgk audit:retain`

use anyhow::Result;
use cgk::platform::AuditLog;
use clap::Args;
use serde::Serialize;
use std::time::{Duration, SystemTime};

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::style::{GOOD, paint},
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk audit:retain                  creates the months ahead
  cgk audit:retain --keep 400days   and removes the months that ended before

Creates the partitions of this month and the next three, and moves into them what arrived before they were there. With \
             --keep, months that ended longer ago are removed as a whole: nothing else can remove from the audit log. \
             Run it every month, or every day.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Remove the months that ended longer ago than this, for example 400days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep: Option<Duration>,
    /// Number of months ahead
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(0..=120))]
    months: u32,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    months_created: u32,
    months_removed: u32,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let operator = session.operator().await?;
    let created = AuditLog::make_months(&operator, arguments.months).await?;
    let removed = match arguments.keep {
        Some(keep) => {
            let ended_by = SystemTime::now().checked_sub(keep).unwrap_or(SystemTime::UNIX_EPOCH);
            AuditLog::drop_months(&operator, ended_by.max(SystemTime::UNIX_EPOCH)).await?
        }
        None => 0,
    };
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        months_created: created,
        months_removed: removed,
        exit: Exit::Done,
    });
    printer.output(format!("{} the audit log: months created {created}, removed {removed}", paint(GOOD, "kept")));
    Ok(Exit::Done)
}
