//! Renders tables, bars and lists of names.

use crate::report::text::{count, minute};
use maud::{Markup, html};
use std::time::SystemTime;

/// The layout of a column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnLayout {
    Text,
    /// Text without line breaks.
    Short,
    Number,
    /// Bars. A screen reader skips them, because another cell contains the number.
    Bars,
    /// Text that is hidden on a narrow screen.
    Wide,
    /// Text without line breaks that is hidden on a narrow screen.
    WideShort,
}

impl ColumnLayout {
    fn class(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Short => Some("short"),
            Self::Number => Some("number"),
            Self::Bars => Some("chart"),
            Self::Wide => Some("wide"),
            Self::WideShort => Some("wide short"),
        }
    }
}

/// Renders a table whose first column names the row. If it is wider than the screen, it can be scrolled, also with the
/// keyboard.
pub(super) fn table(caption: &str, columns: &[(&str, ColumnLayout)], rows: Vec<Vec<Markup>>) -> Markup {
    html! {
        div class="scroll" role="region" tabindex="0" aria-label=(caption) {
            table class=[(columns.len() > 4).then_some("many")] {
                caption { (caption) }
                thead {
                    tr {
                        @for (heading, column) in columns {
                            @if *column == ColumnLayout::Bars {
                                td class="chart" aria-hidden="true" {}
                            } @else {
                                th scope="col" class=[column.class()] { (heading) }
                            }
                        }
                    }
                }
                tbody {
                    @for row in rows {
                        tr {
                            @for (index, cell) in row.into_iter().enumerate() {
                                @let column = columns[index].1;
                                @if index == 0 {
                                    th scope="row" class=[column.class()] { (cell) }
                                } @else {
                                    td class=[column.class()] aria-hidden=[(column == ColumnLayout::Bars).then_some("true")] { (cell) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Renders a bar that shows a part of the whole. `fill` is a class of the style.
pub(super) fn bar(part: u64, whole: u64, fill: &str) -> Markup {
    html! {
        svg class="bar" width="100%" height="12" focusable="false" {
            rect class="track" width="100%" height="12" rx="3" {}
            @if part > 0 { rect class=(fill) width=(share(part, whole)) height="12" rx="3" {} }
        }
    }
}

/// Returns a text such as `12.345%`, for a length in SVG.
pub(super) fn share(part: u64, whole: u64) -> String {
    length(part as f64 / whole.max(1) as f64 * 100.0)
}

pub(super) fn length(percent: f64) -> String {
    format!("{percent:.3}%")
}

/// Renders a word with a colour and a shape beside it. The word alone has the same meaning.
pub(super) fn mark(class: &str, word: &str) -> Markup {
    html! { span class={ "mark " (class) } { (word) } }
}

/// Returns a text such as `acme, globex and 3 more`.
pub(super) fn names(named: &[String], all: usize) -> Markup {
    let more = all.saturating_sub(named.len());
    html! {
        span class="names" {
            (named.join(", "))
            @if more > 0 {
                @if !named.is_empty() { " and " }
                (count(more, "other"))
            }
        }
    }
}

pub(super) fn time(time: SystemTime) -> Markup {
    html! { time datetime=(crate::report::instant_text(time)) { (minute(time)) } }
}

/// Renders the line of a section that is empty or could not be read.
pub(super) fn nothing(text: &str) -> Markup {
    html! { p class="muted" { (text) } }
}
