//! The result of each tenant, and the observer that receives rows.

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
    /// Its name. Two columns can have the same name.
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

/// A row of a result. Its values are the texts that the server sends.
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
    /// Called when a statement in a tenant returns rows with these columns. Its rows follow. `statement` counts from 1.
    /// This can be called again for the same tenant if the attempt failed before its first row.
    ///
    /// # Errors
    ///
    /// Returns an error if these columns cannot be shown. The tenant's transaction is then rolled back, and the tenant
    /// counts as failed.
    fn columns(
        &mut self,
        tenant: &TenantSlug,
        statement: usize,
        columns: &[ExecColumn],
    ) -> std::result::Result<(), String> {
        let _ = (tenant, statement, columns);
        Ok(())
    }

    /// Called for the next row. The row is not valid if the tenant fails later.
    fn row(&mut self, tenant: &TenantSlug, statement: usize, row: &ExecRow<'_>) {
        let _ = (tenant, statement, row);
    }

    /// Called when a tenant has succeeded or failed.
    fn tenant(&mut self, outcome: &ExecOutcome) {
        let _ = outcome;
    }
}

/// Ignores every event.
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

/// The result of one tenant.
#[derive(Debug)]
#[non_exhaustive]
pub struct ExecOutcome {
    /// The tenant.
    pub slug: TenantSlug,
    /// The result, or the error. After an error nothing is committed in this tenant.
    pub result: Result<Executed>,
    /// The number of the statement that failed, from 1. `None` if the transaction was refused at its start or at its
    /// end.
    pub failed_statement: Option<usize>,
    /// The number of rows that the observer received. It also counts rows of a tenant that failed.
    pub rows_passed: u64,
    /// The time since its first attempt.
    pub elapsed: Duration,
}

/// The results of all tenants.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ExecReport {
    /// The tenants in the order in which they were finished.
    pub tenants: Vec<ExecOutcome>,
    /// Why the run ended early; `None` if it did not.
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
