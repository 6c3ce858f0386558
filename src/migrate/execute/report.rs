//! The result of a run, and of each schema.

use crate::{error::Error, fleet::stop::Stop, ident::SchemaName, migration::MigrationId, slug::TenantSlug};
use std::time::Duration;
use uuid::Uuid;

/// What is known at the start of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStart {
    /// The number of migrations that the shared schema will get.
    pub public_pending: usize,
    /// The number of tenants that will be visited.
    pub tenants_to_visit: usize,
    /// The number of tenants that are at head and will not be visited.
    pub tenants_at_head: usize,
}

/// The result of one schema.
#[derive(Debug)]
#[non_exhaustive]
pub struct SchemaOutcome {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// The result.
    pub result: Outcome,
    /// The time it took, including waits between attempts.
    pub elapsed: Duration,
    /// The number of attempts.
    pub attempts: u32,
}

/// The result of one schema.
#[derive(Debug)]
pub enum Outcome {
    /// These migrations were applied. The list is empty if another run had already applied them.
    Migrated {
        /// The migrations, in the order in which they were applied.
        applied: Vec<MigrationId>,
    },
    /// It was skipped.
    Skipped {
        /// The reason.
        reason: String,
    },
    /// It could not be migrated and is unchanged.
    Failed {
        /// The error.
        error: Error,
    },
}

impl Outcome {
    /// Returns whether another run had already applied the migrations.
    pub fn is_by_another_run(&self) -> bool {
        matches!(self, Self::Migrated { applied } if applied.is_empty())
    }
}

/// The result of a run.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The shared schema; `None` if it had nothing to do.
    pub public: Option<SchemaOutcome>,
    /// The visited tenants, in the order in which they finished.
    pub tenants: Vec<SchemaOutcome>,
    /// The number of tenants that were at head and not visited.
    pub at_head: usize,
    /// The number of tenants that were migrated first, as canaries.
    pub canaries: usize,
    /// Why the run stopped early; `None` if it did not.
    pub stopped: Option<Stop>,
    /// The id of the run in [`history`](crate::migrate::history()); `None` if nothing was recorded.
    pub id: Option<Uuid>,
}

impl RunReport {
    pub(crate) fn new(at_head: usize) -> Self {
        Self { public: None, tenants: Vec::new(), at_head, canaries: 0, stopped: None, id: None }
    }

    /// Returns how many tenants failed.
    pub fn failed(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Failed { .. })).count()
    }

    /// Returns how many tenants this run migrated.
    pub fn migrated(&self) -> usize {
        let is_migrated = |result: &Outcome| matches!(result, Outcome::Migrated { .. }) && !result.is_by_another_run();
        self.tenants.iter().filter(|tenant| is_migrated(&tenant.result)).count()
    }

    /// Returns how many of the visited tenants another run had already migrated.
    pub fn by_another_run(&self) -> usize {
        self.tenants.iter().filter(|tenant| tenant.result.is_by_another_run()).count()
    }

    /// Returns how many tenants were skipped.
    pub fn skipped(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Skipped { .. })).count()
    }
}
