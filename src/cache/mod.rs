//! A cache per tenant, stored in Redis: no tenant can read, overwrite or flush a value of another.
//!
//! Create one [`TenantCaches`] per process and database. [`TenantCaches::tenant`] takes a tenant that the library
//! found, and returns its [`TenantCache`].
//!
//! ```no_run
//! # async fn example(db: cgk::Db) -> Result<(), Box<dyn std::error::Error>> {
//! use cgk::cache::{CacheError, CacheSettings, TenantCaches};
//! use std::time::Duration;
//!
//! #[derive(Debug, thiserror::Error)]
//! enum AppError {
//!     #[error(transparent)]
//!     Database(#[from] cgk::Error),
//!     #[error(transparent)]
//!     Cache(#[from] CacheError),
//! }
//! let db: cgk::Db<AppError> = db.errors();
//!
//! let caches = TenantCaches::new(&db, "redis://127.0.0.1:6379", CacheSettings::default())?;
//! let acme = db.platform().find_tenant(&"acme".parse()?).await?;
//! let cache = caches.tenant(&acme);
//! let orders: i64 = cache
//!     .get_or_compute("orders/count", Duration::from_secs(30), || async {
//!         let tenant = db.tenant(&acme.slug);
//!         Ok::<_, AppError>(tenant.query_one("select count(*) from orders", &[]).await?.get(0))
//!     })
//!     .await?;
//! cache.delete("orders/count").await?; // behind the COMMIT of what changes the number
//! # let _ = orders; Ok(()) }
//! ```
//!
//! # What is stored
//!
//! A value is stored as JSON, at most for its lifetime. The name of its Redis key is
//! `<namespace>:<database>:{<organization>}:v:<key>`.
//!
//! - `<database>` is the identity of the database, the result of `select public.cgk_database_tag()`. A copy of the
//!   database has another identity, so it neither reads nor removes values of the original. A server that was copied as
//!   a whole, from a base backup or a snapshot of its disk, has the same identities and needs another
//!   [`CacheSettings::namespace`].
//! - `<organization>` is the id of the organization, 32 hexadecimal digits, and not the slug. So a tenant that is created
//!   again with the same slug reads no values of the old one. No key text can produce a name of another tenant.
//!
//! There are two more kinds of names: `…:l:<key>`, while a value is computed, and one `…:e` per tenant, its epoch. A
//! value is valid only if it contains the current epoch of its tenant. So if Redis loses the epoch (a flush, an
//! eviction, a restart), values become invalid and no old value becomes valid again. All names of a tenant are in one
//! slot of a cluster.
//!
//! # Limits
//!
//! If a Redis replica that lags behind becomes the primary server, it may have lost a flush or a delete. A value is
//! then outdated for the rest of its lifetime. The same applies to a delete that ended with an error.

mod compute;
mod connection;
mod error;
mod names;
mod scripts;
mod settings;
mod single_flight;

pub use error::CacheError;
pub use settings::{CacheSettings, OnFailure};

use crate::{
    ident::DatabaseTag,
    tenancy::Db,
    tenant::{OrganizationId, Tenant},
};
use connection::RedisConnection;
use names::Names;
use scripts::CacheState;
use serde::{Serialize, de::DeserializeOwned};
use single_flight::Computations;
use std::{fmt, sync::Arc, time::Duration};

/// The result of this module's functions.
pub type Result<T, E = CacheError> = std::result::Result<T, E>;

/// The caches of all tenants in one Redis. Cheap to clone; belongs to the tokio runtime that first uses it.
#[derive(Clone)]
pub struct TenantCaches {
    inner: Arc<CacheInner>,
}

struct CacheInner {
    connection: Arc<RedisConnection>,
    database: DatabaseTag,
    settings: CacheSettings,
    computations: Arc<Computations>,
}

impl fmt::Debug for TenantCaches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCaches").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl TenantCaches {
    /// Creates the caches of this database's tenants in the Redis at this URL:
    /// `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, or `unix:///path/to/socket`. The connection is
    /// opened by the first operation.
    ///
    /// With `rediss`, if the process has no default crypto provider of rustls, this call makes ring the default.
    ///
    /// # Errors
    ///
    /// [`CacheError::Invalid`]: the URL or a setting.
    pub fn new<E>(db: &Db<E>, url: &str, settings: CacheSettings) -> Result<Self> {
        settings.check()?;
        let connection = Arc::new(RedisConnection::new(url, &settings)?);
        let database = db.database_tag().clone();
        Ok(Self { inner: Arc::new(CacheInner { connection, database, settings, computations: Arc::default() }) })
    }

    /// Returns the cache of a tenant that the library found in the database of [`TenantCaches::new`]: in the registry,
    /// or by a credential.
    pub fn tenant(&self, tenant: &impl VerifiedTenant) -> TenantCache {
        TenantCache { inner: Arc::clone(&self.inner), organization: tenant.verified_id() }
    }
}

