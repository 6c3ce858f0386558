//! From a slug, a custom domain, a session or an API key to its tenant, remembered in the process.
//!
//! A service asks this on every request. A [`Resolver`] keeps the answers, a bounded number of them, and forgets one as soon as
//! the database tells that it may have changed, whichever process made the change: triggers of the migrations 010 and 012 send
//! a notice when an organization, a domain, a user, a session or a key changes, and the resolver listens on a connection of its own.
//!
//! While no notices are received (the connection was lost, the server is a standby, a pooler is in between, the database has no
//! such triggers), an answer is used
//! for [`ResolverSettings::time_max_unnotified`] and no longer. [`Resolver::state`] says so, and so does the log.
//!
//! | a change | is seen |
//! |---|---|
//! | while notices are received | by every call that begins after the notice came in |
//! | after the connection was lost | at most `time_max_unnotified` after the change |
//! | while the connection is silent without being closed, or after a trigger was disabled | at most `silence_max` or `time_max_unnotified` after the change, whichever is longer |
//!
//! Calls for the same slug or credential that come while it is being looked up wait for that one answer. No more than
//! [`ResolverSettings::lookups_max`] questions are asked at a time; one that nobody waits for any more before its turn is dropped,
//! so clients that ask and go away leave nothing in the pool's queue. A credential is
//! remembered by the hash that the database has of it, and never by its token.
//!
//! Inside a transaction of the platform nothing is remembered and nobody is waited for: such a call could hold the connection
//! that the other needs. Inside a tenant's transaction each call fails
//! ([`PlatformInsideTenant`](crate::TransactionError::PlatformInsideTenant)): the tenant is found before it is entered.

mod changes;
mod entry;
mod lookup;
mod notices;
mod questions;
mod settings;

pub use notices::NoticeState;
pub use settings::ResolverSettings;

use crate::{
    auth::{ApiKey, Auth, AuthError, Session, TenantIdentity, TokenKind},
    domains::DomainName,
    error::{Error, Result, TenantError},
    slug::TenantSlug,
    tenancy::is_inside_transaction,
    tenant::TenantStatus,
};
use entry::{Entry, Found, Limits, Subject};
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

/// How often an answer that others have asked for is waited for before the database is asked for oneself.
const JOINS_MAX: usize = 3;

/// Finds tenants by slug, custom domain, session and API key, and remembers them. Cheap to clone; the clones share what is remembered.
#[derive(Clone)]
pub struct Resolver {
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

/// What a resolver has done and holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolverStatus {
    /// The slugs and credentials that are remembered, those included that may not be used any more.
    pub entries: usize,
    /// The calls that were answered from memory.
    pub hits: u64,
    /// The questions to the database.
    pub lookups: u64,
    /// The questions that are being answered, and those that wait for their turn.
    pub pending: usize,
}

