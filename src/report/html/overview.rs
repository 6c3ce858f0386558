//! Shows the parts above and below the sections.

use super::parts::time;
use crate::{
    doctor::Verdict,
    report::{
        model::FleetReport,
        text::{count, number, percent, size_text},
    },
};
use maud::{Markup, html};

pub(super) fn header(report: &FleetReport) -> Markup {
    let place = &report.place;
    let version = place.server_version.split(' ').next().unwrap_or_default();
    html! {
        header {
            h1 { "Fleet report" }
            p class="place" {
                strong { (place.database) }
                " on " (place.hosts) ", PostgreSQL " (version) ", isolation by " (place.isolation) ". "
                "Read by " (place.role) ", " (time(report.generated_at)) "."
            }
            p class="lead" { (summary(report)) }
        }
    }
}

/// Returns one sentence about tenants and one about checks.
fn summary(report: &FleetReport) -> String {
    let tenants = report.tenants.len();
    let at_head = at_head(report);
    let checks = match (checks(report, Verdict::Failed), checks(report, Verdict::Warning)) {
        (0, 0) => "No check failed or warned.".to_owned(),
        (failed, warnings) => format!("{} failed, {warnings} warned.", count(failed, "check")),
    };
    let fleet = match tenants - at_head {
        _ if tenants == 0 => "There are no tenants yet.".to_owned(),
        0 => format!("{}, all at the newest migration.", count(tenants, "tenant")),
        others => format!("{}, {} not at the newest migration.", count(tenants, "tenant"), number(others as u64)),
    };
    format!("{fleet} {checks}")
}

fn at_head(report: &FleetReport) -> usize {
    report.states.iter().filter(|group| group.key == "at_head").map(|group| group.tenants).sum()
}

fn checks(report: &FleetReport, verdict: Verdict) -> usize {
    report.checks.iter().filter(|check| check.verdict == verdict).count()
}

pub(super) fn figures(report: &FleetReport) -> Markup {
    let (tenants, at_head) = (report.tenants.len() as u64, at_head(report) as u64);
    let failed = checks(report, Verdict::Failed);
    let active: usize = report.statuses.iter().filter(|group| group.key == "active").map(|group| group.tenants).sum();
    let others = report.checks.len() - failed - checks(report, Verdict::Good);
    html! {
        h2 class="skip" { "Key figures" }
        dl class="figures" {
            (figure("tenants", "Tenants", &number(tenants), &format!("{} active", number(active as u64))))
            (figure("at-head", "At the newest migration", &number(at_head), &percent(at_head, tenants)))
            @if let Some(sizes) = &report.sizes {
                (figure("bytes", "Size on disk", &size_text(sizes.bytes), &count(usize_of(sizes.tables), "table")))
                (figure("median", "Median tenant", &size_text(sizes.median_bytes), &format!("largest {}", size_text(sizes.largest_bytes))))
            }
            (figure("failing", "Failed in their last run", &number(report.failing_count as u64), "tenants"))
            (figure("checks", "Checks that failed", &number(failed as u64), &format!("{others} of {} warn or could not look", report.checks.len())))
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn figure(id: &str, name: &str, value: &str, note: &str) -> Markup {
    html! {
        div id={ "figure-" (id) } {
            dt { (name) }
            dd class="value" { (value) }
            dd class="note" { (note) }
        }
    }
}

pub(super) fn footer(report: &FleetReport) -> Markup {
    html! {
        footer {
            p {
                "Written by cgk " (report.cgk_version) ". A list names at most " (report.named_max)
                " tenants; the JSON of the same report names all of them."
            }
        }
    }
}
