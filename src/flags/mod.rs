//! Feature flags and usage, on the tables of the template `flags`.
//!
//! Every organization has its own environments, features and rules, in its own schema. A [`Flags`] loads those of one
//! environment in one statement, remembers them, and evaluates them in the process: no evaluation asks the database. When
//! something changes, the database notifies every process, and the next call loads it anew.
//!
//! ```no_run
//! # async fn example(db: cgk::Db, acme: cgk::TenantSlug) -> cgk::flags::Result<()> {
//! use cgk::flags::{Environment, Flags, FlagsSettings, Stage, Subject};
//!
//! let flags = Flags::new(&db, FlagsSettings::default());
//! let prod = Environment::of(Stage::Prod);
//! let ada = Subject::new("user-7").with("email", "ada@example.com");
//! if flags.is_on(&acme, &prod, "new_checkout", &ada).await? {
//!     // …
//! }
//! # Ok(()) }
//! ```
//!
//! | a change | is seen |
//! |---|---|
//! | while notices are received | by every call that begins after the notice came in |
//! | after the connection was lost | at most `time_max_unnotified` after the change |
//! | while the connection is silent without being closed | at most `silence_max` or `time_max_unnotified` after it, whichever is longer |
//! | after a trigger was disabled | at most `time_max` after the change |
//!
//! What the tables mean is said in `docs/flags.md`.

mod condition;
mod environment;
mod error;
mod evaluate;
mod evaluation_log;
mod load;
mod maintain;
mod metric;
#[cfg(feature = "open-feature")]
mod provider;
mod remembered;
mod settings;
mod snapshot;
mod subject;
mod usage;

pub use condition::{Condition, InvalidCondition, Operator, Scalar};
pub use environment::{Environment, Stage};
pub use error::{FlagsError, Result};
pub use evaluate::{Evaluation, Reason, bucket};
pub use evaluation_log::{EvaluationLog, LogSettings, LogStatus};
pub use load::load;
pub use maintain::{Maintained, Retention, maintain};
pub use metric::{Metric, UsageEvent};
#[cfg(feature = "open-feature")]
pub use provider::FlagProvider;
pub use settings::FlagsSettings;
pub use snapshot::Snapshot;
pub use subject::{Attribute, Subject};
pub use usage::{Allowance, Recorded, Usage};

use crate::{
    resolver::{
        NoticeState,
        notices::{Ending, Notices, receive},
    },
    slug::TenantSlug,
    tenancy::Db,
};
use remembered::Remembered;
use std::sync::{Arc, atomic::Ordering};
use tokio::task::AbortHandle;

/// Evaluates the features of tenants. Cheap to clone; the clones share what is remembered.
#[derive(Clone)]
pub struct Flags {
    shared: Arc<Remembered>,
    /// Ends with the last clone.
    _receiving: Arc<Receiving>,
}

struct Receiving {
    task: AbortHandle,
    notices: Arc<Notices>,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.notices.end();
        self.task.abort();
    }
}

/// What a [`Flags`] has done and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlagsStatus {
    /// The snapshots that are remembered, those included that may not be used any more.
    pub snapshots: usize,
    /// The calls that were answered from memory.
    pub hits: u64,
    /// How often a snapshot was loaded.
    pub loads: u64,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flags").field("state", &self.state()).field("status", &self.status()).finish()
    }
}

impl Flags {
    /// Creates a handle that remembers nothing yet. It begins to listen for changes in a task of its own, on a connection beside the pool, until its
    /// last clone is dropped; calls do not wait for that.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new<E: Send + 'static>(db: &Db<E>, settings: FlagsSettings) -> Self {
        let notices = Arc::new(Notices::new(settings.silence_max));
        let task = tokio::spawn(receive(db.clone(), Ending(Arc::clone(&notices)))).abort_handle();
        let shared = Arc::new(Remembered::new(db.errors(), settings, Arc::clone(&notices)));
        Self { shared, _receiving: Arc::new(Receiving { task, notices }) }
    }

    /// Returns the features of a tenant in an environment, from memory where that still holds.
    ///
    /// Several calls at once load it once. Inside a transaction it is loaded on a connection of its own unless it is
    /// remembered, and not as that transaction sees it: that is [`load`].
    ///
    /// # Locks
    ///
    /// As [`Db::tenant`], where it is loaded.
    ///
    /// # Errors
    ///
    /// `NoSuchEnvironment`; `TablesMissing`; `Database`: also where the tenant cannot be entered.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn snapshot(&self, slug: &TenantSlug, environment: &Environment) -> Result<Arc<Snapshot>> {
        self.shared.find(slug, environment).await
    }

    /// Returns whether a feature is on for a subject.
    ///
    /// # Errors
    ///
    /// Same as [`snapshot`](Self::snapshot). `NoSuchFeature`: what is asked for by a wrong name should be seen.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing changes: the function only reads.
    pub async fn is_on(
        &self,
        slug: &TenantSlug,
        environment: &Environment,
        key: &str,
        subject: &Subject,
    ) -> Result<bool> {
        let snapshot = self.snapshot(slug, environment).await?;
        let evaluation = snapshot.evaluate(key, subject);
        evaluation.map(|evaluation| evaluation.is_on).ok_or_else(|| FlagsError::NoSuchFeature { key: key.into() })
    }

    /// Returns whether changes are received.
    pub fn state(&self) -> NoticeState {
        let state = self.shared.notices.state().borrow().clone();
        match state {
            NoticeState::Received if !self.shared.notices.are_received() => {
                NoticeState::NotReceived { why: "the connection is silent".into() }
            }
            state => state,
        }
    }

    /// Waits until changes are received. On a standby and behind a transaction pooler they never are.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub async fn until_notified(&self) {
        let mut state = self.shared.notices.state();
        // The sender lives as long as this handle.
        let _ = state.wait_for(|state| *state == NoticeState::Received).await;
    }

    /// Waits until every change is taken in that was committed before this call, by one round trip to the server, and returns
    /// whether that was possible.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub async fn caught_up(&self) -> NoticeState {
        self.shared.notices.caught_up().await;
        self.state()
    }

    /// Returns what it has done and holds, without asking the database.
    pub fn status(&self) -> FlagsStatus {
        FlagsStatus {
            snapshots: self.shared.snapshots(),
            hits: self.shared.hits.load(Ordering::Relaxed),
            loads: self.shared.loads.load(Ordering::Relaxed),
        }
    }

    /// Forgets everything that is remembered.
    pub fn forget_all(&self) {
        self.shared.forget_all();
    }
}
