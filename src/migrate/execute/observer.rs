//! Reports the progress of a run.

use super::{
    blocking::BlockingTransaction,
    report::{RunStart, SchemaOutcome},
};
use crate::{ident::SchemaName, migrate::rehearsal::Rehearsal, slug::TenantSlug};

/// Receives the progress of a run. The library displays nothing; a program can implement this to do so.
pub trait Observer: Send {
    /// Called when the work is known, before anything is changed.
    fn started(&mut self, start: &RunStart) {
        let _ = start;
    }

    /// Called when the rehearsal of the tenants' set starts.
    fn rehearsing(&mut self) {}

    /// Called when the migration of a tenant starts.
    fn begun(&mut self, tenant: &TenantSlug) {
        let _ = tenant;
    }

    /// Called when a tenant waits for a lock of another session. It is tried again later.
    fn waiting(&mut self, tenant: &TenantSlug) {
        let _ = tenant;
    }

    /// Called about once a second while a file without a transaction waits for a transaction of another session.
    fn blocked(&mut self, schema: &SchemaName, by: &BlockingTransaction) {
        let _ = (schema, by);
    }

    /// Called when the tenants' set is rehearsed, now or before. The tenants follow.
    fn rehearsed(&mut self, rehearsal: &Rehearsal) {
        let _ = rehearsal;
    }

    /// Called with a notice that does not stop the run.
    fn notice(&mut self, text: &str) {
        tracing::warn!("{text}");
    }

    /// Called when one schema is finished.
    fn schema(&mut self, outcome: &SchemaOutcome) {
        let _ = outcome;
    }
}

/// An observer that ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
