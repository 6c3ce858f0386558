//! Writes rows and tenants as JSON records.

use cgk::{
    Operator, TenantSlug,
    lifecycle::{ExecColumn, ExecObserver, ExecOutcome, ExecRow, ExecScript},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

use crate::cli::{
    session::{TargetView, isolation},
    ui::{printer::Printer, report::Report, time},
};

#[derive(Serialize)]
struct Start {
    event: &'static str,
    v: u32,
    command: &'static str,
    target: TargetView,
    isolation: &'static str,
    statements: usize,
    write: bool,
}

#[derive(Serialize)]
struct RowRecord<'a> {
    event: &'static str,
    tenant: &'a str,
    statement: usize,
    row: Map<String, Value>,
}

#[derive(Serialize)]
struct TenantRecord<'a> {
    event: &'static str,
    tenant: &'a str,
    result: &'static str,
    returned: u64,
    affected: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_statement: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Report>,
    ms: u64,
}

pub(super) fn start(printer: &Printer, operator: &Operator, script: &ExecScript, write: bool) {
    printer.record(&Start {
        event: "start",
        v: crate::cli::JSON_VERSION,
        command: "tenant:exec",
        target: TargetView::of(operator),
        isolation: isolation(operator.config()),
        statements: script.statements().len(),
        write,
    });
}

pub(super) struct Records<'a> {
    printer: &'a Printer,
    /// The columns of the results that are arriving, by tenant.
    columns: BTreeMap<TenantSlug, Vec<ExecColumn>>,
}

impl<'a> Records<'a> {
    pub(super) fn new(printer: &'a Printer) -> Self {
        Self { printer, columns: BTreeMap::new() }
    }
}

impl ExecObserver for Records<'_> {
    fn columns(&mut self, tenant: &TenantSlug, _: usize, columns: &[ExecColumn]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = columns.iter().find(|column| !seen.insert(&column.name)) {
            return Err(format!("two columns are named {:?}; JSON needs names of their own (AS)", twice.name));
        }
        self.columns.insert(tenant.clone(), columns.to_vec());
        Ok(())
    }

    fn row(&mut self, tenant: &TenantSlug, statement: usize, row: &ExecRow<'_>) {
        let columns = self.columns.get(tenant).map(Vec::as_slice).unwrap_or_default();
        let row = columns.iter().zip(row.values()).map(|(column, text)| (column.name.clone(), value(column, text)));
        self.printer.record(&RowRecord { event: "row", tenant: tenant.as_str(), statement, row: row.collect() });
    }

    fn tenant(&mut self, outcome: &ExecOutcome) {
        self.columns.remove(&outcome.slug);
        let done = outcome.result.as_ref().ok().copied().unwrap_or_default();
        self.printer.record(&TenantRecord {
            event: "tenant",
            tenant: outcome.slug.as_str(),
            result: if outcome.result.is_ok() { "done" } else { "failed" },
            returned: done.returned,
            affected: done.affected,
            failed_statement: outcome.failed_statement,
            error: outcome.result.as_ref().err().map(Report::of_library),
            ms: time::milliseconds(outcome.elapsed),
        });
    }
}

/// Returns integers and booleans as JSON values, everything else as the server's text, because JSON numbers are not
/// exact in every reader.
fn value(column: &ExecColumn, text: Option<&str>) -> Value {
    let Some(text) = text else { return Value::Null };
    let typed = match column.type_name.as_str() {
        "bool" => match text {
            "t" => Some(Value::Bool(true)),
            "f" => Some(Value::Bool(false)),
            _ => None,
        },
        "int2" | "int4" | "int8" => text.parse::<i64>().ok().map(Value::from),
        _ => None,
    };
    typed.unwrap_or_else(|| Value::String(text.to_owned()))
}
