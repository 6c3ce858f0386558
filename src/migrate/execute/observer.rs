//! Reports the progress of a run.

use super::report::{RunStart, SchemaOutcome};
use crate::{migrate::rehearsal::Rehearsal, slug::TenantSlug};

/// Receives the progress of a run. The library displays nothing; a program can implement this to do so.
pub trait Observer: Send {
    /// The run knows its work and has changed nothing yet.
    fn started(&mut self, start: &RunStart) {
        let _ = start;
    }

    /// The rehearsal of the tenants' set starts.
    fn rehearsing(&mut self) {}

    /// The migration of a tenant starts.
    fn begun(&mut self, tenant: &TenantSlug) {
        let _ = tenant;
    }

    /// A tenant waits for a lock of another session, and is tried again later.
    fn waiting(&mut self, tenant: &TenantSlug) {
        let _ = tenant;
    }

    /// The tenants' set was rehearsed, now or before; the tenants follow.
    fn rehearsed(&mut self, rehearsal: &Rehearsal) {
        let _ = rehearsal;
    }

    /// A notice that does not stop the run.
    fn notice(&mut self, text: &str) {
        tracing::warn!("{text}");
    }

    /// One schema is finished.
    fn schema(&mut self, outcome: &SchemaOutcome) {
        let _ = outcome;
    }
}

/// An observer that ignores every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
