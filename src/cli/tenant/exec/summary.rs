//! Prints the end of `cgk tenant:exec`.

use cgk::lifecycle::{ExecReport, ExecScript};
use serde::Serialize;
use std::time::Instant;

use crate::cli::{
    exit::Exit,
    session::Session,
    ui::{
        report::Report,
        style::{BAD, GOOD, WARNING, count, paint},
        time,
    },
};

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    done: usize,
    failed: usize,
    returned: u64,
    affected: u64,
    stopped: Option<&'static str>,
    left: usize,
    ms: u64,
    exit: Exit,
}

pub(super) fn show(
    session: &Session<'_>,
    report: &ExecReport,
    script: &ExecScript,
    write: bool,
    began: Instant,
) -> Exit {
    let printer = session.printer;
    let exit = exit(session, report);
    let left = report.stopped.as_ref().map_or(0, |stop| stop.left);
    let several = script.statements().len() > 1;
    let executed = || report.tenants.iter().filter_map(|tenant| tenant.result.as_ref().ok());
    let (returned, affected) = (executed().map(|done| done.returned).sum(), executed().map(|done| done.affected).sum());
    printer.record(&Summary {
        event: "summary",
        done: report.succeeded(),
        failed: report.failed(),
        returned,
        affected,
        stopped: report.stopped.as_ref().map(|stop| stop.reason.as_str()),
        left,
        ms: time::milliseconds(began.elapsed()),
        exit,
    });
    if printer.is_json() {
        return exit;
    }
    let counts = [
        (report.succeeded(), paint(GOOD, "done")),
        (report.failed(), paint(BAD, "failed")),
        (left, paint(WARNING, "left")),
    ];
    let mut parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n, "tenant"))).collect();
    if parts.is_empty() {
        parts.push("no tenant is selected".to_owned());
    }
    let rows = [(returned, "returned"), (affected, "changed")];
    let rows = rows
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{} {what}", count(usize::try_from(*n).unwrap_or(usize::MAX), "row")));
    parts.extend(rows);
    // This is not part of the result, which contains only the rows.
    printer.info(format!("\n{} ({}).", parts.join(", "), time::elapsed(began.elapsed())));
    let failures = report.tenants.iter().filter_map(|tenant| {
        let found = Report::of_library(tenant.result.as_ref().err()?);
        Some((
            &tenant.slug,
            match tenant.failed_statement.filter(|_| several) {
                Some(number) => found.at_statement(number),
                None => found,
            },
        ))
    });
    Report::tell_all(printer, failures);
    if report.stopped.is_some() && write {
        printer.info("Tenants that are done are committed; a further run would run the SQL in them again.");
    }
    exit
}

fn exit(session: &Session<'_>, report: &ExecReport) -> Exit {
    let last = report.tenants.iter().rev().find_map(|tenant| tenant.result.as_ref().err());
    session.exit_of_run(report.stopped.as_ref(), last, report.failed())
}
