//! `cgk tenant:drop` with `--after` and `--due`.

use anyhow::Result;
use cgk::{
    Operator, TenantSlug,
    lifecycle::{self, DropObserver, DropOptions, DropSchedule},
};
use serde::Serialize;
use std::time::Duration;

use crate::cli::{
    exit::Exit,
    ui::{
        printer::Printer,
        report::Report,
        style::{COMMAND, GOOD, paint},
        table::{CellStyle, Grid},
        time,
    },
};

/// A planned drop.
#[derive(Serialize)]
struct Scheduled<'a> {
    v: u32,
    tenant: &'a str,
    id: String,
    status: &'a str,
    drop_after: String,
    was_drop_after: Option<String>,
    exit: Exit,
}

/// The planned drops, or the results of those that were due.
#[derive(Serialize)]
struct Answer<'a> {
    v: u32,
    tenants: Vec<TenantView<'a>>,
    exit: Exit,
}

#[derive(Serialize)]
struct TenantView<'a> {
    tenant: &'a str,
    id: String,
    drop_after: String,
    is_due: bool,
    dropped: bool,
    error: Option<Report>,
}

impl<'a> TenantView<'a> {
    fn of(schedule: &'a DropSchedule, dropped: bool, error: Option<Report>) -> Self {
        Self {
            tenant: schedule.tenant.slug.as_str(),
            id: schedule.tenant.id.to_string(),
            drop_after: time::rfc3339(schedule.after),
            is_due: schedule.is_due,
            dropped,
            error,
        }
    }
}

/// Runs `--after`.
pub(super) async fn schedule(
    printer: &Printer,
    operator: &Operator,
    slug: &TenantSlug,
    after: Duration,
    options: &DropOptions,
) -> Result<Exit> {
    let planned = lifecycle::schedule_drop(operator, slug, after, options).await?;
    let date = time::rfc3339(planned.after);
    printer.record(&Scheduled {
        v: crate::cli::JSON_VERSION,
        tenant: slug.as_str(),
        id: planned.tenant.id.to_string(),
        status: planned.tenant.status.as_str(),
        drop_after: date.clone(),
        was_drop_after: planned.was_after.map(time::rfc3339),
        exit: Exit::Done,
    });
    printer
        .output(format!("{} tenant {slug}; `cgk tenant:drop --due` drops it after {date}", paint(GOOD, "suspended")));
    printer.info(format!("Undo: {}", paint(COMMAND, format!("cgk tenant:undrop {slug}"))));
    Ok(Exit::Done)
}

/// Runs `--due --plan`.
pub(super) async fn waiting(printer: &Printer, operator: &Operator) -> Result<Exit> {
    let planned = lifecycle::planned_drops(operator).await?;
    let tenants = planned.iter().map(|schedule| TenantView::of(schedule, false, None)).collect();
    printer.record(&Answer { v: crate::cli::JSON_VERSION, tenants, exit: Exit::Done });
    if planned.is_empty() {
        printer.info("No drop is planned.");
        return Ok(Exit::Done);
    }
    let mut grid = Grid::new(&["TENANT", "STATUS", "DROPPED AFTER", "DUE"]);
    for schedule in &planned {
        grid.row([
            (schedule.tenant.slug.as_str(), CellStyle::Plain),
            (schedule.tenant.status.to_string().as_str(), CellStyle::Plain),
            (time::rfc3339(schedule.after).as_str(), CellStyle::Plain),
            (if schedule.is_due { "yes" } else { "no" }, CellStyle::Plain),
        ]);
    }
    printer.output(grid);
    Ok(Exit::Done)
}

/// Runs `--due`.
pub(super) async fn due(
    printer: &Printer,
    operator: &Operator,
    options: &DropOptions,
    observer: &mut dyn DropObserver,
) -> Result<Exit> {
    let done = lifecycle::drop_due(operator, options, observer).await?;
    let failed = done.iter().filter(|drop| drop.result.is_err()).count();
    let exit = if failed == 0 { Exit::Done } else { Exit::Partial };
    let tenants = done.iter().map(|drop| {
        let error = drop.result.as_ref().err().map(Report::of_library);
        TenantView::of(&drop.schedule, drop.result.is_ok(), error)
    });
    printer.record(&Answer { v: crate::cli::JSON_VERSION, tenants: tenants.collect(), exit });
    if done.is_empty() {
        printer.info("No tenant is due.");
    }
    for drop in done.iter().filter(|drop| drop.result.is_ok()) {
        printer.sentence(format!("{} tenant {}", paint(GOOD, "dropped"), drop.schedule.tenant.slug));
    }
    let failures = done.iter().filter_map(|drop| Some((&drop.schedule.tenant.slug, drop.result.as_ref().err()?)));
    Report::tell_each_once(printer, failures);
    Ok(exit)
}
