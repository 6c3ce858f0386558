//! Suspends a tenant: every entry is refused, and no transaction remains in it.

use crate::{
    db::{Operator, message, message_head::MessageHead},
    error::{Error, MissingPart, Result, TenantError, while_doing},
    registry::{self, EnteredSession},
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use std::time::{Duration, Instant, SystemTime};
use tokio_postgres::error::SqlState;

/// How long terminated sessions may take to roll back.
const ROLLBACK_WAIT: Duration = Duration::from_secs(30);

/// Options for [`suspend`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SuspendOptions {
    /// How long running transactions may continue. Default: the operator's `session.migration_wait`.
    pub wait: Option<Duration>,
    /// What happens to transactions that run longer.
    pub remaining: RemainingSessions,
}

/// What happens to sessions whose transactions are still in the tenant when the wait ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemainingSessions {
    /// They continue, and the call returns an error that names them. The tenant is suspended.
    #[default]
    Keep,
    /// The server terminates them and rolls their transactions back.
    Terminate,
}

impl SuspendOptions {
    /// Sets how long running transactions may continue.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// Sets what happens to transactions that run longer.
    pub fn remaining(mut self, remaining: RemainingSessions) -> Self {
        self.remaining = remaining;
        self
    }
}

/// The result of a suspension.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Suspended {
    /// The tenant after the call.
    pub tenant: Tenant,
    /// Whether it was already suspended.
    pub was_suspended: bool,
    /// How long the call waited for running transactions.
    pub waited: Duration,
    /// The time from which it may be dropped, if [`schedule_drop`](super::schedule_drop) has planned that. Then it
    /// cannot be activated before [`undrop`](super::undrop).
    pub drop_after: Option<SystemTime>,
    /// The terminated sessions.
    pub terminated: Vec<EnteredSession>,
}

/// Suspends a tenant, and waits until its last transaction has ended. When this returns `Ok`, no transaction is in the
/// tenant and none can start, in any process and with any function: `with_tenant`, `Db::tenant`, a frame, `cgk_enter`.
///
/// When the status is committed, every new entry is refused. The call then waits for the transactions that were already
/// in the tenant. Migrations and the other operations of this crate still work on a suspended tenant.
///
/// # Locks
///
/// The tenant's row, then for a moment the tenant's lock ([`lock::tenant_key`](crate::lock::tenant_key)). While the
/// call waits for this lock, an entry that is going to be refused waits at most 200 ms.
///
/// # Committed when
///
/// The status is committed immediately, before the wait. A second call continues the wait.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `NotReady`: the tenant is still being created, and cannot be entered.
/// - Kind `Conflict` ([`TenantError::BeingDropped`]): its drop has started. No transaction can start in it.
/// - Kind `Suspended` ([`TenantError::StatusUnknown`]): cgk does not know the tenant's status.
/// - Kind `Locked` ([`TenantError::InUse`]): transactions are still in the tenant when the wait ends. **The tenant is
///   suspended.**
/// - Kind `Unavailable` ([`TenantError::Changed`]): another session changed the tenant meanwhile.
/// - Kind `Denied`: the operator may not terminate sessions of other roles.
///
/// # Cancel safety
///
/// If the future is dropped, the tenant may already be suspended. Call it again.
pub async fn suspend(operator: &Operator, slug: &TenantSlug, options: &SuspendOptions) -> Result<Suspended> {
    operator.facts().require_writable()?;
    let facts = registry::facts_of(operator, slug).await?;
    facts.refuse_being_dropped()?;
    let Some(tenant) = facts.tenant else {
        registry::require(operator).await?;
        return Err(registry::not_found(operator, slug).await);
    };
    let was_suspended = match &tenant.status {
        TenantStatus::Active => false,
        TenantStatus::Suspended => true,
        status @ TenantStatus::Onboarding => {
            let missing = MissingPart::Creation;
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
            "{}{}{}",
            MessageHead::of(operator).lock_timeout(operator.session().lock_timeout).sql(),
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
    // Another session may have activated it during the wait.
    let facts = registry::facts_of(operator, slug).await?;
    let drop_after = facts.drop_after();
    match facts.tenant {
        Some(now) if now.id == tenant.id && now.status == TenantStatus::Suspended => {
            Ok(Suspended { tenant: now, was_suspended, waited: began.elapsed(), drop_after, terminated })
        }
        _ => Err(Error::Tenant(TenantError::Changed { tenant: slug.clone() })),
    }
}
