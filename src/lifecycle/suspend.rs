//! Suspends a tenant: every entry is refused, and no transaction is left in it.

use crate::{
    db::{Operator, message, milliseconds},
    error::{Error, Result, TenantError, while_doing},
    ident::literal,
    registry::{self, EnteredSession},
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use std::time::{Duration, Instant, SystemTime};
use tokio_postgres::error::SqlState;

/// How long sessions that were ended may take to roll back.
const ROLLBACK_WAIT: Duration = Duration::from_secs(30);

/// How a tenant is suspended.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SuspendOptions {
    /// How long the transactions under way may go on. Default: the operator's `session.migration_wait`.
    pub wait: Option<Duration>,
    /// What becomes of those that go on longer.
    pub remaining: RemainingSessions,
}

/// What becomes of the sessions whose transactions are inside the tenant when the time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemainingSessions {
    /// They go on, and the call is an error that names them. The tenant is suspended.
    #[default]
    Keep,
    /// The server ends them; their transactions are rolled back.
    Terminate,
}

impl SuspendOptions {
    /// Sets how long the transactions under way may go on.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Sets what becomes of those that go on longer.
    pub fn remaining(mut self, remaining: RemainingSessions) -> Self {
        self.remaining = remaining;
        self
    }
}

/// What became of a suspension.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Suspended {
    /// The tenant as it is now.
    pub tenant: Tenant,
    /// Whether it was suspended before.
    pub was_suspended: bool,
    /// How long its last transactions were waited for.
    pub waited: Duration,
    /// From when on it may be dropped, if [`schedule_drop`](super::schedule_drop) planned that: it is then not activated again
    /// before [`undrop`](super::undrop).
    pub drop_after: Option<SystemTime>,
    /// The sessions that were ended.
    pub terminated: Vec<EnteredSession>,
}

/// Suspends a tenant, and waits until its last transaction has ended. When this returns `Ok`, no transaction is inside the tenant
/// and none can begin, in any process and by any way in: `with_tenant`, `Db::tenant`, a frame, `cgk_enter`.
///
/// From the moment the status is committed every way in is refused; what is waited for are the transactions that were
/// inside already. Migrations and this crate's other verbs still work on a suspended tenant.
///
/// # Locks
///
/// The tenant's row, and then the tenant's lock ([`lock::tenant_key`](crate::lock::tenant_key)) for an instant. While it waits for
/// that, whoever is about to be refused waits 200 ms at most.
///
/// # Committed when
///
/// The status at once, before anything is waited for. Run again, it goes on waiting.
///
/// # Errors
///
/// Kind `NotFound`: there is no such tenant. `NotReady`: it is still being created, and cannot be entered. `Suspended`
/// ([`TenantError::StatusUnknown`]): its status is one that cgk does not know. `Locked` ([`TenantError::InUse`]): transactions are
/// still inside when the time is over; **the tenant is suspended**. `Unavailable` ([`TenantError::Changed`]): somebody else changed
/// the tenant meanwhile. `Denied`: the operator may not end sessions of other roles.
///
/// # Cancel safety
///
/// Dropped, the tenant may be suspended already; run it again.
pub async fn suspend(operator: &Operator, slug: &TenantSlug, options: &SuspendOptions) -> Result<Suspended> {
    operator.facts().require_writable()?;
    let facts = registry::facts_of(operator, slug).await?;
    let Some(tenant) = facts.tenant else {
        registry::require(operator).await?;
        return Err(Error::Tenant(TenantError::NotFound { tenant: slug.clone() }));
    };
    let was_suspended = match &tenant.status {
        TenantStatus::Active => false,
        TenantStatus::Suspended => true,
        status @ TenantStatus::Onboarding => {
            let missing = "it is still being created, and cannot be entered".into();
            let (tenant, status) = (slug.clone(), status.clone());
            return Err(Error::Tenant(TenantError::NotReady { tenant, status, missing }));
        }
        status => {
            let (tenant, status) = (slug.clone(), status.clone());
            return Err(Error::Tenant(TenantError::StatusUnknown { tenant, status }));
        }
    };
    let doing = || while_doing(format!("suspend tenant {slug}"));
    operator.reset_session().await.map_err(doing())?;
    if !was_suspended {
        let sql = format!(
            "select pg_catalog.set_config('lock_timeout', {}, true);\n{}{}",
            literal(&milliseconds(operator.session().lock_timeout)),
            registry::demand_sql(tenant.id, slug),
            registry::set_status_sql(tenant.id, &["active", "suspended"], "suspended"),
        );
        match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
            Ok(_) => {}
            Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
                return Err(Error::Tenant(TenantError::Changed { tenant: slug.clone() }));
            }
            Err(error) => return Err(doing()(error)),
        }
    }
    let began = Instant::now();
    let wait = options.wait.unwrap_or(operator.session().migration_wait);
    let mut terminated = Vec::new();
    match registry::wait_until_left(operator, slug, wait).await {
        Err(Error::Tenant(TenantError::InUse { .. })) if options.remaining == RemainingSessions::Terminate => {
            terminated = registry::terminate(operator, slug).await?;
            registry::wait_until_left(operator, slug, ROLLBACK_WAIT).await?;
        }
        waited => waited?,
    }
    // Somebody may have activated it while it was waited for.
    let facts = registry::facts_of(operator, slug).await?;
    let drop_after = facts.drop_after();
    match facts.tenant {
        Some(now) if now.id == tenant.id && now.status == TenantStatus::Suspended => {
            Ok(Suspended { tenant: now, was_suspended, waited: began.elapsed(), drop_after, terminated })
        }
        _ => Err(Error::Tenant(TenantError::Changed { tenant: slug.clone() })),
    }
}
