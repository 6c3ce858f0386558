//! Creates, changes and suspends organizations.

use super::{Organization, Organizations, find, lock};
use crate::{
    auth::UserRole,
    platform::{
        Actor, PlatformError, RecordedChange,
        error::Result,
        members::join,
        permissions::{Permission, demand},
    },
    provisioning::{self, NewOrganization, ProvisioningError, ProvisioningId},
    tenancy::PlatformTx,
    tenant::{OrganizationId, TenantStatus},
    user::UserId,
};
use serde_json::{Value, json};

/// A new organization, and the request for its tenant.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CreatedOrganization {
    /// The organization. Its status is `onboarding` until the tenant exists.
    pub organization: Organization,
    /// The request to pass to [`Provisioning::wait`](crate::provisioning::Provisioning::wait).
    pub request: ProvisioningId,
}

/// The changes to an organization. What is not set does not change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrganizationChange {
    name: Option<String>,
    settings: Option<Value>,
}

impl OrganizationChange {
    /// Sets the name: 1 to 200 characters that are not all blank.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the settings: a JSON object that replaces the previous one.
    pub fn settings(mut self, settings: Value) -> Self {
        self.settings = Some(settings);
        self
    }
}

const UPDATE: &str = "update public.organizations
       set name = coalesce($2, name), settings = coalesce($3::pg_catalog.jsonb, settings)
     where id = $1";

const SUSPEND: &str = "update public.organizations set status = 'suspended' where id = $1 and status <> 'suspended'";

impl Organizations {
    /// Creates an organization with a confirmed owner, and requests its tenant. The status is `onboarding` until
    /// `cgk provision` has created the tenant, then `active`.
    ///
    /// If the answer is lost, do not repeat this call: it is not idempotent. [`SignUps`](crate::platform::SignUps) has
    /// an idempotency key.
    ///
    /// # Locks
    ///
    /// The slug, against other calls that use it, and the row of the owner's user, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `SlugTaken`: another organization has the slug, or the schema of an earlier organization still exists.
    /// `NotFound`: the user does not exist. `Forbidden`: the actor is another user, or an API key. `UserDisabled`: the
    /// actor. `Invalid`: the name or the settings. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either everything is committed or nothing.
    pub async fn create(&self, new: &NewOrganization, owner: UserId) -> Result<CreatedOrganization> {
        let actor = self.demand_creator(owner)?;
        let platform = self.db.platform();
        let created = platform.transaction(async |tx| {
            let created = create_in(tx, &actor, new).await?;
            join(tx, &actor, created.organization.id, owner, &UserRole::Owner, false).await?;
            Ok(created)
        });
        created.await
    }

    /// Changes the name or the settings.
    ///
    /// # Locks
    ///
    /// The organization's row, until the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist, or the actor is not a member. `Forbidden`. `Invalid`: the name or
    /// the settings. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn update(&self, id: OrganizationId, change: &OrganizationChange) -> Result<Organization> {
        if let Some(name) = &change.name {
            provisioning::check_name(name).map_err(of_provisioning)?;
        }
        if let Some(settings) = &change.settings {
            provisioning::check_settings(settings).map_err(of_provisioning)?;
        }
        let actor = self.actor();
        let platform = self.db.platform();
        let changed = platform.transaction(async |tx| {
            lock(tx, id).await?;
            demand(tx, &actor, id, Permission::OrganizationUpdate).await?;
            let before = find(tx, id).await?;
            tx.execute(UPDATE, &[&id, &change.name, &change.settings]).await?;
            let after = find(tx, id).await?;
            if (&before.name, &before.settings) != (&after.name, &after.settings) {
                record(tx, &actor, "cgk.organization.updated", Some(&before), &after).await?;
            }
            Ok(after)
        });
        changed.await
    }

    /// Suspends an organization, so that its tenant cannot be entered. Its rows and its schema are not deleted until an
    /// operator removes them. A suspended organization does not change.
    ///
    /// # Locks
    ///
    /// The organization's row, until the end of the transaction. Transactions that are already inside the tenant
    /// continue until they end.
    ///
    /// # Errors
    ///
    /// `NotFound`: the organization does not exist, or the actor is not a member. `Forbidden`: the actor is not an
    /// owner. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may or may not be committed.
    pub async fn delete(&self, id: OrganizationId) -> Result<Organization> {
        let actor = self.actor();
        let platform = self.db.platform();
        let deleted = platform.transaction(async |tx| {
            lock(tx, id).await?;
            demand(tx, &actor, id, Permission::OrganizationDelete).await?;
            let before = find(tx, id).await?;
            if before.status == TenantStatus::Suspended {
                return Ok(before);
            }
            tx.execute(SUSPEND, &[&id]).await?;
            let after = find(tx, id).await?;
            record(tx, &actor, "cgk.organization.deleted", Some(&before), &after).await?;
            Ok(after)
        });
        deleted.await
    }
}

/// Creates the row of an organization and the request for its tenant. The caller adds the owner next.
pub(crate) async fn create_in(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    new: &NewOrganization,
) -> Result<CreatedOrganization> {
    let requested = provisioning::request(tx, new).await.map_err(of_provisioning)?;
    let organization = find(tx, requested.organization_id).await?;
    record(tx, actor, "cgk.organization.created", None, &organization).await?;
    Ok(CreatedOrganization { organization, request: requested.id })
}

/// Converts the error to the error type of this module.
pub(crate) fn of_provisioning(error: ProvisioningError) -> PlatformError {
    match error {
        ProvisioningError::SlugTaken { slug } => PlatformError::SlugTaken { slug },
        ProvisioningError::Invalid { what, why } => PlatformError::Invalid { what, why: why.to_owned() },
        ProvisioningError::NotFound => PlatformError::NotFound { what: "request for a tenant" },
        ProvisioningError::TablesMissing { source } => PlatformError::TablesMissing { source },
        ProvisioningError::Database(source) => PlatformError::Database(source),
    }
}

async fn record(
    tx: &PlatformTx<'_>,
    actor: &Actor,
    name: &'static str,
    before: Option<&Organization>,
    after: &Organization,
) -> Result<()> {
    // The settings are left out: they belong to the product and may contain data that a log must not contain.
    let state = |one: &Organization| json!({ "slug": one.slug, "name": one.name, "status": one.status.as_str() });
    let change = RecordedChange {
        actor,
        organization: Some(after.id),
        name,
        resource: ("organization", after.id.to_string()),
        before: before.map(state),
        after: Some(state(after)),
    };
    Ok(change.record(tx).await?)
}
