//! `cgk quota:prune`

use anyhow::Result;
use cgk::platform::Quota;
use clap::Args;
use serde::Serialize;
use std::time::Duration;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::Refusal,
        style::{GOOD, count, paint},
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk quota:prune                       consumptions older than 90 days
  cgk quota:prune --older-than 400days

Removes old consumptions of all tenants, 10,000 in a transaction. Balances stay as they are, and so does what is \
             allocated and was not given back. The key of a removed consumption counts again: keep them for longer \
             than any caller repeats a call. Run it every day.";

/// If an older consumption is deleted, a repeated call counts twice.
const AGE_MIN: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Remove what is older than this; at least a day
    #[arg(long, value_name = "TIME", default_value = "90days", value_parser = humantime::parse_duration)]
    older_than: Duration,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    removed: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    if arguments.older_than < AGE_MIN {
        let message = "consumptions of the last day are kept".into();
        let hint = "A call that is repeated would count twice. Name a time of one day or more.".into();
        return Err(Refusal { message, hint, exit: Exit::Usage }.into());
    }
    let quota = Quota::new(&session.connect().await?);
    let mut removed = 0;
    loop {
        match quota.prune(arguments.older_than).await? {
            0 => break,
            number => removed += number,
        }
    }
    session.printer.record(&Answer { v: crate::cli::JSON_VERSION, removed, exit: Exit::Done });
    let number = count(usize::try_from(removed).unwrap_or(usize::MAX), "consumption");
    session.printer.output(format!("{} {number}", paint(GOOD, "removed")));
    Ok(Exit::Done)
}
