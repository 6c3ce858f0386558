//! `cgk tenant:drop`

use anyhow::Result;
use cgk::{
    Operator, TenantError, TenantSlug, TenantStatus, TransferError,
    lifecycle::{self, Archive, DropObserver, DropOptions, DropPreview, ExportOptions, SuspendOptions},
};
use clap::Args;
use serde::Serialize;
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{SessionView, confirm::confirm, drop_later, export::warn_of_left_out};
use crate::cli::{
    auth::span,
    exit::Exit,
    number,
    session::Session,
    ui::{
        bytes_bar::BytesBar,
        line_bar::LineBar,
        printer::Printer,
        size,
        style::{GOOD, WARNING, count, paint, sanitize},
        table::{CellStyle, Grid},
        time,
    },
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cgk tenant:drop acme --plan          what would be lost; nothing is changed
  cgk tenant:drop acme                 asks for the slug
  cgk tenant:drop acme --confirm acme --export acme.cgk
  cgk tenant:drop acme --after 30d     suspends it now; `cgk tenant:undrop acme` takes it back
  cgk tenant:drop --due                drops the tenants whose time has come; for cron
  cgk tenant:drop --due --plan         which ones wait, and until when

The tenant is suspended first and cannot be activated again. If the command stops, run it again: it \
             continues. What is dropped is lost. --export suspends the tenant, writes the file, and then drops it.";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Slug of the tenant
    #[arg(value_name = "TENANT", required_unless_present = "due")]
    slug: Option<String>,
    /// The slug once more, instead of typing it
    #[arg(long, value_name = "TENANT", conflicts_with = "plan")]
    confirm: Option<String>,
    /// Show what would be lost, and change nothing
    #[arg(long)]
    plan: bool,
    /// Export the tenant into this file before anything is removed
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    export: Option<PathBuf>,
    /// Suspend the tenant now, and let --due drop it after this time, for example 30d
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with_all = ["plan", "confirm", "export", "locks", "pause", "due"])]
    after: Option<Duration>,
    /// Drop the tenants whose time, set with --after, has come
    #[arg(long, conflicts_with_all = ["slug", "confirm", "export"])]
    due: bool,
    /// How long each step waits for what others hold, for example 10s [default: session.migration_wait]
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
    /// Number of locks one transaction may take; a table takes about 9 [default: 100]
    #[arg(long, value_name = "N", value_parser = number::at_least_one)]
    locks: Option<NonZeroUsize>,
    /// How long to pause between two batches, in multiples of a batch's time; 0: never [default: 4]
    #[arg(long, value_name = "N", value_parser = number::at_least_zero)]
    pause: Option<u32>,
}

/// The data of the tenant that would be lost or is lost, as JSON.
#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    name: &'a str,
    status: &'a str,
    schema: Option<&'a str>,
    role: Option<&'a str>,
    tables: u64,
    rows_estimated: u64,
    bytes: u64,
    large_objects: u64,
    blocked_by: &'a [String],
    sessions: Vec<SessionView<'a>>,
    has_begun: bool,
    /// Whether the tenant was dropped.
    dropped: bool,
    /// The file with its export.
    #[serde(skip_serializing_if = "Option::is_none")]
    export: Option<String>,
    ms: u64,
    exit: Exit,
}

impl<'a> Answer<'a> {
    fn of(preview: &'a DropPreview, dropped: bool, ms: u64, exit: Exit) -> Self {
        Self {
            v: crate::cli::JSON_VERSION,
            tenant: preview.tenant.slug.as_str(),
            id: preview.tenant.id.to_string(),
            name: &preview.tenant.name,
            status: preview.tenant.status.as_str(),
            schema: preview.schema.as_ref().map(cgk::ident::SchemaName::as_str),
            role: preview.role.as_ref().map(cgk::ident::RoleName::as_str),
            tables: preview.tables,
            rows_estimated: preview.rows_estimated,
            bytes: preview.bytes,
            large_objects: preview.large_objects,
            blocked_by: &preview.blocked_by,
            sessions: SessionView::all(&preview.sessions),
            has_begun: preview.has_begun,
            dropped,
            export: None,
            ms,
            exit,
        }
    }
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Arguments) -> Result<Exit> {
    let printer = session.printer;
    let slug: Option<TenantSlug> = arguments.slug.as_deref().map(str::parse).transpose()?;
    let operator = session.operator().await?;
    session.say_database(&operator);
    let mut options = DropOptions::default();
    if let Some(wait) = arguments.wait {
        options = options.wait(wait);
    }
    if let Some(locks) = arguments.locks {
        options = options.locks_per_batch(locks.get());
    }
    if let Some(factor) = arguments.pause {
        options = options.pause_factor(factor);
    }
    let slug = match (slug, arguments.after) {
        (None, _) if arguments.plan => return drop_later::waiting(printer, &operator).await,
        (None, _) => return drop_later::due(printer, &operator, &options, &mut DropProgress::new(printer)).await,
        (Some(slug), Some(after)) => return drop_later::schedule(printer, &operator, &slug, after, &options).await,
        (Some(slug), None) => slug,
    };
    let preview = lifecycle::preview_drop(&operator, &slug).await?;
    show(printer, &preview, arguments.plan);
    if arguments.plan {
        let exit = if preview.blocked_by.is_empty() { Exit::Done } else { Exit::Failed };
        printer.record(&Answer::of(&preview, false, 0, exit));
        return Ok(exit);
    }
    options = options.same_organization(&preview);
    // A blocked tenant is refused below, before anything is changed.
    let is_blocked = !preview.blocked_by.is_empty();
    if !is_blocked {
        confirm(printer, &slug, arguments.confirm.as_deref()).await?;
    }
    let began = Instant::now();
    match arguments.export.as_deref().filter(|_| !is_blocked) {
        Some(path) if preview.has_begun => require_export(printer, &preview, path)?,
        Some(path) => {
            let exported = export_before(session, &operator, &preview, path, arguments.wait).await?;
            options = options.unchanged_since(&exported);
        }
        None => {}
    }
    let dropped = lifecycle::drop_tenant(&operator, &slug, &options, &mut DropProgress::new(printer)).await?;
    let elapsed = began.elapsed();
    let answer = Answer::of(&preview, true, time::milliseconds(elapsed), Exit::Done);
    printer.record(&Answer { export: arguments.export.as_ref().map(|path| path.display().to_string()), ..answer });
    printer.sentence(format!(
        "{} tenant {slug}: {} in {}, {}",
        paint(GOOD, "dropped"),
        count(usize::try_from(preview.tables).unwrap_or(usize::MAX), "table"),
        count(dropped.batches, "transaction"),
        time::elapsed(elapsed)
    ));
    Ok(Exit::Done)
}

