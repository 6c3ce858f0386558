//! What became of a run, and of each schema.

use crate::{error::Error, fleet::stop::Stop, ident::SchemaName, migration::MigrationId, slug::TenantSlug};
use std::time::Duration;
use uuid::Uuid;

/// What a run knows when it begins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStart {
    /// Migrations that the shared schema will get.
    pub public_pending: usize,
    /// Tenants that will be visited.
    pub tenants_to_visit: usize,
    /// Tenants that are at head and will not be visited.
    pub tenants_at_head: usize,
}

/// How one schema fared.
#[derive(Debug)]
#[non_exhaustive]
pub struct SchemaOutcome {
    /// The schema.
    pub schema: SchemaName,
    /// The tenant; `None` for the shared schema.
    pub slug: Option<TenantSlug>,
    /// What became of it.
    pub result: Outcome,
    /// How long it took, with waits between tries.
    pub elapsed: Duration,
    /// How often it was tried.
    pub attempts: u32,
}

/// What became of one schema.
#[derive(Debug)]
pub enum Outcome {
    /// These migrations were applied; none where another run had done it meanwhile.
    Migrated {
        /// In this order.
        applied: Vec<MigrationId>,
    },
    /// It was left alone.
    Skipped {
        /// Why.
        reason: String,
    },
    /// It could not be migrated and is as it was.
    Failed {
        /// Why.
        error: Error,
    },
}

/// How a run fared.
#[derive(Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The shared schema; `None` where it had nothing to do.
    pub public: Option<SchemaOutcome>,
    /// The tenants that were visited, in the order in which they were done.
    pub tenants: Vec<SchemaOutcome>,
    /// How many tenants were at head and not visited.
    pub at_head: usize,
    /// How many tenants went first, as canaries.
    pub canaries: usize,
    /// Why the run ended before it was done, if it did.
    pub stopped: Option<Stop>,
    /// What [`history`](crate::migrate::history()) knows the run by; `None` where nothing was recorded.
    pub id: Option<Uuid>,
}

impl RunReport {
    pub(crate) fn new(at_head: usize) -> Self {
        Self { public: None, tenants: Vec::new(), at_head, canaries: 0, stopped: None, id: None }
    }

    /// How many tenants failed.
    pub fn failed(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Failed { .. })).count()
    }

    /// How many tenants were migrated.
    pub fn migrated(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Migrated { .. })).count()
    }

    /// How many tenants were left alone.
    pub fn skipped(&self) -> usize {
        self.tenants.iter().filter(|tenant| matches!(tenant.result, Outcome::Skipped { .. })).count()
    }
}
