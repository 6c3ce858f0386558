//! `cgk tenant:exec`

mod csv;
mod json;
mod summary;
mod table;

use anyhow::Result;
use cgk::{
    lifecycle::{self, ExecAccess, ExecOptions, ExecScript},
    migrate::{Scope, Selection, Shard},
};
use clap::Args;
use std::{path::PathBuf, time::Instant};

use super::{pace::Pace, slugs};
use crate::cli::{exit::Exit, session::Session, ui::report::Refusal};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:exec --sql 'select count(*) from customers' --all
  cgk tenant:exec --sql 'select * from customers' --tenant acme --csv > acme.csv
  cgk tenant:exec --file fix.sql --all --write --canary 1 --max-failures 3
  cgk tenant:exec --file - --all --exclude acme --json < report.sql

Each tenant is one transaction, as its role; without --write it is read-only. If a tenant fails, nothing of it is \
             committed, and the others continue. Rows are printed piece by piece; those of a tenant that fails later \
             do not count. Ctrl-C lets tenants in progress finish and starts no other; a second Ctrl-C cancels them.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The SQL: one statement or several
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, required_unless_present = "file")]
    sql: Option<String>,
    /// File with the SQL; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "sql")]
    file: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Let the SQL change rows; without it the transactions are read-only
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    pace: Pace,
    /// Print the rows as CSV with the tenant in the first column; for one statement with a result
    #[arg(long, conflicts_with_all = ["json", "format"])]
    csv: bool,
}

/// In which tenants.
#[derive(Args, Debug)]
struct Which {
    /// Every tenant
    #[arg(long, group = "tenants_of_exec")]
    all: bool,
    /// These tenants
    #[arg(long, group = "tenants_of_exec", value_name = "SLUG", num_args = 1.., value_delimiter = ',', allow_hyphen_values = false)]
    tenant: Vec<String>,
    /// File with one tenant per line: slug,name; - reads standard input
    #[arg(long, group = "tenants_of_exec", value_name = "FILE")]
    tenants_file: Option<PathBuf>,
    /// All tenants except these
    #[arg(long, value_name = "SLUG", num_args = 1.., value_delimiter = ',', allow_hyphen_values = false)]
    exclude: Vec<String>,
    /// One part of the tenants, for example 1/3, if several machines share the work
    #[arg(long, value_name = "I/N")]
    part: Option<Shard>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let script = script(arguments)?;
    let selection = selection(&arguments.which)?;
    let options = options(arguments)?.interrupt(&session.shutdown.interrupt);
    let operator = session.operator().await?;
    json::start(printer, &operator, &script, arguments.write);
    session.say_database(&operator);
    let began = Instant::now();
    let report = if printer.is_json() {
        lifecycle::exec(&operator, &script, &selection, &options, &mut json::Records::new(printer)).await?
    } else if arguments.csv {
        lifecycle::exec(&operator, &script, &selection, &options, &mut csv::Lines::new(printer)).await?
    } else {
        let mut tables = table::Tables::new(printer);
        let report = lifecycle::exec(&operator, &script, &selection, &options, &mut tables).await?;
        tables.flush();
        report
    };
    Ok(summary::show(session, &report, &script, arguments.write, began))
}

fn script(arguments: &Arguments) -> Result<ExecScript> {
    let text = match (&arguments.sql, &arguments.file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) if file.as_os_str() == "-" => {
            std::io::read_to_string(std::io::stdin()).map_err(|error| Refusal::file("read the SQL of", file, &error))?
        }
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|error| Refusal::file("read the SQL of", file, &error))?
        }
        (None, None) => String::new(),
    };
    Ok(ExecScript::parse(&text)?)
}

fn selection(which: &Which) -> Result<Selection> {
    let scope = match (which.all, which.tenant.as_slice(), &which.tenants_file) {
        (_, _, Some(file)) => Scope::Only(slugs::of_file(file)?.into_iter().map(|entry| entry.slug).collect()),
        (true, ..) => Scope::Tenants,
        (_, [], None) => {
            return Err(Refusal {
                message: "no tenant is named".into(),
                hint: "Name tenants with --tenant or --tenants-file, or take --all.".into(),
                exit: Exit::Usage,
            }
            .into());
        }
        (_, named, None) => Scope::Only(slugs::parsed(named)?),
    };
    let selection = Selection::from(scope).excluding(slugs::parsed(&which.exclude)?);
    Ok(match which.part {
        Some(part) => selection.shard(part),
        None => selection,
    })
}

fn options(arguments: &Arguments) -> Result<ExecOptions> {
    let mut options = ExecOptions::default();
    if arguments.write {
        options = options.access(ExecAccess::Write);
    }
    if let Some(jobs) = arguments.pace.jobs {
        options = options.jobs(jobs);
    }
    if let Some(canary) = arguments.pace.canary()? {
        options = options.canary(canary);
    }
    if let Some(failures) = arguments.pace.failures_max() {
        options = options.failures_max(failures);
    }
    Ok(options)
}