struct Remembered {
    auth: Auth,
    settings: ResolverSettings,
    entries: Cache<Subject, Arc<Entry>>,
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
    /// A resolver that remembers nothing yet. It begins to listen for changes in a task of its own, on a connection beside the
    /// pool, until its last clone is dropped; calls do not wait for that.
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
        let receiving = Receiving { task: receiving.abort_handle(), notices: Arc::clone(&notices) };
        let shared = Remembered {
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

    /// The tenant of this slug, which is active.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// Kinds `NotFound`, `Suspended` and `NotReady`: the registry has no such tenant, or it is not active. What else the
    /// database refuses. A failure is remembered for nobody but those who waited for it ([`Error::Shared`]).
    ///
    /// # Cancel safety
    ///
    /// It changes nothing. Dropped, a question that has begun still gets its answer, for the next who asks; one that waits for
    /// its turn is dropped with the last call that waits for it.
    pub async fn tenant(&self, slug: &TenantSlug) -> Result<TenantIdentity> {
        let entry = self.shared.find(Subject::Slug(slug.clone())).await?;
        let Found::Tenant(found) = &entry.found else { unreachable!("a slug finds a tenant") };
        match found {
            Some((id, status)) => active(TenantIdentity { id: *id, slug: slug.clone() }, status),
            None => Err(TenantError::NotFound { tenant: slug.clone() }.into()),
        }
    }

    /// The tenant that has this custom domain, verified, and is active; `None`: no tenant has it. See [`crate::domains`].
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// As [`tenant`](Self::tenant), but for `NotFound`.
    ///
    /// # Cancel safety
    ///
    /// As [`tenant`](Self::tenant).
    pub async fn domain(&self, name: &DomainName) -> Result<Option<TenantIdentity>> {
        match &self.shared.find(Subject::Domain(name.clone())).await?.found {
            Found::Domain(Some((tenant, status))) => active(tenant.clone(), status).map(Some),
            Found::Domain(None) => Ok(None),
            _ => unreachable!("a domain finds its owner"),
        }
    }

    /// Who presents this session token, as [`Sessions::verify`](crate::auth::Sessions::verify) says.
    ///
    /// # Locks
    ///
    /// None.
    ///
    /// # Errors
    ///
    /// As [`Sessions::verify`](crate::auth::Sessions::verify).
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn session(&self, token: &str) -> crate::auth::Result<Session> {
        let hash = self.shared.auth.sessions().hash(token)?;
        match &self.shared.find(Subject::Session(hash)).await?.found {
            Found::Session(found) => found.clone().map_err(AuthError::from),
            _ => unreachable!("a session's hash finds a session"),
        }
    }

    /// Whose API key this is, as [`ApiKeys::verify`](crate::auth::ApiKeys::verify) says. Its use is noted when it is looked up,
    /// which is at least as often as [`AuthSettings::key_use_interval`](crate::auth::AuthSettings::key_use_interval), or once a second.
    ///
    /// # Locks
    ///
    /// As [`ApiKeys::verify`](crate::auth::ApiKeys::verify), where it is looked up.
    ///
    /// # Errors
    ///
    /// As [`ApiKeys::verify`](crate::auth::ApiKeys::verify).
    ///
    /// # Cancel safety
    ///
    /// Dropped, the use may be noted or not.
    pub async fn api_key(&self, token: &str) -> crate::auth::Result<ApiKey> {
        let hash = self.shared.auth.api_keys().hash(token)?;
        match &self.shared.find(Subject::ApiKey(hash)).await?.found {
            Found::ApiKey(found) => found.clone().map_err(AuthError::from),
            _ => unreachable!("a key's hash finds a key"),
        }
    }

    /// The kind of token that a text says it is.
    pub(crate) fn kind_of(&self, token: &str) -> Option<TokenKind> {
        TokenKind::of(token, &self.shared.auth.settings().brand)
    }

    /// Whether changes in the database are received.
    pub fn state(&self) -> NoticeState {
        let state = self.shared.notices.state().borrow().clone();
        match state {
            NoticeState::Received if !self.shared.notices.are_received() => {
                NoticeState::NotReceived { why: "the connection is silent".into() }
            }
            state => state,
        }
    }

    /// Waits until changes are received. For a service that is to be ready only then, within a time of its own: on a standby
    /// and behind a transaction pooler they never are.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub async fn until_notified(&self) {
        let mut state = self.shared.notices.state();
        // The sender lives as long as this handle.
        let _ = state.wait_for(|state| *state == NoticeState::Received).await;
    }

    /// Waits until changes are not received.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub async fn until_unnotified(&self) {
        let mut state = self.shared.notices.state();
        let _ = state.wait_for(|state| *state != NoticeState::Received).await;
    }

    /// Waits until every change is taken in that was committed before this call, by one round trip to the server, and returns
    /// whether that was possible. For a process that has revoked a credential and must refuse it from now on.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub async fn caught_up(&self) -> NoticeState {
        self.shared.notices.caught_up().await;
        self.state()
    }

    /// What it has done and holds. Asks nobody.
    pub fn status(&self) -> ResolverStatus {
        ResolverStatus {
            entries: self.shared.entries.len(),
            hits: self.shared.hits.load(Ordering::Relaxed),
            lookups: self.shared.lookups.load(Ordering::Relaxed),
            pending: self.shared.questions.pending(),
        }
    }

    /// Forgets everything that is remembered.
    pub fn forget_all(&self) {
        self.shared.notices.changes.everything();
        self.shared.entries.clear();
    }
}

/// The tenant, if its status lets requests in.
fn active(tenant: TenantIdentity, status: &TenantStatus) -> Result<TenantIdentity> {
    let slug = tenant.slug.clone();
    match status {
        TenantStatus::Active => Ok(tenant),
        TenantStatus::Suspended => Err(TenantError::Suspended { tenant: slug }.into()),
        TenantStatus::Onboarding => {
            let missing = "it is still being set up".into();
            Err(TenantError::NotReady { tenant: slug, status: status.clone(), missing }.into())
        }
        other => Err(TenantError::StatusUnknown { tenant: slug, status: other.clone() }.into()),
    }
}

impl Remembered {
    /// What is remembered of a key, and still holds; else what the database says.
    async fn find(self: &Arc<Self>, key: Subject) -> Result<Arc<Entry>> {
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
            // The answer to another's question may be older than a change that was seen before this call.
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

    /// Asks the database, and remembers nothing.
    async fn ask(&self, key: &Subject) -> Result<Arc<Entry>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        lookup::look_up(key, &self.auth, &self.notices.changes).await.map(Arc::new)
    }
}
