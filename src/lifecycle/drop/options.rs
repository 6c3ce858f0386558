//! Options of a drop, its progress, and its result.

use super::{DropPreview, expected::Expected};
use crate::tenant::Tenant;
use std::time::Duration;

/// Options for the drop of a tenant.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DropOptions {
    /// How long each step waits for other sessions: for transactions in the tenant, and for locks on its tables.
    /// Default: the operator's `session.migration_wait`.
    pub wait: Option<Duration>,
    /// How many locks one transaction may take. A table needs about nine. Each transaction drops at least one table.
    /// Default: 100, or an eighth of the server's lock table if that is less.
    pub locks_per_batch: Option<usize>,
    /// How long the drop pauses between two batches, as a multiple of the time that the last batch took, so that
    /// other tenants can use the server. 0: no pause. Default: 4.
    pub pause_factor: Option<u32>,
    pub(super) expected: Option<Expected>,
}

impl DropOptions {
    /// Sets how many locks one transaction may take.
    pub fn locks_per_batch(mut self, locks: usize) -> Self {
        self.locks_per_batch = Some(locks);
        self
    }

    /// Sets how long the drop pauses between two batches, as a multiple of the time that the last batch took.
    pub fn pause_factor(mut self, factor: u32) -> Self {
        self.pause_factor = Some(factor);
        self
    }

    /// Drops the tenant only if its organization is the one in this preview. Without this, the tenant that has the slug
    /// at that time is dropped.
    pub fn same_organization(mut self, preview: &DropPreview) -> Self {
        self.expected = Some(Expected::same_organization(preview));
        self
    }

    /// Drops the tenant only if its registry row and the comment on its schema are the same as in this preview. If the
    /// tenant was suspended at the time of the preview, nothing was written in it since.
    pub fn unchanged_since(mut self, preview: &DropPreview) -> Self {
        self.expected = Some(Expected::unchanged_since(preview));
        self
    }

    /// Sets how long each step waits for other sessions.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }
}

/// The result of a drop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Dropped {
    /// The tenant before the drop.
    pub tenant: Tenant,
    /// How many tables and views this call dropped.
    pub relations: usize,
    /// The number of transactions that dropped them.
    pub batches: usize,
    /// Whether an earlier call had started the drop.
    pub was_begun: bool,
}

/// Receives the progress of a drop.
pub trait DropObserver: Send {
    /// `relations` tables and views of `of` are dropped.
    fn dropped(&mut self, relations: usize, of: usize) {
        let _ = (relations, of);
    }
}

/// Ignores every event.
impl DropObserver for crate::migrate::Silent {}
