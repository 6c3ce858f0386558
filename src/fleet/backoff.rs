//! What is tried again, after which pause.

use crate::{
    error::{Error, MigrationError},
    ident::SchemaName,
};
use rand::RngExt as _;
use std::time::Duration;
use tokio_postgres::error::{DbError, SqlState};

/// How often work is tried that a lock timeout, a deadlock or a serialization failure undid.
const TRIES_MAX: u32 = 5;
/// How often work that collides with the work beside it is tried before it is done by itself.
const TRIES_BESIDE_MAX: u32 = 2;
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// The pauses between tries of one schema.
pub(crate) struct Backoff {
    tries: u32,
    pause: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { tries: 0, pause: BACKOFF_FIRST }
    }

    /// Whether work that failed like this is to be tried with nobody beside it: it collided with what others do to the
    /// shared schema or the catalogue, and would again. A key that was there already is the other's in a shared table, and
    /// it is tried once; in a table of the tenant's own it never is. Ask before [`after`](Self::after).
    pub(crate) fn wants_to_be_alone(&mut self, error: &Error, schema: &SchemaName) -> bool {
        if self.tries + 1 >= TRIES_MAX {
            return false;
        }
        if is_shared_key(error, schema) {
            // Its next failure is the last.
            self.tries = TRIES_MAX - 1;
            return true;
        }
        let collided = error.is_passing()
            && (error.is_catalogue_race() || error.sqlstate() == Some(&SqlState::T_R_DEADLOCK_DETECTED));
        let alone = collided && self.tries + 1 >= TRIES_BESIDE_MAX;
        self.tries += u32::from(alone);
        alone
    }

    /// How long to wait after a failure before the next try; `None` when there is to be none.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        self.tries += 1;
        // Waiting for one's turn has a patience of its own.
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

/// Whether a unique violation is one of a table outside of the schema, where another tenant's migration may have been quicker.
fn is_shared_key(error: &Error, schema: &SchemaName) -> bool {
    let whole = !matches!(error, Error::Migration(MigrationError::Failed(failure)) if !failure.committed.is_empty());
    whole
        && error.sqlstate() == Some(&SqlState::UNIQUE_VIOLATION)
        && error.server().and_then(DbError::schema).is_some_and(|of| of != schema.as_str() && of != "pg_catalog")
}
