//! Snapshots that are remembered, and loaded anew when the database says that something has changed.

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

/// How often a snapshot that others have asked for is waited for before one asks for oneself.
const JOINS_MAX: usize = 3;

type Key = (TenantSlug, Environment);

/// A snapshot, and since when it is known.
struct Entry {
    snapshot: Arc<Snapshot>,
    /// Taken before the question was sent.
    began: Point,
    /// Taken before the question was sent.
    asked_at: Instant,
    marks: [Mark; 4],
}

pub(super) struct Remembered {
    pub(super) db: Db<FlagsError>,
    pub(super) settings: FlagsSettings,
    pub(super) notices: Arc<Notices>,
    entries: Cache<Key, Arc<Entry>>,
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

    /// What is remembered and still holds; else what the database says.
    pub(super) async fn find(self: &Arc<Self>, slug: &TenantSlug, environment: &Environment) -> Result<Arc<Snapshot>> {
        let key = (slug.clone(), environment.clone());
        if let Some(entry) = self.entries.get(&key).filter(|entry| self.holds(entry)) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::clone(&entry.snapshot));
        }
        // Inside a transaction no other call is waited for: it may need the connection that is held here.
        if !is_inside_transaction() {
            for _ in 0..JOINS_MAX {
                self.entries.remove_if(&key, |entry| !self.holds(entry));
                let (this, wanted) = (Arc::clone(self), key.clone());
                let entry = in_own_task(async move { this.join_or_load(&wanted).await }).await?;
                // What another has loaded may be older than a change that was seen before this call.
                if self.holds(&entry) {
                    return Ok(Arc::clone(&entry.snapshot));
                }
            }
        }
        Ok(Arc::clone(&self.load(&key).await?.snapshot))
    }

    /// Of several at once, one loads and the others wait for it.
    async fn join_or_load(&self, key: &Key) -> Result<Arc<Entry>> {
        self.entries.get_or_insert_async(key, async { self.load(key).await }).await
    }

    async fn load(&self, (slug, environment): &Key) -> Result<Arc<Entry>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (began, asked_at) = (self.notices.changes.now(), Instant::now());
        let (project, stage) = (environment.project_name(), environment.stage().name());
        let rows = self.db.tenant(slug).query(LOAD, &[&project, &stage]).await?;
        let snapshot = read(&rows, environment)?;
        // As the triggers of the tables name them, and that of the registry.
        let marks = [
            Mark::of(&format!("flags:{}", SchemaName::of_tenant(slug).as_str())),
            Mark::of("flags:plans"),
            Mark::of(&format!("subscription:{}", snapshot.organization())),
            Mark::of(&format!("slug:{slug}")),
        ];
        Ok(Arc::new(Entry { snapshot: Arc::new(snapshot), began, asked_at, marks }))
    }

    fn holds(&self, entry: &Entry) -> bool {
        let limit = match self.notices.are_received() && entry.snapshot.is_notified() {
            true => self.settings.time_max,
            false => self.settings.time_max_unnotified,
        };
        entry.asked_at.elapsed() < limit && self.notices.changes.none_since(entry.began, &entry.marks)
    }
}
