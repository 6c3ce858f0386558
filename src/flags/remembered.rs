//! The cache of snapshots. A snapshot is loaded again after the database notifies of a change.

use super::{
    environment::Environment,
    error::{FlagsError, Result},
    load::{LOAD, read},
    settings::FlagsSettings,
    snapshot::Snapshot,
};
use crate::{
    ident::SchemaName,
    resolver::{
        changes::{Mark, Point},
        notices::Notices,
    },
    slug::TenantSlug,
    task::in_own_task,
    tenancy::{Db, is_inside_transaction},
};
use quick_cache::sync::Cache;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// How often a call waits for a snapshot that another call is loading, before it loads one itself.
const JOINS_MAX: usize = 3;

type SnapshotKey = (TenantSlug, Environment);

/// A snapshot, and the time of its query.
struct TimedSnapshot {
    snapshot: Arc<Snapshot>,
    /// Taken before the query was sent.
    began: Point,
    /// Taken before the query was sent.
    asked_at: Instant,
    marks: [Mark; 4],
}

pub(super) struct Remembered {
    pub(super) db: Db<FlagsError>,
    pub(super) settings: FlagsSettings,
    pub(super) notices: Arc<Notices>,
    entries: Cache<SnapshotKey, Arc<TimedSnapshot>>,
    pub(super) hits: AtomicU64,
    pub(super) loads: AtomicU64,
}

impl Remembered {
    pub(super) fn new(db: Db<FlagsError>, settings: FlagsSettings, notices: Arc<Notices>) -> Self {
        let entries = Cache::new(settings.snapshots_max.max(1));
        Self { db, settings, notices, entries, hits: AtomicU64::new(0), loads: AtomicU64::new(0) }
    }

    pub(super) fn snapshots(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn forget_all(&self) {
        self.notices.changes.everything();
        self.entries.clear();
    }

    /// Returns the cached snapshot if it is still valid. Otherwise loads one from the database.
    pub(super) async fn find(self: &Arc<Self>, slug: &TenantSlug, environment: &Environment) -> Result<Arc<Snapshot>> {
        let key = (slug.clone(), environment.clone());
        if let Some(entry) = self.entries.get(&key).filter(|entry| self.holds(entry)) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::clone(&entry.snapshot));
        }
        // Inside a transaction, do not wait for another call: it may need the connection that this transaction uses.
        if !is_inside_transaction() {
            for _ in 0..JOINS_MAX {
                self.entries.remove_if(&key, |entry| !self.holds(entry));
                let (this, wanted) = (Arc::clone(self), key.clone());
                let entry = in_own_task(async move { this.join_or_load(&wanted).await }).await?;
                // The snapshot that another call loaded may be older than a change that was received before this call.
                if self.holds(&entry) {
                    return Ok(Arc::clone(&entry.snapshot));
                }
            }
        }
        Ok(Arc::clone(&self.load(&key).await?.snapshot))
    }

    /// Loads a snapshot, or waits for the call that is already loading it.
    async fn join_or_load(&self, key: &SnapshotKey) -> Result<Arc<TimedSnapshot>> {
        self.entries.get_or_insert_async(key, async { self.load(key).await }).await
    }

    async fn load(&self, (slug, environment): &SnapshotKey) -> Result<Arc<TimedSnapshot>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (began, asked_at) = (self.notices.changes.now(), Instant::now());
        let (project, stage) = (environment.project_name(), environment.stage().name());
        let rows = self.db.tenant(slug).query(LOAD, &[&project, &stage]).await?;
        let snapshot = read(&rows, environment)?;
        // The names that the triggers of the tables and of the registry use.
        let marks = [
            Mark::of(&format!("flags:{}", SchemaName::of_tenant(slug).as_str())),
            Mark::of("flags:plans"),
            Mark::of(&format!("subscription:{}", snapshot.organization())),
            Mark::of(&format!("slug:{slug}")),
        ];
        Ok(Arc::new(TimedSnapshot { snapshot: Arc::new(snapshot), began, asked_at, marks }))
    }

    fn holds(&self, entry: &TimedSnapshot) -> bool {
        let limit = match self.notices.are_received() && entry.snapshot.is_notified() {
            true => self.settings.time_max,
            false => self.settings.time_max_unnotified,
        };
        entry.asked_at.elapsed() < limit && self.notices.changes.none_since(entry.began, &entry.marks)
    }
}
