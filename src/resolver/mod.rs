//! Finds the tenant of a slug, a custom domain, a session or an API key, with a cache in the process.
//!
//! A service needs this on every request. A [`Resolver`] caches a bounded number of answers, and removes an answer as
//! soon as the database reports that it may have changed, whichever process made the change. Triggers of the migrations
//! 010 and 012 send a notification when an organization, a domain, a user, a session or a key changes. The resolver
//! listens on its own connection.
//!
//! If no notifications arrive (the connection was lost, the server is a standby, a pooler is in between, the database
//! has no such triggers), an answer is used for at most [`ResolverSettings::time_max_unnotified`]. [`Resolver::state`]
//! and the log report this.
//!
//! | situation | a change is visible |
//! |---|---|
//! | notifications arrive | to every call that starts after the notification arrived |
//! | the connection was lost | at most `time_max_unnotified` after the change |
//! | the connection is silent without being closed, or a trigger was disabled | at most `silence_max` or `time_max_unnotified` after the change, whichever is longer |
//!
//! Concurrent calls for the same slug or credential share one query. At most [`ResolverSettings::lookups_max`] queries
//! run at a time. A waiting query is dropped when no call waits for it any more, so clients that disconnect leave
//! nothing in the pool's queue. A credential is cached under its stored hash, never under its token.
//!
//! Inside a transaction of the platform, nothing is cached and queries are not shared: such a call could hold the
//! connection that the other one needs. Inside a tenant's transaction each call fails
//! ([`PlatformInsideTenant`](crate::TransactionError::PlatformInsideTenant)): find the tenant before you enter it.

pub(crate) mod changes;
mod entry;
mod lookup;
pub(crate) mod notices;
mod questions;
mod settings;

pub use notices::NoticeState;
pub use settings::ResolverSettings;

use crate::{
    auth::{ApiKey, Auth, AuthError, Session, TenantIdentity, TokenKind},
    domains::DomainName,
    error::{Error, MissingPart, Result, TenantError},
    slug::TenantSlug,
    tenancy::is_inside_transaction,
    tenant::TenantStatus,
};
use entry::{Entry, FoundSubject, Limits, LookupSubject};
use notices::{Ending, Notices};
use questions::{Questions, Whose};
use quick_cache::sync::Cache;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::AbortHandle;

/// How many shared queries a call waits for before it sends its own.
const JOINS_MAX: usize = 3;

/// Finds tenants by slug, custom domain, session and API key, and caches the answers. Cheap to clone; clones share the
/// cache.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<ResolverState>,
    /// Stops with the last clone.
    _receiving: Arc<NoticeReceiver>,
}

struct NoticeReceiver {
    task: AbortHandle,
    notices: Arc<Notices>,
}

impl Drop for NoticeReceiver {
    fn drop(&mut self) {
        self.notices.end();
        self.task.abort();
    }
}

/// The counters of a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolverStatus {
    /// The cached slugs and credentials, including expired ones.
    pub entries: usize,
    /// The calls that were answered from the cache.
    pub hits: u64,
    /// The database queries.
    pub lookups: u64,
    /// The queries that are running or waiting for their turn.
    pub pending: usize,
}

struct ResolverState {
    auth: Auth,
    settings: ResolverSettings,
    entries: Cache<LookupSubject, Arc<Entry>>,
    questions: Questions,
    notices: Arc<Notices>,
    hits: AtomicU64,
    lookups: AtomicU64,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("state", &self.state()).field("status", &self.status()).finish()
    }
}

