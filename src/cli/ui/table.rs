//! Tables: a heading and columns, without lines.

use clap::builder::styling::Style;
use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Table, Width, presets::NOTHING};
use std::{collections::BTreeMap, fmt, io::IsTerminal};

use super::{
    style::{BAD, FAINT, GOOD, HEADING, WARNING, paint, sanitize},
    wrap,
};

/// The style of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellStyle {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
}

impl CellStyle {
    fn paint(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Good => paint(GOOD, text),
            Self::Warning => paint(WARNING, text),
            Self::Bad => paint(BAD, text),
            Self::Faint => paint(FAINT, text),
        }
    }
}

pub(crate) struct Grid {
    table: Table,
    headings: Vec<String>,
    rows: Vec<Vec<(String, CellStyle)>>,
    /// The length of the longest word of each column.
    words: Vec<usize>,
    /// A line below the table.
    footer: Option<String>,
}

impl Grid {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING).enforce_styling();
        // A pipe gets complete lines of any length. On a terminal, cells are wrapped.
        let terminal = std::io::stdout().is_terminal();
        table.set_content_arrangement(if terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        table.set_header(headings.iter().map(|heading| Cell::new(heading).add_attribute(Attribute::Bold)));
        space(&mut table);
        let words = headings.iter().map(|heading| longest_word(heading)).collect();
        let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
        Self { table, headings, rows: Vec::new(), words, footer: None }
    }

    pub(crate) fn row<'a>(&mut self, cells: impl IntoIterator<Item = (&'a str, CellStyle)>) {
        let words = &mut self.words;
        let cells: Vec<_> = cells.into_iter().map(|(text, style)| (sanitize(text), style)).collect();
        self.table.add_row(cells.iter().enumerate().map(|(column, (text, style))| {
            if let Some(longest) = words.get_mut(column) {
                *longest = longest_word(text).max(*longest);
            }
            let cell = Cell::new(text);
            match style {
                CellStyle::Plain => cell,
                CellStyle::Good => cell.fg(Color::DarkGreen),
                CellStyle::Warning => cell.fg(Color::DarkYellow),
                CellStyle::Bad => cell.fg(Color::DarkRed),
                CellStyle::Faint => cell.add_attribute(Attribute::Dim),
            }
        }));
        self.rows.push(cells);
    }
}

/// A row of four columns about one tenant or schema. The first column is its name.
pub(crate) struct TenantRow {
    pub(crate) cells: [(String, CellStyle); 4],
    /// Rows with the same text in this field are similar, and most of them are only counted.
    pub(crate) alike: String,
    /// Whether the row shows no problem.
    pub(crate) good: bool,
    /// Whether the row is always shown, for any number of rows.
    pub(crate) always: bool,
}

/// The maximum number of rows. More rows are summarized, unless all are requested.
pub(crate) const ROWS_MAX: usize = 20;
/// How many similar rows are shown. The others are counted.
const ALIKE_SHOWN_MAX: usize = 3;

/// Prints a table of tenants. In a large fleet, rows without a problem are counted, and so are similar rows. `all_flag`
/// is the flag that lists them.
pub(crate) fn tenants(headings: &[&str; 4], rows: &[TenantRow], everything: bool, all_flag: &str) -> Grid {
    let all = everything || rows.iter().filter(|row| !row.always).count() <= ROWS_MAX;
    let mut grid = Grid::new(headings);
    let mut groups: Vec<(&TenantRow, usize)> = Vec::new();
    let mut group_of: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let mut number = 0;
        if !row.always {
            let group = *group_of.entry(&row.alike).or_insert_with(|| {
                groups.push((row, 0));
                groups.len() - 1
            });
            groups[group].1 += 1;
            number = groups[group].1;
        }
        if all || row.always || (!row.good && number <= ALIKE_SHOWN_MAX) {
            grid.row(row.cells.iter().map(|(text, style)| (text.as_str(), *style)));
        }
    }
    for (row, rows) in groups.iter().filter(|_| !all) {
        let hidden = if row.good { *rows } else { rows.saturating_sub(ALIKE_SHOWN_MAX) };
        if hidden > 0 {
            let more = if row.good { "" } else { "more " };
            let name = format!("{hidden} {more}{}", if hidden == 1 { "tenant" } else { "tenants" });
            // The state is the second column or the last one: the column with a colour.
            let cell = |index: usize| (row.cells[index].0.as_str(), row.cells[index].1);
            let last = if cell(3).1 == CellStyle::Faint { ("", CellStyle::Plain) } else { cell(3) };
            let cause = if row.good { ("", CellStyle::Plain) } else { cell(2) };
            grid.row([(name.as_str(), CellStyle::Faint), cell(1), cause, last]);
            grid.footer = Some(format!("{all_flag} lists every tenant."));
        }
    }
    grid
}

