//! What all handlers share.

use crate::sign_in::SignIn;
use axum::extract::FromRef;
use cgk::{
    Config, Db,
    auth::{Auth, AuthSettings},
    cache::{CacheSettings, TenantCaches},
    resolver::{Resolver, ResolverSettings},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::Notify;

/// What all handlers share. Cloning it is cheap.
#[derive(Clone)]
pub struct App {
    pub db: Db,
    pub auth: Auth,
    pub resolver: Resolver,
    /// `None`: nothing is remembered in Redis.
    pub caches: Option<TenantCaches>,
    /// `None`: nobody signs in by a provider.
    pub sign_in: Option<Arc<SignIn>>,
    /// Told when there is a new job, so that the worker of this process need not wait for its next round.
    pub new_job: Arc<Notify>,
    stopping: Arc<AtomicBool>,
}

impl App {
    /// Connects to the database. Unless the configuration says otherwise, a busy tenant leaves the others half of the pool.
    pub async fn connect(config: Config) -> cgk::Result<Self> {
        let pool = config.pool();
        let config = match pool.tenant_connections_max {
            Some(_) => config,
            None => {
                let half = pool.size_max.div_ceil(2);
                config.with_tenant_connections_max(half)
            }
        };
        Ok(Self::new(Db::connect(&config).await?))
    }

    pub fn new(db: Db) -> Self {
        let auth = Auth::new(&db, AuthSettings::default());
        let resolver = Resolver::new(&auth, ResolverSettings::default());
        Self { db, auth, resolver, caches: None, sign_in: None, new_job: Arc::default(), stopping: Arc::default() }
    }

    /// With values that are remembered in Redis. Where it does not answer, they are computed.
    pub fn with_redis(mut self, url: &str) -> Result<Self, cgk::cache::CacheError> {
        self.caches = Some(TenantCaches::new(&self.db, url, CacheSettings::default())?);
        Ok(self)
    }

    pub fn with_sign_in(mut self, sign_in: SignIn) -> Self {
        self.sign_in = Some(Arc::new(sign_in));
        self
    }

    /// From now on the service is not ready: a load balancer sends nothing more, and what has come is answered.
    pub fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl FromRef<App> for Auth {
    fn from_ref(app: &App) -> Self {
        app.auth.clone()
    }
}

impl FromRef<App> for Db {
    fn from_ref(app: &App) -> Self {
        app.db.clone()
    }
}
