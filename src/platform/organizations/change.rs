//! Organizations are created, changed, and given up.

use super::{Organization, Organizations, find, lock};
use crate::{
    auth::UserRole,
    platform::{
        Actor, PlatformError,
        error::Result,
        members::join,
        permissions::{Permission, demand},
        record::Change,
    },
    provisioning::{self, NewOrganization, ProvisioningError, ProvisioningId},
    tenancy::PlatformTx,
    tenant::{OrganizationId, TenantStatus},
    user::UserId,
};
use serde_json::{Value, json};

/// An organization that was created, and the request for its tenant.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CreatedOrganization {
    /// The organization, `onboarding` until the tenant is there.
    pub organization: Organization,
    /// What [`Provisioning::wait`](crate::provisioning::Provisioning::wait) waits for.
    pub request: ProvisioningId,
}

/// What is to be different; what it does not name stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrganizationChange {
    name: Option<String>,
    settings: Option<Value>,
}

impl OrganizationChange {
    /// Another name: 1 to 200 characters that are not all blank.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Other settings, a JSON object that replaces the one before.
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
    /// Creates an organization with its owner, confirmed, and requests its tenant: the status is `onboarding` until
    /// `cgk provision` has created it, then `active`.
    ///
    /// A call whose answer was lost is not repeated by this: [`SignUps`](crate::platform::SignUps) has a key for it.
    ///
    /// # Locks
    ///
    /// The slug, against others who ask for it, and the owner's user, to the end of the transaction.
    ///
    /// # Errors
    ///
    /// `SlugTaken`: by another organization, or by a schema that one has left. `NotFound`: there is no such user. `Forbidden`: the actor
    /// is another user, or an API key. `Invalid`: the name or the settings. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all of it may have been written or nothing.
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
    /// The organization's row, to the end of the transaction.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is none, or the actor is no member. `Forbidden`. `Invalid`: the name or the settings. `TablesMissing`;
    /// `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been changed or not.
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

    /// Gives an organization up: it is suspended, and nobody can enter its tenant. Its rows and its schema stay until an operator
    /// removes them. One that is suspended already stays as it is.
    ///
    /// # Locks
    ///
    /// The organization's row, to the end of the transaction. Transactions that are inside the tenant go on to their end.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is none, or the actor is no member. `Forbidden`: the actor is no owner. `TablesMissing`; `Database`.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have been suspended or not.
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

/// Writes an organization and the request for its tenant; its owner joins next.
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

/// The same error, of this module.
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
    // Settings are the product's own, and may hold what a log should not.
    let state = |one: &Organization| json!({ "slug": one.slug, "name": one.name, "status": one.status.as_str() });
    let change = Change {
        actor,
        organization: Some(after.id),
        name,
        resource: ("organization", after.id.to_string()),
        before: before.map(state),
        after: Some(state(after)),
    };
    change.record(tx).await
}
