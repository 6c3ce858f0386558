//! Shows the growth since an earlier report.

use super::parts::{ColumnLayout, bar, names, nothing, table, time};
use crate::report::{
    model::{Growth, TenantGrowth},
    text::{number, percent, size_text},
};
use maud::{Markup, html};

pub(super) fn body(growth: &Growth) -> Markup {
    let most = growth.changed.iter().map(|tenant| tenant.bytes.abs_diff(tenant.bytes_before)).max().unwrap_or_default();
    let row = |tenant: &TenantGrowth| {
        let (before, now) = (tenant.bytes_before, tenant.bytes);
        let fill = if now >= before { "fill" } else { "fill-other" };
        vec![
            html! { (tenant.tenant) },
            html! { (size_text(before)) },
            html! { (size_text(now)) },
            html! { (change(before, now)) },
            bar(now.abs_diff(before), most, fill),
        ]
    };
    let columns = [
        ("Tenant", ColumnLayout::Text),
        ("Before", ColumnLayout::Number),
        ("Now", ColumnLayout::Number),
        ("Change", ColumnLayout::Number),
        ("", ColumnLayout::Bars),
    ];
    html! {
        p {
            "Since the report of " (time(growth.since)) ": from " (size_text(growth.bytes_before)) " to "
            (size_text(growth.bytes_now)) ", " (change(growth.bytes_before, growth.bytes_now)) "."
        }
        @if growth.appeared_count > 0 {
            p { (number(growth.appeared_count as u64)) " new: " (names(&growth.appeared, growth.appeared_count)) }
        }
        @if growth.gone_count > 0 {
            p { (number(growth.gone_count as u64)) " gone: " (names(&growth.gone, growth.gone_count)) }
        }
        @if growth.changed.is_empty() {
            (nothing("No tenant has another size."))
        } @else {
            (table("The tenants that have changed most", &columns, growth.changed.iter().map(row).collect()))
        }
    }
}

/// Returns a text such as `+1.2 MB (+ 12.5 %)`.
fn change(before: u64, now: u64) -> String {
    let sign = if now >= before { "+" } else { "−" };
    let size = size_text(now.abs_diff(before));
    match before {
        0 => format!("{sign}{size}"),
        _ => format!("{sign}{size} ({sign}{})", percent(now.abs_diff(before), before)),
    }
}
