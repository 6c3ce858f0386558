//! What a run tells while it is under way.

use super::report::{RunStart, SchemaOutcome};
use crate::{migrate::rehearsal::Rehearsal, slug::TenantSlug};

/// Told what a run does, as it does it. The library draws nothing; a program that does implements this.
pub trait Observer: Send {
    /// The run knows what there is to do and has changed nothing yet.
    fn started(&mut self, start: &RunStart) {
        let _ = start;
    }

    /// The rehearsal of the tenants' set begins.
    fn rehearsing(&mut self) {}

    /// A tenant is begun.
    fn begun(&mut self, tenant: &TenantSlug) {
        let _ = tenant;
    }

    /// A tenant waits for a lock that another session holds, and is tried again later.
    fn waiting(&mut self, tenant: &TenantSlug) {
        let _ = tenant;
    }

    /// The tenants' set was rehearsed, now or before; the tenants follow.
    fn rehearsed(&mut self, rehearsal: &Rehearsal) {
        let _ = rehearsal;
    }

    /// Something is worth saying and stops nothing.
    fn notice(&mut self, text: &str) {
        tracing::warn!("{text}");
    }

    /// One schema is dealt with.
    fn schema(&mut self, outcome: &SchemaOutcome) {
        let _ = outcome;
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
