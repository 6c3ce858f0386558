//! What became of each tenant, and who is told of rows.

use crate::{
    error::{Error, Result},
    fleet::stop::Stop,
    slug::TenantSlug,
};
use std::time::Duration;
use tokio_postgres::{SimpleQueryRow, Statement};

/// A column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecColumn {
    /// Its name; two columns can have the same.
    pub name: String,
    /// The name of its type, such as `int8`.
    pub type_name: String,
}

impl ExecColumn {
    pub(super) fn all(statement: &Statement) -> Vec<Self> {
        let column = |column: &tokio_postgres::Column| Self {
            name: column.name().to_owned(),
            type_name: column.type_().name().to_owned(),
        };
        statement.columns().iter().map(column).collect()
    }
}

/// A row of a result, as the server writes it as text.
#[derive(Debug)]
pub struct ExecRow<'a>(pub(super) &'a SimpleQueryRow);

impl ExecRow<'_> {
    /// Returns the values in the order of the columns; `None` is NULL.
    pub fn values(&self) -> impl Iterator<Item = Option<&str>> {
        (0..self.0.len()).map(|index| self.0.try_get(index).ok().flatten())
    }
}

/// Receives the results while they arrive. Results of several tenants may alternate, row by row.
pub trait ExecObserver: Send {
    /// A statement in a tenant returns rows with these columns; its rows follow. `statement` counts from 1. It can be called
    /// again for the same tenant if the attempt failed before its first row.
    ///
    /// # Errors
    ///
    /// Why these columns cannot be shown: the tenant's transaction is rolled back, and the tenant has failed.
    fn columns(
        &mut self,
        tenant: &TenantSlug,
        statement: usize,
        columns: &[ExecColumn],
    ) -> std::result::Result<(), String> {
        let _ = (tenant, statement, columns);
        Ok(())
    }

    /// The next row. It counts only if the tenant does not fail later.
    fn row(&mut self, tenant: &TenantSlug, statement: usize, row: &ExecRow<'_>) {
        let _ = (tenant, statement, row);
    }

    /// A tenant is done or has failed.
    fn tenant(&mut self, outcome: &ExecOutcome) {
        let _ = outcome;
    }
}

/// Receives nothing.
impl ExecObserver for crate::migrate::Silent {}

/// What the SQL did in a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executed {
    /// The rows that statements returned.
    pub returned: u64,
    /// The rows that statements without a result inserted, updated or deleted.
    pub affected: u64,
}

/// What became of a tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// What was done; or why it failed, and then nothing of it is committed.
    pub result: Result<Executed>,
    /// The statement that failed, from 1; none if the transaction was refused at its start or at its end.
    pub failed_statement: Option<usize>,
    /// The rows that the observer received, also of a tenant that failed.
    pub rows_passed: u64,
    /// The time since it was first tried.
    pub elapsed: Duration,
}

/// What became of all of them.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExecReport {
    /// The tenants in the order in which they were done.
    pub tenants: Vec<ExecOutcome>,
    /// Why the run ended early, if it did.
    pub stopped: Option<Stop>,
}

impl ExecReport {
    /// Returns how many tenants succeeded.
    pub fn succeeded(&self) -> usize {
        self.tenants.len() - self.failed()
    }

    /// Returns how many tenants failed.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    /// Returns the tenants that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&TenantSlug, &Error)> {
        self.tenants.iter().filter_map(|tenant| Some((&tenant.slug, tenant.result.as_ref().err()?)))
    }
}
