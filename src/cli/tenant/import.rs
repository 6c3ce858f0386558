//! `cgk tenant:import`

use anyhow::Result;
use cgk::{
    ident::SchemaName,
    lifecycle::{self, Archive, ImportOptions},
};
use clap::Args;
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        bytes_bar::BytesBar,
        style::{FAINT, GOOD, count, paint, sanitize},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:import acme.cgk
  cgk tenant:import acme.cgk --as acme_copy
  ssh backup 'cat acme.cgk' | cgk tenant:import -

The file is checked as a whole before anything is created. Tables are created by the migrations, and everything \
             is one transaction: if it fails, nothing is left. With the slug of the file the organization keeps its \
             id; with another slug it gets a new one.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// File of cgk tenant:export; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Slug of the new tenant [default: that of the file]
    #[arg(long = "as", value_name = "SLUG")]
    slug: Option<String>,
    /// Display name [default: that of the file; with --as, the slug]
    #[arg(long, value_parser = number::name)]
    name: Option<String>,
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
    exported_at: &'a str,
    tables: usize,
    rows: u64,
    mapped_columns: usize,
    migrated: usize,
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let mut options = ImportOptions::default();
    if let Some(slug) = &arguments.slug {
        options = options.slug(slug.parse()?);
    }
    if let Some(name) = &arguments.name {
        options = options.name(name);
    }
    let began = Instant::now();
    let file = arguments.file.clone();
    let opened = tokio::task::spawn_blocking(move || match file == Path::new("-") {
        true => Archive::spool(std::io::stdin(), &std::env::temp_dir()),
        false => Archive::open(&file),
    });
    let archive = opened.await??;
    let (from_tenant, from_id) = (archive.slug().clone(), archive.organization());
    let exported_at = archive.created_at().to_owned();
    let (_, migrations, operator) = session.open().await?;
    session.say_database(&operator);
    let (from, at) = (&from_tenant, sanitize(&exported_at));
    printer.info(format!("{} tenant {from} ({from_id}), exported {at}", paint(FAINT, "file      ")));
    let mut bar = BytesBar::new(printer, "importing");
    let imported = lifecycle::import(&operator, &migrations, archive, &options, &mut bar).await?;
    drop(bar);
    let (tenant, elapsed) = (&imported.tenant, began.elapsed());
    printer.record(&Answer {
        v: crate::cli::JSON_VERSION,
        tenant: tenant.slug.as_str(),
        id: tenant.id.to_string(),
        name: &tenant.name,
        status: tenant.status.as_str(),
        schema: SchemaName::of_tenant(&tenant.slug).as_str().to_owned(),
        from_tenant: from_tenant.as_str(),
        from_id: from_id.to_string(),
        exported_at: &exported_at,
        tables: imported.tables,
        rows: imported.rows,
        mapped_columns: imported.mapped_columns,
        migrated: imported.migrated,
        ms: time::milliseconds(elapsed),
        exit: Exit::Done,
    });
    let mut line = format!(
        "{} tenant {} ({}): {}, {}",
        paint(GOOD, "imported"),
        tenant.slug,
        sanitize(&tenant.name),
        count(imported.tables, "table"),
        count(usize::try_from(imported.rows).unwrap_or(usize::MAX), "row")
    );
    if imported.migrated > 0 {
        line.push_str(&format!(", {} applied", count(imported.migrated, "newer migration")));
    }
    printer.sentence(format!("{line} in {}", time::elapsed(elapsed)));
    if imported.is_new_organization {
        printer.info(format!("Its organization is {}, and no longer {from_id}.", tenant.id));
    }
    Ok(Exit::Done)
}
