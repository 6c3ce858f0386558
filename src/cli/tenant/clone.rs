//! `cgk tenant:clone`

use anyhow::Result;
use cgk::{
    ident::SchemaName,
    lifecycle::{self, CloneOptions, CloneRows, Cloned, Mask},
};
use clap::Args;
use serde::Serialize;
use std::{path::PathBuf, time::Instant};

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        bytes_bar::BytesBar,
        report::Refusal,
        style::{FAINT, GOOD, count, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:clone acme acme_copy
  cgk tenant:clone acme staging --mask mask.toml
  cgk tenant:clone acme empty --schema-only

A mask contains SQL expressions over the rows of the source:

  [tables.customers]
  email = \"md5(email) || '@example.test'\"

The server copies the rows of one snapshot, in one transaction: if it fails, nothing is left. The source is used as \
             before, only its migrations, a rename and a drop wait. The copy is a new organization.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant to copy
    #[arg(value_name = "FROM")]
    from: String,
    /// Slug of the new tenant
    #[arg(value_name = "TO")]
    to: String,
    /// Display name of the new tenant [default: its slug]
    #[arg(long, value_parser = number::name)]
    name: Option<String>,
    /// Copy no rows
    #[arg(long)]
    schema_only: bool,
    /// TOML file with SQL expressions for columns that must not be copied
    #[arg(long, value_name = "FILE", conflicts_with = "schema_only")]
    mask: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    name: &'a str,
    status: &'a str,
    schema: String,
    from_tenant: &'a str,
    from_id: String,
    tables: usize,
    rows: u64,
    masked_columns: usize,
    mapped_columns: usize,
    migrated: usize,
    left_out: &'a [String],
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let (from, to) = (arguments.from.parse()?, arguments.to.parse()?);
    let mut options = CloneOptions::default().rows(rows(arguments)?);
    if let Some(name) = &arguments.name {
        options = options.name(name);
    }
    let began = Instant::now();
    let (_, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    printer.info(format!("{} {migrations}", paint(FAINT, "migrations")));
    let mut bar = BytesBar::new(printer, "copying to");
    let cloned = lifecycle::clone_tenant(&operator, &migrations, &from, &to, &options, &mut bar).await?;
    drop(bar);
    show(session, arguments, &cloned, began);
    Ok(Exit::Done)
}

fn rows(arguments: &Arguments) -> Result<CloneRows> {
    match &arguments.mask {
        _ if arguments.schema_only => Ok(CloneRows::SchemaOnly),
        None => Ok(CloneRows::All),
        Some(file) => {
            let text =
                std::fs::read_to_string(file).map_err(|error| Refusal::file("read the mask of", file, &error))?;
            Ok(CloneRows::Masked(Mask::parse(&text)?))
        }
    }
}

fn show(session: &Session<'_>, arguments: &Arguments, cloned: &Cloned, began: Instant) {
    let (printer, tenant, elapsed) = (session.printer, &cloned.tenant, began.elapsed());
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: tenant.slug.as_str(),
        id: tenant.id.to_string(),
        name: &tenant.name,
        status: tenant.status.as_str(),
        schema: SchemaName::of_tenant(&tenant.slug).as_str().to_owned(),
        from_tenant: cloned.source.slug.as_str(),
        from_id: cloned.source.id.to_string(),
        tables: cloned.tables,
        rows: cloned.rows,
        masked_columns: cloned.masked_columns,
        mapped_columns: cloned.mapped_columns,
        migrated: cloned.migrated,
        left_out: &cloned.left_out,
        ms: time::milliseconds(elapsed),
        exit: Exit::Done,
    });
    let rows = match arguments.schema_only {
        true => "without rows".to_owned(),
        false => {
            let rows = count(usize::try_from(cloned.rows).unwrap_or(usize::MAX), "row");
            format!("{}, {rows}", count(cloned.tables, "table"))
        }
    };
    let mut line = format!(
        "{} tenant {} to {} ({}): {rows}",
        paint(GOOD, "cloned"),
        cloned.source.slug,
        tenant.slug,
        sanitize(&tenant.name),
    );
    if cloned.masked_columns > 0 {
        line.push_str(&format!(", {} masked", count(cloned.masked_columns, "column")));
    }
    if cloned.migrated > 0 {
        line.push_str(&format!(", {} applied", count(cloned.migrated, "newer migration")));
    }
    printer.sentence(format!("{line} in {}", time::elapsed(elapsed)));
    for table in &cloned.left_out {
        let (table, from) = (sanitize(table), &cloned.source.slug);
        printer.warn(format!("the rows of foreign table {table} of tenant {from} are not copied"));
    }
}
