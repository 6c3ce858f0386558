//! The rows of `tenant:exec` as CSV.

use cgk::{
    TenantSlug,
    lifecycle::{ExecColumn, ExecObserver, ExecOutcome, ExecRow},
};

use crate::cli::ui::{csv::line, printer::Printer};

/// This many bytes are collected before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

pub(super) struct Lines<'a> {
    printer: &'a Printer,
    /// The statement with the result, and the names of its columns.
    header: Option<(usize, Vec<String>)>,
    buffer: String,
}

impl<'a> Lines<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, header: None, buffer: String::new() }
    }

    fn flush(&mut self) {
        self.printer.data(&self.buffer);
        self.buffer.clear();
    }
}

impl ExecObserver for Lines<'_> {
    fn columns(&mut self, _: &TenantSlug, statement: usize, columns: &[ExecColumn]) -> Result<(), String> {
        let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
        match &self.header {
            None => {
                let fields = std::iter::once("tenant").chain(names.iter().map(String::as_str)).map(Some);
                self.buffer.push_str(&line(fields));
                self.header = Some((statement, names));
                Ok(())
            }
            Some((other, _)) if *other != statement => {
                Err(format!("CSV has one result, and statement {other} has one already"))
            }
            Some((_, header)) if *header != names => {
                Err(format!("its columns are {}; the CSV has {}", names.join(", "), header.join(", ")))
            }
            Some(_) => Ok(()),
        }
    }

    fn row(&mut self, tenant: &TenantSlug, _: usize, row: &ExecRow<'_>) {
        self.buffer.push_str(&line(std::iter::once(Some(tenant.as_str())).chain(row.values())));
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn tenant(&mut self, _: &ExecOutcome) {
        self.flush();
    }
}

/// Writes the rows of tenants that were cancelled.
impl Drop for Lines<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