impl Resolver {
    /// Creates a resolver with an empty cache. A background task listens for changes on a connection outside of the
    /// pool until the last clone is dropped; calls do not wait for it.
    ///
    /// ```no_run
    /// # async fn example(db: cgk::Db) -> Result<(), Box<dyn std::error::Error>> {
    /// use cgk::{auth::{Auth, AuthSettings}, resolver::{Resolver, ResolverSettings}};
    /// let auth = Auth::new(&db, AuthSettings::default());
    /// let resolver = Resolver::new(&auth, ResolverSettings::default());
    /// let acme = resolver.tenant(&"acme".parse()?).await?; // asks the database
    /// let acme = resolver.tenant(&"acme".parse()?).await?; // does not
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn new(auth: &Auth, settings: ResolverSettings) -> Self {
        let notices = Arc::new(Notices::new(settings.silence_max));
        let receiving = tokio::spawn(notices::receive(auth.db().clone(), Ending(Arc::clone(&notices))));
        let receiving = NoticeReceiver { task: receiving.abort_handle(), notices: Arc::clone(&notices) };
        let shared = ResolverState {
            auth: auth.clone(),
            entries: Cache::new(settings.entries_max),
            questions: Questions::new(settings.lookups_max, auth.db().config().pool()),
            settings,
            notices,
            hits: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), _receiving: Arc::new(receiving) }
    }

    /// Returns the tenant of this slug, which is active. A former slug that is kept finds the tenant with the slug that it has now.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Kinds `NotFound`, `Suspended` and `NotReady`: the registry has no such tenant, or it is not active. Also
    /// database errors. A failure is not cached; only the calls that waited for it get it ([`Error::Shared`]).
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed. If the future is dropped, a query that has started continues, and the next caller gets its
    /// answer. A query that waits for its turn is dropped with the last call that waits for it.
    pub async fn tenant(&self, slug: &TenantSlug) -> Result<TenantIdentity> {
        let entry = self.shared.find(LookupSubject::Slug(slug.clone())).await?;
        let FoundSubject::Tenant(found) = &entry.found else { unreachable!("a slug finds a tenant") };
        match found {
            Some((tenant, status)) => active(tenant.clone(), status),
            None => Err(TenantError::NotFound { tenant: slug.clone() }.into()),
        }
    }

    /// Returns the active tenant that has verified this custom domain; `None`: there is no such tenant. See
    /// [`crate::domains`].
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// The errors of [`tenant`](Self::tenant) except `NotFound`.
    ///
    /// # Cancel safety
    ///
    /// Same as [`tenant`](Self::tenant).
    pub async fn domain(&self, name: &DomainName) -> Result<Option<TenantIdentity>> {
        match &self.shared.find(LookupSubject::Domain(name.clone())).await?.found {
            FoundSubject::Domain(Some((tenant, status))) => active(tenant.clone(), status).map(Some),
            FoundSubject::Domain(None) => Ok(None),
            _ => unreachable!("a domain finds its owner"),
        }
    }

    /// Returns the session of this token, like [`Sessions::verify`](crate::auth::Sessions::verify).
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Same as [`Sessions::verify`](crate::auth::Sessions::verify).
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn session(&self, token: &str) -> crate::auth::Result<Session> {
        let hash = self.shared.auth.sessions().hash(token)?;
        match &self.shared.find(LookupSubject::Session(hash)).await?.found {
            FoundSubject::Session(found) => found.clone().map_err(AuthError::from),
            _ => unreachable!("a session's hash finds a session"),
        }
    }

    /// Returns the API key of this token, like [`ApiKeys::verify`](crate::auth::ApiKeys::verify). A lookup in the
    /// database records its use. A cached answer is used for at most
    /// [`AuthSettings::key_use_interval`](crate::auth::AuthSettings::key_use_interval), or a second if that is longer.
    ///
    /// # Locks
    ///
    /// The locks of [`ApiKeys::verify`](crate::auth::ApiKeys::verify), if it is looked up in the database.
    ///
    /// # Errors
    ///
    /// Same as [`ApiKeys::verify`](crate::auth::ApiKeys::verify).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the use may or may not be recorded.
    pub async fn api_key(&self, token: &str) -> crate::auth::Result<ApiKey> {
        let hash = self.shared.auth.api_keys().hash(token)?;
        match &self.shared.find(LookupSubject::ApiKey(hash)).await?.found {
            FoundSubject::ApiKey(found) => found.clone().map_err(AuthError::from),
            _ => unreachable!("a key's hash finds a key"),
        }
    }

    /// Returns the kind of token, by the prefix of the text.
    pub(crate) fn kind_of(&self, token: &str) -> Option<TokenKind> {
        TokenKind::of(token, &self.shared.auth.settings().brand)
    }

    /// Returns whether the resolver receives notifications of changes.
    pub fn state(&self) -> NoticeState {
        let state = self.shared.notices.state().borrow().clone();
        match state {
            NoticeState::Received if !self.shared.notices.are_received() => {
                NoticeState::NotReceived { why: "the connection is silent".into() }
            }
            state => state,
        }
    }

    /// Waits until notifications arrive, for a service that is ready only then. Use a timeout: on a standby and behind
    /// a transaction pooler they never arrive.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn until_notified(&self) {
        let mut state = self.shared.notices.state();
        // The sender exists at least as long as this handle.
        let _ = state.wait_for(|state| *state == NoticeState::Received).await;
    }

    /// Waits until notifications no longer arrive.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn until_unnotified(&self) {
        let mut state = self.shared.notices.state();
        let _ = state.wait_for(|state| *state != NoticeState::Received).await;
    }

    /// Waits until the cache has processed every change that was committed before this call, with one round trip to the
    /// server, and returns whether that was possible. For a process that revokes a credential and must refuse it from
    /// now on.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped.
    pub async fn caught_up(&self) -> NoticeState {
        self.shared.notices.caught_up().await;
        self.state()
    }

    /// Returns the counters, without a query.
    pub fn status(&self) -> ResolverStatus {
        ResolverStatus {
            entries: self.shared.entries.len(),
            hits: self.shared.hits.load(Ordering::Relaxed),
            lookups: self.shared.lookups.load(Ordering::Relaxed),
            pending: self.shared.questions.pending(),
        }
    }

    /// Empties the cache.
    pub fn forget_all(&self) {
        self.shared.notices.changes.everything();
        self.shared.entries.clear();
    }
}