/// The number of spaces between columns.
const GAP: usize = 2;

/// Sets two spaces between columns, and none after the last one.
fn space(table: &mut Table) {
    let last = table.column_iter().count().saturating_sub(1);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
}

impl Grid {
    /// Returns the table with its first column on one line and no broken words in the others, because a broken word
    /// cannot be copied. `None` if the columns do not fit beside each other.
    fn arranged(&self) -> Option<Table> {
        let mut table = self.table.clone();
        let name = usize::from(table.column_max_content_widths().first().copied().unwrap_or_default());
        let words: usize = self.words.iter().skip(1).map(|longest| longest + GAP).sum();
        if table.width().is_some_and(|width| name + words > usize::from(width)) {
            return None;
        }
        let last = self.words.len().saturating_sub(1);
        for (index, (column, longest)) in table.column_iter_mut().zip(&self.words).enumerate() {
            let gap = if index == last { 0 } else { GAP };
            let width = Width::Fixed(u16::try_from(longest + gap).unwrap_or(u16::MAX));
            column.set_constraint(if index == 0 {
                ColumnConstraint::ContentWidth
            } else {
                ColumnConstraint::LowerBoundary(width)
            });
        }
        Some(table)
    }

    /// Returns each row as several lines, one heading and cell per line, as psql shows wide rows. Empty cells are left
    /// out.
    fn stacked(&self) -> String {
        let indent = self.headings.iter().map(|heading| heading.chars().count()).max().unwrap_or_default();
        let block = |row: &Vec<(String, CellStyle)>| {
            let cells = self.headings.iter().zip(row).filter(|(_, (text, _))| !text.is_empty());
            let line = |(heading, (text, style)): (&String, &(String, CellStyle))| {
                let lead = format!("{}  ", paint(HEADING, format!("{heading:indent$}")));
                hanging_lines(&lead, indent + GAP, &style.paint(text))
            };
            cells.map(line).collect::<Vec<_>>().join("\n")
        };
        self.rows.iter().map(block).collect::<Vec<_>>().join("\n\n")
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.arranged().map_or_else(|| self.stacked(), |table| table.to_string());
        let lines: Vec<_> = text.lines().map(trimmed).collect();
        f.write_str(&lines.join("\n"))?;
        match &self.footer {
            Some(footer) => write!(f, "\n{}", paint(FAINT, footer)),
            None => Ok(()),
        }
    }
}

/// Returns the length of a text's longest word.
fn longest_word(text: &str) -> usize {
    text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default()
}

/// Removes the spaces at the end of a line, including those before the codes that end a colour.
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

