//! Shows the recorded runs, slow tenants and failures.

use super::parts::{ColumnLayout, bar, mark, nothing, table, time};
use crate::report::{
    model::{FailingTenant, FleetReport, ReportedRun, SlowTenant},
    text::{duration_text, number},
};
use maud::{Markup, html};

/// How many characters of a run's id are shown, as in `cgk migrate:history`.
const ID_SHOWN: usize = 8;

pub(super) fn body(report: &FleetReport) -> Markup {
    if let Some(unread) = report.unread.iter().find(|unread| unread.part == "runs") {
        return nothing(&format!("Not read: {}", unread.reason));
    }
    if report.runs.is_empty() {
        return nothing("No run of cgk migrate is recorded.");
    }
    html! {
        (runs(report))
        @if !report.failing.is_empty() { (failing(report)) }
        @if !report.slow.is_empty() { (slow(report)) }
    }
}

fn milliseconds(run: &ReportedRun) -> u64 {
    run.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)).unwrap_or_default()
}

fn runs(report: &FleetReport) -> Markup {
    let most = report.runs.iter().map(milliseconds).max().unwrap_or_default();
    let row = |run: &ReportedRun| {
        let (class, word) = result(run);
        let fill = if class == "good" { "fill" } else { "fill-bad" };
        vec![
            html! { (time(run.started_at)) },
            html! { code { (run.run[..ID_SHOWN]) } },
            html! { (run.selection) @if run.target != "head" { ", to " (run.target) } },
            html! {
                (mark(class, word))
                @if let Some(error) = &run.error { br; span class="names" { (error) } }
            },
            html! { (number(run.migrated)) },
            html! { (number(run.failed)) },
            html! { (run.took.map(duration_text).unwrap_or_default()) },
            bar(milliseconds(run), most, fill),
        ]
    };
    let columns = [
        ("Started", ColumnLayout::Short),
        ("Run", ColumnLayout::WideShort),
        ("Selection", ColumnLayout::Wide),
        ("Result", ColumnLayout::Text),
        ("Migrated", ColumnLayout::Number),
        ("Failed", ColumnLayout::Number),
        ("Time", ColumnLayout::Number),
        ("", ColumnLayout::Bars),
    ];
    table("The latest runs", &columns, report.runs.iter().map(row).collect())
}

/// Returns the style and the text of a run's result.
fn result(run: &ReportedRun) -> (&'static str, &'static str) {
    match (run.state, run.failed, &run.error) {
        ("running", ..) => ("unknown", "running"),
        ("died", ..) => ("bad", "killed"),
        (_, 0, None) if run.left == 0 => ("good", "done"),
        (_, 0, None) => ("warning", "stopped early"),
        (_, _, Some(_)) => ("bad", "failed"),
        _ => ("bad", "some tenants failed"),
    }
}

fn failing(report: &FleetReport) -> Markup {
    let row = |failed: &FailingTenant| {
        vec![
            html! { (failed.tenant) },
            html! { (time(failed.failed_at)) },
            html! { code { (failed.sqlstate.as_deref().unwrap_or_default()) } },
            html! { (failed.message.as_deref().unwrap_or_default()) },
        ]
    };
    let columns = [
        ("Tenant", ColumnLayout::Text),
        ("When", ColumnLayout::Short),
        ("SQLSTATE", ColumnLayout::Wide),
        ("Error", ColumnLayout::Text),
    ];
    let more = report.failing_count - report.failing.len();
    html! {
        (table("Tenants that failed in their last run", &columns, report.failing.iter().map(row).collect()))
        @if more > 0 { (nothing(&format!("{} more.", number(more as u64)))) }
    }
}

fn slow(report: &FleetReport) -> Markup {
    let milliseconds = |tenant: &SlowTenant| u64::try_from(tenant.longest.as_millis()).unwrap_or(u64::MAX);
    let most = report.slow.first().map(milliseconds).unwrap_or_default();
    let row = |tenant: &SlowTenant| {
        vec![
            html! { (tenant.tenant) },
            html! { (number(tenant.runs)) },
            html! { (duration_text(tenant.average)) },
            html! { (duration_text(tenant.longest)) },
            bar(milliseconds(tenant), most, "fill"),
        ]
    };
    let columns = [
        ("Tenant", ColumnLayout::Text),
        ("Runs", ColumnLayout::Number),
        ("Average", ColumnLayout::Number),
        ("Longest", ColumnLayout::Number),
        ("", ColumnLayout::Bars),
    ];
    table("The slowest tenants in the recorded runs", &columns, report.slow.iter().map(row).collect())
}