/// Returns the tenant, if its status lets requests in.
fn active(tenant: TenantIdentity, status: &TenantStatus) -> Result<TenantIdentity> {
    let slug = tenant.slug.clone();
    match status {
        TenantStatus::Active => Ok(tenant),
        TenantStatus::Suspended => Err(TenantError::Suspended { tenant: slug }.into()),
        TenantStatus::Onboarding => {
            let (status, missing) = (status.clone(), MissingPart::Creation);
            Err(TenantError::NotReady { tenant: slug, status, missing }.into())
        }
        other => Err(TenantError::StatusUnknown { tenant: slug, status: other.clone() }.into()),
    }
}

impl ResolverState {
    /// Returns the cached answer if it is still valid, otherwise the answer of the database.
    async fn find(self: &Arc<Self>, key: LookupSubject) -> Result<Arc<Entry>> {
        if is_inside_transaction() {
            return self.ask(&key).await;
        }
        if let Some(entry) = self.entries.get(&key).filter(|entry| self.holds(entry)) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(entry);
        }
        for _ in 0..JOINS_MAX {
            let (question, whose) = Questions::join_or_ask(self, &key);
            let entry = question.await.map_err(Error::Shared)?;
            // The answer to an earlier query may be older than a change that this call has already seen.
            if whose == Whose::Own || self.holds(&entry) {
                return Ok(entry);
            }
        }
        Questions::ask_apart(self, &key).await.map_err(Error::Shared)
    }

    fn holds(&self, entry: &Entry) -> bool {
        let settings = &self.settings;
        let known = if self.notices.are_received() { settings.time_max } else { settings.time_max_unnotified };
        let api_key = self.auth.settings().key_use_interval.max(Duration::from_secs(1));
        let limits = Limits { known, unknown: known.min(settings.unknown_time_max), api_key };
        entry.holds(&self.notices.changes, limits, Instant::now())
    }

    /// Asks the database, without caching the answer.
    async fn ask(&self, key: &LookupSubject) -> Result<Arc<Entry>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        lookup::look_up(key, &self.auth, &self.notices.changes).await.map(Arc::new)
    }
}
