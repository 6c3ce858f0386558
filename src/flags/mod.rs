//! Feature flags and usage, on the tables of the template `flags`.
//!
//! Every organization has its own environments, features and rules, in its own schema. A [`Flags`] loads those of one
//! environment with one statement, caches them, and evaluates them in the process. An evaluation does not query the
//! database. After a change the database notifies every process, and the next call loads the data again.
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
//! | while notifications are received | by every call that starts after the notification arrived |
//! | after the connection was lost | at most `time_max_unnotified` after the change |
//! | while the connection is silent without being closed | at most `silence_max` or `time_max_unnotified` after it, whichever is longer |
//! | after a trigger was disabled | at most `time_max` after the change |
//!
//! `docs/flags.md` explains the tables.

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

pub use condition::{Condition, ConditionOperator, InvalidCondition, Scalar};
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
pub use usage::{Recorded, Usage, UsageAllowance};

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

/// Evaluates the features of tenants. Cheap to clone; all clones share one cache.
#[derive(Clone)]
pub struct Flags {
    shared: Arc<Remembered>,
    /// Stops when the last clone is dropped.
    _receiving: Arc<FlagNoticeReceiver>,
}

struct FlagNoticeReceiver {
    task: AbortHandle,
    notices: Arc<Notices>,
}

impl Drop for FlagNoticeReceiver {
    fn drop(&mut self) {
        self.notices.end();
        self.task.abort();
    }
}

/// The counts of a [`Flags`], and the size of its cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlagsStatus {
    /// The number of cached snapshots, including those that are no longer valid.
    pub snapshots: usize,
    /// The number of calls that were answered from the cache.
    pub hits: u64,
    /// The number of times that a snapshot was loaded.
    pub loads: u64,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flags").field("state", &self.state()).field("status", &self.status()).finish()
    }
}

impl Flags {
    /// Creates a handle with an empty cache. A separate task listens for changes, on a connection outside the pool,
    /// until the last clone is dropped. Calls do not wait for this connection.
    ///
    /// # Panics
    ///
    /// If it is called outside of a Tokio runtime.
    pub fn new<E: Send + 'static>(db: &Db<E>, settings: FlagsSettings) -> Self {
        let notices = Arc::new(Notices::new(settings.silence_max));
        let task = tokio::spawn(receive(db.clone(), Ending(Arc::clone(&notices)))).abort_handle();
        let shared = Arc::new(Remembered::new(db.errors(), settings, Arc::clone(&notices)));
        Self { shared, _receiving: Arc::new(FlagNoticeReceiver { task, notices }) }
    }

    /// Returns the features of a tenant in an environment, from the cache if the cached snapshot is still valid.
    ///
    /// Concurrent calls load a snapshot only once. Inside a transaction, a snapshot that is not cached is loaded on a
    /// separate connection, so it does not include the transaction's changes. To include them, use [`load`].
    ///
    /// # Locks
    ///
    /// Those of [`Db::tenant`], if the snapshot is loaded.
    ///
    /// # Errors
    ///
    /// `NoSuchEnvironment`; `TablesMissing`; `Database`, also if the tenant cannot be entered.
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
    /// Same as [`snapshot`](Self::snapshot). In addition `NoSuchFeature`, so that a mistyped key is noticed.
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

    /// Returns whether notifications of changes are received.
    pub fn state(&self) -> NoticeState {
        let state = self.shared.notices.state().borrow().clone();
        match state {
            NoticeState::Received if !self.shared.notices.are_received() => {
                NoticeState::NotReceived { why: "the connection is silent".into() }
            }
            state => state,
        }
    }

    /// Waits until notifications of changes are received. On a standby and behind a transaction pooler this never
    /// happens.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped. Nothing changes.
    pub async fn until_notified(&self) {
        let mut state = self.shared.notices.state();
        // The sender exists at least as long as this handle.
        let _ = state.wait_for(|state| *state == NoticeState::Received).await;
    }

    /// Waits until every change that was committed before this call is processed. It needs one round trip to the
    /// server. Returns whether that was possible.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped. Nothing changes.
    pub async fn caught_up(&self) -> NoticeState {
        self.shared.notices.caught_up().await;
        self.state()
    }

    /// Returns the counts and the size of the cache, without a query.
    pub fn status(&self) -> FlagsStatus {
        FlagsStatus {
            snapshots: self.shared.snapshots(),
            hits: self.shared.hits.load(Ordering::Relaxed),
            loads: self.shared.loads.load(Ordering::Relaxed),
        }
    }

    /// Clears the cache.
    pub fn forget_all(&self) {
        self.shared.forget_all();
    }
}
