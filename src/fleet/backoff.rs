//! Decides which failures are retried, and after which pause.

use crate::{
    error::{Error, MigrationError},
    ident::SchemaName,
};
use rand::RngExt as _;
use std::time::Duration;
use tokio_postgres::error::{DbError, SqlState};

/// The maximum number of attempts after lock timeouts, deadlocks or serialization failures.
const TRIES_MAX: u32 = 5;
/// The maximum number of attempts in parallel with other work, for work that conflicts with it. After that, the work
/// runs alone.
const TRIES_BESIDE_MAX: u32 = 2;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The pauses between attempts at one schema.
pub(crate) struct Backoff {
    tries: u32,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { tries: 0, pause: BACKOFF_FIRST }
    }

    /// Returns whether failed work should be retried without parallel work. This is so if it conflicted with other
    /// changes of the shared schema or the catalogue, and would conflict again. A duplicate key in a shared table
    /// belongs to another tenant, and the work is retried once. A duplicate key in the tenant's own table is never
    /// retried. Call this before [`after`](Self::after).
    pub(crate) fn wants_to_be_alone(&mut self, error: &Error, schema: &SchemaName) -> bool {
        if self.tries + 1 >= TRIES_MAX {
            return false;
        }
        if is_shared_key(error, schema) {
            // Its next failure is final.
            self.tries = TRIES_MAX - 1;
            return true;
        }
        let collided = error.is_passing()
            && (error.is_catalogue_race() || error.sqlstate() == Some(&SqlState::T_R_DEADLOCK_DETECTED));
        let alone = collided && self.tries + 1 >= TRIES_BESIDE_MAX;
        self.tries += u32::from(alone);
        alone
    }

    /// Returns how long to wait after a failure before the next attempt, or `None` if there is no next attempt.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        self.tries += 1;
        // A wait for a lock has a separate limit.
        if self.tries >= TRIES_MAX
            || !error.is_passing()
            || matches!(error, Error::Migration(MigrationError::Locked { .. }))
        {
            return None;
        }
        let pause = self.pause.mul_f64(rand::rng().random_range(0.5..1.5));
        self.pause *= 2;
        Some(pause)
    }
}

/// Returns whether a unique violation is in a table outside of the schema, where another tenant's migration may have
/// written first.
fn is_shared_key(error: &Error, schema: &SchemaName) -> bool {
    let whole = !matches!(error, Error::Migration(MigrationError::Failed(failure)) if !failure.committed.is_empty());
    whole
        && error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION)
        && error.server().and_then(DbError::schema).is_some_and(|of| of != schema.as_str() && of != "pg_catalog")
}
