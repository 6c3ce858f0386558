//! `cgk tenant:export`

mod many;

use anyhow::Result;
use cgk::{
    TenantSlug,
    lifecycle::{self, ExistingFile, ExportOptions, Exported},
};
use clap::Args;
use serde::Serialize;
use std::{
    io::IsTerminal as _,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::cli::{
    exit::Exit,
    number,
    session::Session,
    ui::{
        bytes_bar::BytesBar,
        report::Refusal,
        size,
        style::{GOOD, count, paint},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:export acme --to acme.cgk
  cgk tenant:export acme --to - | ssh backup 'cat > acme.cgk'
  cgk tenant:export --all --to exports --jobs 4

The file has the rows, sequences, ledger and organization of the tenant, as one snapshot, and no definitions of \
             tables: cgk tenant:import creates them with the migrations. The tenant is used meanwhile; its migrations \
             wait. With --all, a file that is whole is not written again.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT", required_unless_present = "all", conflicts_with = "all")]
    slug: Option<String>,
    /// Every tenant, each into DIR/SLUG.cgk
    #[arg(long)]
    all: bool,
    /// File to write, - for standard output; with --all, a folder
    #[arg(long, value_name = "FILE|DIR")]
    to: PathBuf,
    /// Number of tables at the same time; with --all, of tenants [default: 1; up to 4]
    #[arg(short, long, value_name = "N", value_parser = number::at_least_one)]
    jobs: Option<NonZeroUsize>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    path: String,
    tables: usize,
    rows: u64,
    text_bytes: u64,
    file_bytes: u64,
    left_out: &'a [String],
    ms: u64,
    exit: Exit,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let Some(slug) = &arguments.slug else { return many::run(session, arguments).await };
    let slug: TenantSlug = slug.parse()?;
    let printer = session.printer;
    let is_stream = arguments.to == Path::new("-");
    refuse_stream(session, is_stream)?;
    let operator = session.operator().await?;
    session.say_database(&operator);
    let mut options = ExportOptions::default().existing(existing(arguments));
    if let Some(jobs) = arguments.jobs {
        options = options.jobs(jobs);
    }
    let began = Instant::now();
    let mut bar = BytesBar::new(printer, "exporting");
    let exported = match is_stream {
        true => lifecycle::export(&operator, &slug, standard_output()?, &options, &mut bar).await?,
        false => lifecycle::export_to_file(&operator, &slug, &arguments.to, &options, &mut bar).await?,
    };
    drop(bar);
    let elapsed = began.elapsed();
    if !is_stream {
        printer.record(&Answer {
            v: crate::cli::JSON_VERSION,
            tenant: slug.as_str(),
            id: exported.tenant.id.to_string(),
            path: arguments.to.display().to_string(),
            tables: exported.tables,
            rows: exported.rows,
            text_bytes: exported.text_bytes,
            file_bytes: exported.file_bytes,
            left_out: &exported.left_out,
            ms: time::milliseconds(elapsed),
            exit: Exit::Done,
        });
    }
    let line =
        format!("{} tenant {slug}: {} in {}", paint(GOOD, "exported"), contents(&exported), time::elapsed(elapsed));
    if is_stream {
        printer.info(line);
    } else {
        printer.output(line);
    }
    warn_of_left_out(session, &slug, &exported);
    Ok(Exit::Done)
}

/// Returns standard output without the lock of the standard library. A reader that has stopped reading must not block
/// the message about an interruption.
fn standard_output() -> std::io::Result<std::fs::File> {
    use std::os::fd::AsFd as _;
    std::io::stdout().as_fd().try_clone_to_owned().map(Into::into)
}

fn existing(arguments: &Arguments) -> ExistingFile {
    if arguments.force { ExistingFile::Replace } else { ExistingFile::Refuse }
}

fn refuse_stream(session: &Session<'_>, is_stream: bool) -> Result<()> {
    let message = match is_stream {
        true if session.printer.is_json() => "the export and the records of --json cannot both go to standard output",
        true if std::io::stdout().is_terminal() => "the export is not written to a terminal",
        _ => return Ok(()),
    };
    let hint = "Name a file with --to, or send standard output to a file or a pipe.".into();
    Err(Refusal { message: message.into(), hint, exit: Exit::Usage }.into())
}

/// Returns a text such as `3 tables, 1200 rows, 1.3 MB as text, 240.0 kB in the file`.
fn contents(exported: &Exported) -> String {
    format!(
        "{}, {}, {} as text, {} in the file",
        count(exported.tables, "table"),
        count(usize::try_from(exported.rows).unwrap_or(usize::MAX), "row"),
        size::of(exported.text_bytes),
        size::of(exported.file_bytes)
    )
}

pub(in crate::cli::tenant) fn warn_of_left_out(session: &Session<'_>, slug: &TenantSlug, exported: &Exported) {
    for table in &exported.left_out {
        let table = crate::cli::ui::style::sanitize(table);
        session.printer.warn(format!("the rows of foreign table {table} of tenant {slug} are not in the file"));
    }
}
