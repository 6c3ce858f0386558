//! Tables that a person likes to read: a heading, columns, no lines.

use clap::builder::styling::Style;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets::NOTHING};
use std::{fmt, io::IsTerminal};

use super::style::harmless;

/// How a cell looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
}

pub(crate) struct Grid(Table);

impl Grid {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING).enforce_styling();
        // A pipe gets whole lines, however long; a terminal gets cells that are broken to fit.
        let terminal = std::io::stdout().is_terminal();
        table.set_content_arrangement(if terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    pub(crate) fn row<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, Look)>) {
        self.0.add_row(cells.into_iter().map(|(text, look)| {
            let cell = Cell::new(harmless(text));
            match look {
                Look::Plain => cell,
                Look::Good => cell.fg(Color::DarkGreen),
                Look::Warning => cell.fg(Color::DarkYellow),
                Look::Bad => cell.fg(Color::DarkRed),
                Look::Faint => cell.add_attribute(Attribute::Dim),
            }
        }));
        // Columns come to be with the first row where the heading has fewer.
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.trim_fmt())
    }
}

/// Two columns without a heading, for facts and their names.
pub(crate) fn facts(style: Style, rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    rows.iter()
        .map(|(name, value)| format!("  {style}{name:width$}{style:#}  {}", harmless(value)))
        .collect::<Vec<_>>()
        .join("\n")
}
