//! Activates a suspended tenant, so that services can enter it again.

use crate::{
    binding,
    db::{Operator, message, message_head::MessageHead},
    error::{Error, MissingPart, Result, TenantError, while_doing},
    ident::SchemaName,
    registry,
    slug::TenantSlug,
    tenant::{Tenant, TenantStatus},
};
use tokio_postgres::error::SqlState;

/// The result of an activation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Activated {
    /// The tenant after the call.
    pub tenant: Tenant,
    /// Whether it was active before.
    pub was_active: bool,
}

/// Activates a suspended tenant. When this returns `Ok`, services can enter the tenant.
///
/// # Locks
///
/// The tenant's row in the registry.
///
/// # Committed when
///
/// Immediately, in one transaction.
///
/// # Errors
///
/// - Kind `NotFound`: there is no such tenant.
/// - Kind `NotReady`: the tenant is still being created, or its schema does not exist.
/// - Kind `Conflict`: the schema belongs to another organization, the tenant is being dropped, or its drop is planned
///   ([`TenantError::DropPlanned`]).
/// - Kind `Suspended` ([`TenantError::StatusUnknown`]): cgk does not know the tenant's status.
/// - Kind `Unavailable` ([`TenantError::Changed`]): another session changed the tenant meanwhile.
///
/// # Cancel safety
///
/// If the future is dropped, the tenant may already be active.
pub async fn activate(operator: &Operator, slug: &TenantSlug) -> Result<Activated> {
    operator.facts().require_writable()?;
    let facts = registry::facts_of(operator, slug).await?;
    let Some(tenant) = facts.tenant.clone() else {
        registry::require(operator).await?;
        return Err(registry::not_found(operator, slug).await);
    };
    facts.refuse_other_organization()?;
    facts.refuse_being_dropped()?;
    let (name, status) = (slug.clone(), tenant.status.clone());
    match &tenant.status {
        TenantStatus::Active => return Ok(Activated { tenant, was_active: true }),
        TenantStatus::Suspended => {}
        TenantStatus::Onboarding => {
            let missing = MissingPart::Creation;
            return Err(Error::Tenant(TenantError::NotReady { tenant: name, status, missing }));
        }
        TenantStatus::Other(_) => return Err(Error::Tenant(TenantError::StatusUnknown { tenant: name, status })),
    }
    if let Some(after) = facts.drop_after() {
        return Err(Error::Tenant(TenantError::DropPlanned { tenant: name, after }));
    }
    let schema = SchemaName::of_tenant(slug);
    if facts.owner.is_none() {
        return Err(Error::Tenant(TenantError::SchemaGone { tenant: name, status, schema }));
    }
    let doing = || while_doing(format!("activate tenant {slug}"));
    operator.reset_session().await.map_err(doing())?;
    // A session that drops the tenant locks its row first and marks the schema in the same transaction.
    let sql = format!(
        "{}{}{}{}{}",
        MessageHead::of(operator).lock_timeout(operator.session().lock_timeout).sql(),
        registry::sql::lock_row_sql(tenant.id),
        registry::demand_sql(tenant.id, slug),
        binding::demand_comment_sql(&schema, facts.schema_comment.as_deref()),
        registry::set_status_sql(tenant.id, &["suspended"], "active"),
    );
    match message::run(operator.client(), &sql).await.map_err(doing())?.complete() {
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
            return Err(Error::Tenant(TenantError::Changed { tenant: name }));
        }
        Err(error) => return Err(doing()(error)),
    }
    match registry::facts_of(operator, slug).await?.tenant {
        Some(now) if now.id == tenant.id => Ok(Activated { tenant: now, was_active: false }),
        _ => Err(Error::Tenant(TenantError::Changed { tenant: name })),
    }
}