/// Returns two columns without a heading, for facts and their names.
pub(crate) fn facts(style: Style, rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    rows.iter()
        .map(|(name, value)| {
            let lead = format!("  {style}{name:width$}{style:#}  ");
            hanging_lines(&lead, width + 2 * GAP, &sanitize(value))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the lines of a text beside its name, which has `indent` letters. A terminal gets lines of its width.
fn hanging_lines(lead: &str, indent: usize, text: &str) -> String {
    let width = wrap::width();
    let lines = text.split('\n').enumerate().map(|(number, line)| match number {
        0 => wrap::hanging(lead, line, width),
        _ => wrap::hanging(&" ".repeat(indent), line, width),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, good: bool, text: &str) -> TenantRow {
        let style = if good { CellStyle::Good } else { CellStyle::Bad };
        let cells = [(name, CellStyle::Plain), ("x", style), (text, CellStyle::Plain), ("1 ms", CellStyle::Faint)];
        let cells = cells.map(|(text, style)| (text.to_owned(), style));
        TenantRow { cells, alike: text.to_owned(), good, always: false }
    }

    fn display_path(rows: &[TenantRow], everything: bool) -> Vec<String> {
        let text = tenants(&["A", "B", "C", "D"], rows, everything, "-v").to_string();
        let plain = anstream::adapter::strip_str(&text).to_string();
        plain.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn a_large_fleet_is_summed_up() {
        let mut rows: Vec<_> = (0..ROWS_MAX).map(|n| row(&format!("good{n}"), true, "")).collect();
        rows.push(row("one", false, "other"));
        rows.extend((0..9).map(|n| row(&format!("bad{n}"), false, "same")));
        let wanted = [
            "one x other 1 ms",
            "bad0 x same 1 ms",
            "bad1 x same 1 ms",
            "bad2 x same 1 ms",
            "20 tenants x",
            "6 more tenants x same",
            "-v lists every tenant.",
        ];
        assert_eq!(display_path(&rows, false), wanted);
        assert_eq!(display_path(&rows, true).len(), rows.len());
        assert_eq!(display_path(&rows[..ROWS_MAX], false).len(), ROWS_MAX, "a small fleet is shown whole");
    }

    #[test]
    fn no_word_is_broken_in_a_narrow_terminal() {
        for width in [10_u16, 30, 40, 60] {
            let mut grid = Grid::new(&["TENANT", "NAME", "CREATED"]);
            grid.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            let name = "A name of many words that does not fit";
            grid.row([
                ("a_slug_of_some_length", CellStyle::Plain),
                (name, CellStyle::Plain),
                ("2026-11-27", CellStyle::Faint),
            ]);
            let text = grid.to_string();
            let plain = anstream::adapter::strip_str(&text).to_string();
            for word in ["a_slug_of_some_length", "2026-11-27"].into_iter().chain(name.split(' ')) {
                assert!(plain.split_whitespace().any(|shown| shown == word), "{width}: {word}\n{plain}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_stacked() {
        let shown = |width: u16| {
            let mut grid = Grid::new(&["TENANT", "NAME", "STATUS"]);
            grid.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            grid.row([
                ("acme_international", CellStyle::Plain),
                ("Acme", CellStyle::Plain),
                ("active", CellStyle::Good),
            ]);
            grid.row([("globex", CellStyle::Plain), ("", CellStyle::Plain), ("suspended", CellStyle::Warning)]);
            anstream::adapter::strip_str(&grid.to_string()).to_string()
        };
        let stacked = "TENANT  acme_international\nNAME    Acme\nSTATUS  active\n\nTENANT  globex\nSTATUS  suspended";
        assert_eq!(shown(34), stacked);
        assert_eq!(shown(35).lines().count(), 3, "{}", shown(35));
    }

    #[test]
    fn a_cell_of_several_lines_adds_no_field() {
        let name = "Acme\nSTATUS  active";
        let mut grid = Grid::new(&["TENANT", "NAME", "STATUS"]);
        grid.table.set_content_arrangement(ContentArrangement::Dynamic).set_width(10);
        grid.row([("acme", CellStyle::Plain), (name, CellStyle::Warning), ("suspended", CellStyle::Plain)]);
        let rows = [("name".to_owned(), name.to_owned()), ("status".to_owned(), "suspended".to_owned())];
        for (text, indent) in [(grid.to_string(), 0), (facts(HEADING, &rows), 2)] {
            let text = anstream::adapter::strip_str(&text).to_string();
            let field = |line: &str| line.len() - line.trim_start().len() == indent;
            let fields: Vec<_> = text.lines().filter(|line| field(line)).map(|line| line.trim_start()).collect();
            let status: Vec<_> = fields.iter().filter(|line| line.to_lowercase().starts_with("status")).collect();
            assert!(status.len() == 1 && status[0].ends_with("  suspended"), "{text}");
        }
    }

    #[test]
    fn no_line_ends_in_blanks() {
        let mut grid = Grid::new(&["A", "LONG HEADING"]);
        grid.row([("name\u{1b}[2J", CellStyle::Plain), ("x", CellStyle::Good)]);
        let text = grid.to_string();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "A              LONG HEADING\nname\\u{1b}[2J  x");
    }
}
