//! Shows the checks of `cgk doctor`, and the differences from the migrations.

use super::parts::{ColumnLayout, mark, nothing, table};
use crate::{
    doctor::Verdict,
    report::{
        model::{DriftSource, DriftedSchema, FleetReport, ReportedCheck},
        text::{count, number},
    },
};
use maud::{Markup, html};

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Unknown => "unknown",
        Verdict::Warning => "warning",
        Verdict::Failed => "bad",
    }
}

/// Failed checks are first. Each check without a problem is one line.
pub(super) fn body(report: &FleetReport) -> Markup {
    let mut checks: Vec<&ReportedCheck> = report.checks.iter().collect();
    checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
    let row = |check: &&ReportedCheck| {
        let found = html! {
            (check.found)
            @if !check.objects.is_empty() {
                ul { @for object in &check.objects { li { (object) } } }
            }
            @if let Some(fix) = &check.fix {
                @if check.verdict != Verdict::Good { br; "Fix: " code { (fix) } }
            }
        };
        vec![html! { code { (check.check) } }, mark(class(check.verdict), check.verdict.name()), found]
    };
    let columns = [("Check", ColumnLayout::Text), ("Result", ColumnLayout::Short), ("Found", ColumnLayout::Text)];
    table("What cgk doctor finds", &columns, checks.iter().map(row).collect())
}

pub(super) fn drift(report: &FleetReport) -> Markup {
    let drift = &report.drift;
    let (clean, different, not_compared) = (drift.clean, drift.different, drift.not_compared);
    let schemas = |number: usize| count(number, "schema");
    let sentence = match drift.source {
        DriftSource::Compared => format!(
            "Every schema was compared for this report: {} without differences, {} with differences, {} not compared.",
            schemas(clean),
            number(different as u64),
            number(not_compared as u64)
        ),
        DriftSource::Recorded => format!(
            "From the last comparison: {} without differences and not changed since; {} not compared since the last \
             change, or different.",
            schemas(clean),
            number(not_compared as u64)
        ),
        DriftSource::Unknown => "Nothing is known; the check fleet.drift has the reason.".to_owned(),
    };
    let row = |found: &DriftedSchema| {
        let more = found.count - found.differences.len();
        let what = html! {
            @if let Some(reason) = &found.not_compared { (reason) }
            @if !found.differences.is_empty() {
                ul {
                    @for difference in &found.differences { li { (difference) } }
                    @if more > 0 { li { (count(more, "other")) } }
                }
            }
        };
        vec![html! { (found.schema) }, html! { (number(found.count as u64)) }, what]
    };
    let columns = [("Schema", ColumnLayout::Text), ("Differences", ColumnLayout::Number), ("What", ColumnLayout::Text)];
    let more = (different + not_compared).saturating_sub(drift.schemas.len());
    html! {
        p { (sentence) }
        @if !drift.schemas.is_empty() {
            (table("Schemas that are not clean", &columns, drift.schemas.iter().map(row).collect()))
            @if more > 0 { (nothing(&format!("{} more.", number(more as u64)))) }
        }
        @if !drift.others.is_empty() {
            h3 { "Rights, and objects without a tenant" }
            ul { @for other in &drift.others { li { (other) } } }
        }
    }
}
