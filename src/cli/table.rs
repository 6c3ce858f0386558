//! Tables that a person likes to read: a heading, columns, no lines.

use clap::builder::styling::Style;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets::NOTHING};
use std::{fmt, io::IsTerminal};

use super::style::{count, harmless};

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
        space(&mut table);
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
    }
}

impl Grid {
    /// One row of four columns for the tenants that went well and are not shown.
    pub(crate) fn folded(&mut self, tenants: usize) {
        let text = count(tenants, "tenant");
        self.row([
            (text.as_str(), Look::Faint),
            ("done", Look::Good),
            ("-v lists them", Look::Faint),
            ("", Look::Plain),
        ]);
    }
}

/// Two blanks between columns, none after the last.
fn space(table: &mut Table) {
    let last = table.column_iter().count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let lines: Vec<_> = text.lines().map(trimmed).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// Takes off the blanks at the end of a line, also those before the codes that end a colour.
fn trimmed(line: &str) -> String {
    let (mut text, mut codes) = (line, String::new());
    loop {
        text = text.trim_end_matches(' ');
        match text.rfind('\u{1b}') {
            Some(at)
                if text.ends_with('m') && text[at + 1..text.len() - 1].chars().all(|c| "[;0123456789".contains(c)) =>
            {
                codes.insert_str(0, &text[at..]);
                text = &text[..at];
            }
            _ => return format!("{text}{codes}"),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_ends_in_blanks() {
        let mut grid = Grid::new(&["A", "LONG HEADING"]);
        grid.row([("name\u{1b}[2J", Look::Plain), ("x", Look::Good)]);
        let text = grid.to_string();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "A              LONG HEADING\nname\\u{1b}[2J  x");
    }
}
