//! Prints rows as tables, in pieces, so that memory use does not depend on the number of rows.

use cgk::{
    TenantSlug,
    lifecycle::{ExecColumn, ExecObserver, ExecOutcome, ExecRow},
};
use std::collections::BTreeMap;

use crate::cli::ui::{
    printer::Printer,
    table::{CellStyle, Grid},
};

/// The maximum number of rows in one table.
const ROWS_MAX: usize = 500;
/// The maximum number of tables that are collected at the same time.
const TABLES_MAX: usize = 16;
/// The maximum number of characters of a value.
const VALUE_MAX: usize = 200;

pub(super) struct Tables<'a> {
    printer: &'a Printer,
    /// The tables, in the order of their first row.
    tables: Vec<Table>,
    /// The columns of the results that are arriving, by tenant.
    columns: BTreeMap<TenantSlug, Vec<String>>,
    printed: bool,
}

struct Table {
    statement: usize,
    columns: Vec<String>,
    rows: Vec<(TenantSlug, Vec<Option<String>>)>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, tables: Vec::new(), columns: BTreeMap::new(), printed: false }
    }

    /// Prints the collected rows.
    pub(super) fn flush(&mut self) {
        for table in std::mem::take(&mut self.tables) {
            self.print(&table);
        }
    }

    /// Returns the table of this statement and these columns.
    fn index(&mut self, statement: usize, columns: &[String]) -> usize {
        let same = |table: &Table| table.statement == statement && table.columns == columns;
        if let Some(index) = self.tables.iter().position(same) {
            return index;
        }
        if self.tables.len() == TABLES_MAX {
            let first = self.tables.remove(0);
            self.print(&first);
        }
        self.tables.push(Table { statement, columns: columns.to_vec(), rows: Vec::new() });
        self.tables.len() - 1
    }

    fn print(&mut self, table: &Table) {
        if table.rows.is_empty() {
            return;
        }
        let headings: Vec<&str> = std::iter::once("TENANT").chain(table.columns.iter().map(String::as_str)).collect();
        let mut grid = Grid::new(&headings);
        for (tenant, values) in &table.rows {
            let shown = |value: &'_ Option<String>| match value {
                Some(text) => (text.clone(), CellStyle::Plain),
                None => ("NULL".to_owned(), CellStyle::Faint),
            };
            let cells: Vec<(String, CellStyle)> = values.iter().map(shown).collect();
            let cells = cells.iter().map(|(text, style)| (text.as_str(), *style));
            grid.row(std::iter::once((tenant.as_str(), CellStyle::Plain)).chain(cells));
        }
        let gap = if self.printed { "\n" } else { "" };
        self.printer.output(format!("{gap}{grid}"));
        self.printed = true;
    }
}

impl ExecObserver for Tables<'_> {
    fn columns(&mut self, tenant: &TenantSlug, _: usize, columns: &[ExecColumn]) -> Result<(), String> {
        self.columns.insert(tenant.clone(), columns.iter().map(|column| cut(&column.name)).collect());
        Ok(())
    }

    fn row(&mut self, tenant: &TenantSlug, statement: usize, row: &ExecRow<'_>) {
        let columns = self.columns.get(tenant).cloned().unwrap_or_default();
        let index = self.index(statement, &columns);
        self.tables[index].rows.push((tenant.clone(), row.values().map(|value| value.map(cut)).collect()));
        if self.tables[index].rows.len() == ROWS_MAX {
            let full = self.tables.remove(index);
            self.print(&full);
        }
    }

    fn tenant(&mut self, outcome: &ExecOutcome) {
        self.columns.remove(&outcome.slug);
    }
}

/// Returns the start of a long text.
fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
