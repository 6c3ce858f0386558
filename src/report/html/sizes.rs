//! Shows the tenants' sizes on disk.

use super::{
    parts::{ColumnLayout, bar, nothing, table},
    treemap::{self, Cell},
};
use crate::{
    lifecycle::SizeSource,
    report::{
        model::{FleetReport, ReportedTenant, SizeBucket, Sizes},
        text::{count, number, percent, size_text},
    },
};
use maud::{Markup, html};

/// The maximum number of rectangles. More would be too small to distinguish.
const CELLS_MAX: usize = 24;

pub(super) fn body(report: &FleetReport) -> Markup {
    let Some(sizes) = &report.sizes else {
        let reason = report.unread.iter().find(|unread| unread.part == "sizes");
        return nothing(&format!("Not read: {}", reason.map_or("", |unread| &unread.reason)));
    };
    if sizes.tenants == 0 {
        return nothing("No tenant has a schema.");
    }
    html! {
        p {
            (size_text(sizes.bytes)) " in " (number(sizes.tables)) " tables of " (count(sizes.tenants, "tenant"))
            ", about " (number(sizes.rows_estimated)) " rows by the server's estimate. Half of the tenants take at most " (size_text(sizes.median_bytes))
            ", 95 of 100 at most " (size_text(sizes.p95_bytes)) "."
            @if sizes.source == SizeSource::Estimated {
                " Sizes are estimates of the catalogue: a table was locked, or there are too many to look at."
            }
        }
        @if sizes.bytes > 0 { (drawing(report, sizes)) }
        div class="columns" {
            (largest(report, sizes))
            (distribution(sizes))
        }
    }
}

fn drawing(report: &FleetReport, sizes: &Sizes) -> Markup {
    let largest = report.largest(CELLS_MAX);
    let shown: u64 = largest.iter().filter_map(|tenant| tenant.bytes).sum();
    let (rest, others) = (sizes.bytes - shown, sizes.tenants - largest.len());
    let mut cells: Vec<Cell> = largest
        .iter()
        .filter_map(|tenant| Some((&tenant.tenant, tenant.bytes.filter(|bytes| *bytes > 0)?)))
        .enumerate()
        .map(|(index, (name, bytes))| Cell {
            name: name.clone(),
            size: size_text(bytes),
            bytes,
            class: ["cell-1", "cell-2", "cell-3"][(index / 4).min(2)],
        })
        .collect();
    if rest > 0 {
        let name = count(others, "other tenant");
        cells.push(Cell { name, size: size_text(rest), bytes: rest, class: "cell-rest" });
        cells.sort_by_key(|cell| std::cmp::Reverse(cell.bytes));
    }
    let description = format!(
        "Each rectangle is as large as the tenant's part of {}. The table below has the numbers.",
        size_text(sizes.bytes)
    );
    treemap::draw(&cells, &description)
}

fn largest(report: &FleetReport, sizes: &Sizes) -> Markup {
    let largest = report.largest(report.named_max);
    let most = largest.first().and_then(|tenant| tenant.bytes).unwrap_or_default();
    let shown: u64 = largest.iter().filter_map(|tenant| tenant.bytes).sum();
    let row = |tenant: &&ReportedTenant| {
        let bytes = tenant.bytes.unwrap_or_default();
        vec![
            html! { (tenant.tenant) },
            html! { (size_text(bytes)) },
            html! { (percent(bytes, sizes.bytes)) },
            bar(bytes, most, "fill"),
        ]
    };
    let mut rows: Vec<_> = largest.iter().map(row).collect();
    let others = sizes.tenants - largest.len();
    if others > 0 {
        let rest = sizes.bytes - shown;
        rows.push(vec![
            html! { (count(others, "other tenant")) },
            html! { (size_text(rest)) },
            html! { (percent(rest, sizes.bytes)) },
            html! {},
        ]);
    }
    let columns = [
        ("Tenant", ColumnLayout::Text),
        ("Size", ColumnLayout::Number),
        ("Part", ColumnLayout::Number),
        ("", ColumnLayout::Bars),
    ];
    html! { div { (table("The largest tenants", &columns, rows)) } }
}

fn distribution(sizes: &Sizes) -> Markup {
    let most = sizes.buckets.iter().map(|bucket| bucket.tenants).max().unwrap_or_default() as u64;
    let row = |bucket: &SizeBucket| {
        let name = match bucket.from_bytes {
            0 => format!("below {}", size_text(bucket.below_bytes)),
            from => format!("{} to {}", size_text(from), size_text(bucket.below_bytes)),
        };
        let tenants = bucket.tenants as u64;
        vec![html! { (name) }, html! { (number(tenants)) }, bar(tenants, most, "fill")]
    };
    let columns = [("Size", ColumnLayout::Short), ("Tenants", ColumnLayout::Number), ("", ColumnLayout::Bars)];
    html! { div { (table("How many tenants are how large", &columns, sizes.buckets.iter().map(row).collect())) } }
}
