//! Shows the migrations, states and statuses of the tenants.

use super::parts::{ColumnLayout, bar, length, mark, names, nothing, table};
use crate::report::{
    model::{FleetReport, TenantGroup},
    text::{count, number, percent},
};
use maud::{Markup, html};

/// Returns the text of a state, the style of this text, and the style of its bar.
fn style_of(state: &str) -> (&'static str, &'static str, &'static str) {
    match state {
        "at_head" => ("at the newest migration", "good", "fill-good"),
        "behind" => ("behind", "warning", "fill-warning"),
        "ahead" => ("ahead of these files", "warning", "fill-other"),
        "diverged" => ("ledger and files differ", "bad", "fill-bad"),
        "missing" => ("no schema", "bad", "fill-bad"),
        "half_provisioned" => ("incomplete", "bad", "fill-bad"),
        "other_organization" => ("schema of another organization", "bad", "fill-bad"),
        "being_dropped" => ("being dropped", "warning", "fill-other"),
        _ => ("unknown", "unknown", "fill-other"),
    }
}

pub(super) fn body(report: &FleetReport) -> Markup {
    let public = &report.public;
    let (public_state, class, _) = style_of(public.state);
    html! {
        p {
            "The shared schema is at " (public.head.as_deref().unwrap_or("no migration")) ": " (mark(class, public_state))
            @if let Some(pending @ 1..) = public.pending { ", " (count(pending, "migration")) " pending" }
            ". The newest migration for tenants is " (report.newest.as_deref().unwrap_or("none")) "."
        }
        @if report.tenants.is_empty() {
            (nothing("There are no tenants yet. Create one: cgk tenant:create SLUG"))
        } @else {
            (stack(report))
            (states(report))
            (unusable(report))
            div class="columns" {
                (versions(report))
                (statuses(report))
            }
        }
        @if !report.strange.is_empty() {
            h3 { "Rows of the registry that are no tenants" }
            ul { @for row in report.strange.iter().take(report.named_max) { li { (row) } } }
        }
    }
}

/// Renders one bar for the complete fleet.
fn stack(report: &FleetReport) -> Markup {
    let all = report.tenants.len() as f64;
    let mut from = 0.0;
    let mut parts = Vec::new();
    for group in &report.states {
        let width = group.tenants as f64 / all * 100.0;
        parts.push((from, width, style_of(&group.key)));
        from += width;
    }
    let text = |group: &TenantGroup| format!("{}: {}", style_of(&group.key).0, number(group.tenants as u64));
    let description = report.states.iter().map(text).collect::<Vec<_>>().join("; ");
    html! {
        svg class="stack" role="img" width="100%" height="28" aria-labelledby="stack-title stack-text" {
            title id="stack-title" { "Tenants by state" }
            desc id="stack-text" { (description) }
            @for (from, width, (_, _, fill)) in parts {
                rect class={ "cell " (fill) } x=(length(from)) width=(length(width)) height="28" {}
            }
        }
    }
}

fn states(report: &FleetReport) -> Markup {
    let all = report.tenants.len() as u64;
    let row = |group: &TenantGroup| {
        let (word, class, fill) = style_of(&group.key);
        let named = if group.key == "at_head" {
            html! {}
        } else {
            names(&group.named, group.tenants)
        };
        vec![
            mark(class, word),
            html! { (number(group.tenants as u64)) },
            html! { (percent(group.tenants as u64, all)) },
            bar(group.tenants as u64, all, fill),
            named,
        ]
    };
    let columns = [
        ("State", ColumnLayout::Text),
        ("Tenants", ColumnLayout::Number),
        ("Part", ColumnLayout::Number),
        ("", ColumnLayout::Bars),
        ("Which", ColumnLayout::Text),
    ];
    table("Tenants by state of their schemas", &columns, report.states.iter().map(row).collect())
}

/// Lists what is missing or differs, per tenant.
fn unusable(report: &FleetReport) -> Markup {
    let is_whole = |state: &str| state == "at_head" || state == "behind";
    let found: Vec<_> = report.tenants.iter().filter(|tenant| !is_whole(tenant.state)).collect();
    if found.is_empty() {
        return html! {};
    }
    let shown = found.iter().take(report.named_max).map(|tenant| {
        let (word, class, _) = style_of(tenant.state);
        vec![
            html! { (tenant.tenant) },
            html! { (tenant.name) },
            html! { (tenant.status) },
            mark(class, word),
            html! { (tenant.detail.as_deref().unwrap_or_default()) },
        ]
    });
    let columns = [
        ("Tenant", ColumnLayout::Text),
        ("Name", ColumnLayout::Wide),
        ("Status", ColumnLayout::Wide),
        ("State", ColumnLayout::Text),
        ("What", ColumnLayout::Text),
    ];
    let more = found.len().saturating_sub(report.named_max);
    html! {
        (table("Tenants that migrations do not correct", &columns, shown.collect()))
        @if more > 0 { (nothing(&format!("{} more.", number(more as u64)))) }
    }
}

fn versions(report: &FleetReport) -> Markup {
    let all = report.tenants.len() as u64;
    let row = |group: &TenantGroup| {
        let newest = report.newest.as_deref() == Some(group.key.as_str());
        let fill = if newest { "fill-good" } else { "fill-warning" };
        vec![
            html! { (group.key) @if newest { " (newest)" } },
            html! { (number(group.tenants as u64)) },
            bar(group.tenants as u64, all, fill),
        ]
    };
    let rows: Vec<_> = report.versions.iter().take(report.named_max).map(row).collect();
    let more = report.versions.len().saturating_sub(rows.len());
    let columns = [("Migration", ColumnLayout::Text), ("Tenants", ColumnLayout::Number), ("", ColumnLayout::Bars)];
    html! {
        div {
            (table("Newest migration of the tenants", &columns, rows))
            @if more > 0 { (nothing(&format!("{} with fewer migrations.", count(more, "other version")))) }
        }
    }
}

fn statuses(report: &FleetReport) -> Markup {
    let row = |group: &TenantGroup| {
        let named = if group.key == "active" {
            html! {}
        } else {
            names(&group.named, group.tenants)
        };
        vec![html! { (group.key) }, html! { (number(group.tenants as u64)) }, named]
    };
    let columns = [("Status", ColumnLayout::Text), ("Tenants", ColumnLayout::Number), ("Which", ColumnLayout::Text)];
    html! { div { (table("Tenants by status", &columns, report.statuses.iter().map(row).collect())) } }
}
