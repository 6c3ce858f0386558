//! `cgk tenant:warm`

use anyhow::Result;
use cgk::{
    Operator,
    lifecycle::{self, WarmCount},
    migrate::Migrations,
};
use clap::Args;
use serde::Serialize;
use std::time::Instant;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::Report,
        style::{GOOD, count, paint},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:warm 5           keep five schemas ready
  cgk tenant:warm --status    show how many are ready
  cgk tenant:warm 0           drop them

A ready schema has its role and all tables, and belongs to no tenant. `cgk tenant:create SLUG` takes one and \
             gives it its name. `cgk migrate` replaces those that are older than the files. Run the command \
             again to replace those that were taken.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Number of schemas that are ready afterwards, at most 1000
    #[arg(value_name = "N", required_unless_present = "status")]
    schemas: Option<usize>,
    /// Show how many are ready, and change nothing
    #[arg(long, conflicts_with = "schemas")]
    status: bool,
}

#[derive(Serialize)]
struct Answer {
    v: u32,
    ready: usize,
    created: usize,
    dropped: usize,
    ms: u64,
    exit: Exit,
}

#[derive(Serialize)]
struct Status {
    v: u32,
    ready: usize,
    unfinished: usize,
    stale: usize,
    foreign: usize,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (_, migrations, operator) = session.open().await?;
    let Some(schemas) = arguments.schemas else { return status(session, &operator, &migrations).await };
    session.say_database(&operator);
    let began = Instant::now();
    let warmed = lifecycle::warm(&operator, &migrations, WarmCount::Exactly(schemas)).await?;
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        ready: warmed.ready,
        created: warmed.created,
        dropped: warmed.dropped,
        ms: time::milliseconds(began.elapsed()),
        exit: Exit::Done,
    });
    printer.sentence(format!(
        "{} {}: {} created, {} dropped in {}",
        paint(GOOD, "ready"),
        count(warmed.ready, "schema"),
        warmed.created,
        warmed.dropped,
        time::elapsed(began.elapsed())
    ));
    Ok(Exit::Done)
}

async fn status(session: &Session<'_>, operator: &Operator, migrations: &Migrations) -> Result<Exit> {
    operator.read_only().await?;
    session.say_database(operator);
    let status = lifecycle::warm_status(operator, migrations).await?;
    session.printer.record(&Status {
        v: crate::cli::JSON_VERSION,
        ready: status.ready,
        unfinished: status.unfinished,
        stale: status.stale,
        foreign: status.foreign,
        exit: Exit::Done,
    });
    let foreign = match status.foreign {
        0 => String::new(),
        foreign => format!(", {foreign} of another operator"),
    };
    session.printer.sentence(format!(
        "{} ready, {} unfinished, {} stale{foreign}",
        count(status.ready, "schema"),
        status.unfinished,
        status.stale
    ));
    Ok(Exit::Done)
}

/// Replaces the schemas that are outdated after a migration. A failure does not affect the migration.
pub(in crate::cli) async fn renew(session: &Session<'_>, operator: &Operator, migrations: &Migrations) {
    let printer = session.printer;
    match lifecycle::warm(operator, migrations, WarmCount::Unchanged).await {
        Ok(warmed) if warmed.created > 0 => {
            printer.info(format!("Replaced {} that new tenants take.", count(warmed.created, "schema")));
        }
        Ok(_) => {}
        Err(error) => printer.warn(format!(
            "the schemas that are ready for new tenants were not replaced, and no tenant takes an older one: {}",
            Report::of_library(&error).short()
        )),
    }
}