/// A tenant that only the library can create: [`Tenant`], and with the feature `platform` a `TenantIdentity`.
pub trait VerifiedTenant: sealed::Sealed {
    /// Returns the organization's id.
    fn verified_id(&self) -> OrganizationId;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for Tenant {}
impl VerifiedTenant for Tenant {
    fn verified_id(&self) -> OrganizationId {
        self.id
    }
}

#[cfg(feature = "platform")]
impl sealed::Sealed for crate::auth::TenantIdentity {}
#[cfg(feature = "platform")]
impl VerifiedTenant for crate::auth::TenantIdentity {
    fn verified_id(&self) -> OrganizationId {
        self.id
    }
}

/// The cache of one tenant; from [`TenantCaches::tenant`]. Cheap to clone.
///
/// A key is a text of 1 to 512 bytes with any characters. A lifetime is at least a millisecond and at most 30 days.
/// Each operation waits for Redis at most [`CacheSettings::operation_limit`]; an operation that timed out may still be
/// executed.
#[derive(Clone)]
pub struct TenantCache {
    inner: Arc<CacheInner>,
    organization: OrganizationId,
}

impl fmt::Debug for TenantCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantCache").field("organization", &self.organization).finish_non_exhaustive()
    }
}

impl TenantCache {
    /// Returns the value of a key; `None` if there is none, or if it is not a `T`.
    ///
    /// # Errors
    ///
    /// `Invalid`: the key. With [`OnFailure::Error`] also `TimedOut`, `Unavailable` and `Refused`; with
    /// [`OnFailure::Compute`] the result is `None` instead.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        match scripts::read_state(&self.inner.connection, &self.names(key)?).await {
            Ok(CacheState::Value(json)) => Ok(decode(&json)),
            Ok(CacheState::Missing { .. }) => Ok(None),
            Err(error) => match self.inner.settings.on_failure {
                OnFailure::Error => Err(error),
                OnFailure::Compute => Ok(None),
            },
        }
    }

    /// Sets the value of a key for a lifetime. A running computation of the same key stores nothing afterwards.
    ///
    /// # Errors
    ///
    /// `Invalid`: the key or the lifetime. `Encode`, `TooLarge`: the value. `TimedOut`, `Unavailable`, `Refused`, with
    /// every
    /// [`OnFailure`]: an older value may still be there.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the value may or may not be set.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T, lifetime: Duration) -> Result<()> {
        let (names, lifetime) = (self.names(key)?, settings::lifetime_ms(lifetime)?);
        let json = self.encode(value)?;
        let outcome = scripts::set(&self.inner.connection, &names, &json, lifetime).await;
        self.inner.computations.detach(self.organization, key);
        outcome
    }

    /// Removes the value of a key. A running computation of the same key stores nothing afterwards.
    ///
    /// # Errors
    ///
    /// `Invalid`: the key. `TimedOut`, `Unavailable`, `Refused`, with every [`OnFailure`]: the value may still be
    /// there.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the value may or may not be removed.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let outcome = scripts::delete(&self.inner.connection, &self.names(key)?).await;
        self.inner.computations.detach(self.organization, key);
        outcome
    }

    /// Removes all values of this tenant and of no other, with one command in constant time: it removes the tenant's
    /// epoch. The memory of the values is freed when their lifetimes end. Running computations store nothing
    /// afterwards.
    ///
    /// # Errors
    ///
    /// `TimedOut`, `Unavailable`, `Refused`, with every [`OnFailure`]: the values may still be there.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all values are removed or none.
    pub async fn flush(&self) -> Result<()> {
        let epoch = names::epoch(&self.inner.settings.namespace, &self.inner.database, self.organization);
        let outcome = scripts::flush(&self.inner.connection, &epoch).await;
        self.inner.computations.detach_all(self.organization);
        outcome
    }

    fn names(&self, key: &str) -> Result<Names> {
        Names::of(&self.inner.settings.namespace, &self.inner.database, self.organization, key)
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>> {
        let json = serde_json::to_vec(value).map_err(|source| CacheError::Encode { source })?;
        let bytes_max = self.inner.settings.value_bytes_max;
        match json.len() > bytes_max {
            true => Err(CacheError::TooLarge { bytes: json.len(), bytes_max }),
            false => Ok(json),
        }
    }
}

/// Decodes a value; `None` if the bytes are of another type, and then it is computed again.
fn decode<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_slice(json).inspect_err(|_| tracing::debug!("a cached value is of another type")).ok()
}