/// Refuses if the file does not exist. An earlier run has started to drop the tenant, so it can no longer be exported.
fn require_export(printer: &Printer, preview: &DropPreview, path: &Path) -> Result<()> {
    let tenant = &preview.tenant;
    if !path.exists() {
        return Err(cgk::Error::from(TenantError::BeingDropped { tenant: tenant.slug.clone() }).into());
    }
    let archive = Archive::open(path)?;
    if archive.organization() != tenant.id {
        return Err(cgk::Error::from(TransferError::FileExists { path: path.to_owned() }).into());
    }
    printer.info(format!("An earlier run exported it into {}.", sanitize(&path.display().to_string())));
    Ok(())
}

/// Suspends the tenant, and exports it. Returns its state before the export. It is dropped only if this state is
/// unchanged, because otherwise it can contain newer rows. If the export fails, the tenant stays suspended.
async fn export_before(
    session: &Session<'_>,
    operator: &Operator,
    shown: &DropPreview,
    path: &Path,
    wait: Option<Duration>,
) -> Result<DropPreview> {
    let slug = &shown.tenant.slug;
    if path.exists() {
        return Err(cgk::Error::from(TransferError::FileExists { path: path.to_owned() }).into());
    }
    let printer = session.printer;
    let mut options = SuspendOptions::default();
    if let Some(wait) = wait {
        options = options.wait(wait);
    }
    let suspended = lifecycle::suspend(operator, slug, &options).await?;
    let before = lifecycle::preview_drop(operator, slug).await?;
    if before.tenant.id != shown.tenant.id || before.tenant.status != TenantStatus::Suspended {
        let why = "another session changed it meanwhile".into();
        return Err(cgk::Error::from(TenantError::DropOutdated { tenant: slug.clone(), why }).into());
    }
    let mut bar = BytesBar::new(printer, "exporting");
    let exported = lifecycle::export_to_file(operator, slug, path, &ExportOptions::default(), &mut bar).await;
    drop(bar);
    match exported {
        Ok(exported) => {
            let rows = count(usize::try_from(exported.rows).unwrap_or(usize::MAX), "row");
            let size = size::of(exported.file_bytes);
            printer.info(format!("{} tenant {slug}: {rows}, {size} in the file", paint(GOOD, "exported")));
            warn_of_left_out(session, slug, &exported);
            Ok(before)
        }
        Err(error) => {
            if !suspended.was_suspended {
                printer.warn(format!(
                    "tenant {slug} is suspended: `cgk tenant:activate {slug}` lets services into it again"
                ));
            }
            Err(error.into())
        }
    }
}

/// Prints what would be lost, as text: as the result of `--plan`, and otherwise as a message before the question.
fn show(printer: &Printer, preview: &DropPreview, is_answer: bool) {
    let mut grid = Grid::new(&["TENANT", "STATUS", "TABLES", "ROWS (ESTIMATE)", "SIZE", "ROLE"]);
    grid.row([
        (preview.tenant.slug.as_str(), CellStyle::Plain),
        (preview.tenant.status.to_string().as_str(), CellStyle::Plain),
        (preview.tables.to_string().as_str(), CellStyle::Plain),
        (preview.rows_estimated.to_string().as_str(), CellStyle::Plain),
        (size::of(preview.bytes).as_str(), CellStyle::Plain),
        (preview.role.as_ref().map_or("none", cgk::ident::RoleName::as_str), CellStyle::Faint),
    ]);
    if is_answer {
        printer.output(grid);
    } else {
        printer.info(grid);
    }
    if preview.large_objects > 0 {
        printer.info(format!(
            "{} of its role go with it.",
            count(usize::try_from(preview.large_objects).unwrap_or(usize::MAX), "large object")
        ));
    }
    if preview.has_begun {
        printer.info("An earlier run began to drop it; this one continues.");
    }
    for session in &preview.sessions {
        printer.info(format!("{} {}", paint(WARNING, "in the tenant now:"), sanitize(&session.to_string())));
    }
    if is_answer {
        for reason in &preview.blocked_by {
            printer.warn(format!("it cannot be dropped: {}", sanitize(reason)));
        }
    }
}

/// Shows the progress.
struct DropProgress<'a> {
    line: LineBar<'a>,
}

impl<'a> DropProgress<'a> {
    fn new(printer: &'a Printer) -> Self {
        Self { line: LineBar::new(printer) }
    }
}

impl DropObserver for DropProgress<'_> {
    fn dropped(&mut self, relations: usize, of: usize) {
        self.line.show(|_| format!("dropping  {relations} of {of} tables and views"));
    }
}
